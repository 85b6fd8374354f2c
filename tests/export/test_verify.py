"""Verification finds what is wrong, and needs no torch for it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from kdcompress_export import SearchOptions, bench_bundle, export_run, verify_bundle
from kdcompress_export.export import ExportOptions
from kdcompress_export.timing import interleaved
from kdcompress_runtime import BundleNotFoundError, OptionsError

SPEED = "int8 is faster"


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def failed(report):
    """Names of the checks that failed; a 10 k student is too small for int8 to be faster for sure."""
    return [check.name for check in report.checks if not check.passed and check.name != SPEED]


def edit(bundle, change):
    """Change ``bundle.json`` as somebody would who knows what the checksum is for."""
    row = json.loads((bundle / "bundle.json").read_text())
    row.pop("checksum", None)
    change(row)
    (bundle / "bundle.json").write_text(json.dumps(row))


def replace_model(bundle, file, content):
    """Put another model into a bundle and make the hash fit."""
    (bundle / file).write_bytes(content)
    edit(bundle, lambda row: row["files"].update({file: hashlib.sha256(content).hexdigest()}))


def test_a_good_bundle_passes_on_noise_and_says_so(bundle):
    report = verify_bundle(bundle)
    assert failed(report) == []
    assert "synthetic noise" in report.fed
    names = " ".join(check.name for check in report.checks)
    for part in ("hashes", "graph float32", "graph int8", "whole equals pieces int8", "agrees", "int8"):
        assert part in names
    assert json.loads(json.dumps(report.to_json()))["checks"][0]["values"]["bytes"] > 100_000


def test_error_rates_are_compared_with_the_recorded_ones(bundle, run):
    report = verify_bundle(bundle, manifest=run.parent / "dev.jsonl")
    assert failed(report) == []
    rates = [check for check in report.checks if check.name.startswith("word error rate")]
    assert len(rates) == 2
    assert all("recorded" in check.detail for check in rates)
    other = verify_bundle(bundle, manifest=run.parent / "train.jsonl")
    assert any("records none for these items" in check.detail for check in other.checks)


def test_the_items_that_export_scored_are_scored_again(run, tmp_path, converted):
    export_run(run, tmp_path / "b", ExportOptions(quantization=SearchOptions(quantize="none", dev_limit=2)))
    report = verify_bundle(tmp_path / "b", manifest=run.parent / "dev.jsonl")
    assert report.passed
    assert report.checks[-1].name == "word error rate float32"
    assert "of 6 words (recorded" in report.checks[-1].detail


def test_error_rates_that_are_not_the_recorded_ones_fail(copy, run):
    edit(copy, lambda row: row["measured"]["error_rates"]["rates"]["float32"].update(wer=3.0))
    assert failed(verify_bundle(copy, manifest=run.parent / "dev.jsonl")) == ["word error rate float32"]


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx", "tokens.txt"])
def test_a_flipped_byte_fails(copy, file):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    report = verify_bundle(copy)
    assert not report.passed
    assert failed(report) == ["hashes"]
    assert file in report.checks[0].detail


def test_a_flipped_byte_of_bundle_json_fails(copy):
    path = copy / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"wer": ', b'"ver": ', 1))
    report = verify_bundle(copy)
    assert failed(report) == ["hashes"]
    assert "bundle.json" in report.checks[0].detail


def test_no_bundle_is_an_error(tmp_path):
    with pytest.raises(BundleNotFoundError):
        verify_bundle(tmp_path)


def test_float32_in_place_of_int8_fails(copy):
    replace_model(copy, "model.int8.onnx", (copy / "model.onnx").read_bytes())
    assert failed(verify_bundle(copy)) == ["graph int8"]


def test_a_model_of_another_shape_fails(copy, tmp_path, make_run):
    (tmp_path / "other").mkdir()
    other = make_run(tmp_path / "other", width=8)
    export_run(other, tmp_path / "o", ExportOptions(quantization=SearchOptions(quantize="none")))
    replace_model(copy, "model.onnx", (tmp_path / "o" / "model.onnx").read_bytes())
    assert failed(verify_bundle(copy)) == ["graph float32"]


def test_a_model_of_another_training_fails(copy, tmp_path, make_run):
    """Same shapes, same geometry, other weights: only running it can tell."""
    (tmp_path / "other").mkdir()
    export_run(
        make_run(tmp_path / "other", seed=2), tmp_path / "o", ExportOptions(quantization=SearchOptions(quantize="none"))
    )
    replace_model(copy, "model.onnx", (tmp_path / "o" / "model.onnx").read_bytes())
    assert failed(verify_bundle(copy)) == ["int8 agrees with float32 on noise"]


def test_verifying_and_timing_load_neither_torch_nor_onnx(bundle):
    program = (
        "import sys; from kdcompress_export import verify_bundle, bench_bundle\n"
        "verify_bundle(sys.argv[1]); bench_bundle(sys.argv[1], whole_rounds=1, chunk_rounds=1)\n"
        "print(sorted({'torch', 'onnx', 'kdcompress', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program, bundle], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bench_reports_every_precision_and_chunk(bundle):
    report = bench_bundle(bundle, chunk_frames=[2, 6], whole_rounds=3, chunk_rounds=5)
    assert [one.precision for one in report.precisions] == ["float32", "int8"]
    for one in report.precisions:
        assert [chunk.frames for chunk in one.chunks] == [2, 6]
        assert one.chunks[0].audio_ms == 80.0
        assert all(0 < chunk.step_ms.p50 <= chunk.step_ms.p95 for chunk in one.chunks)
        assert 0 < one.whole_real_time_factor < 1
        assert one.cold_load_ms > 0
    assert report.precisions[1].size_bytes < report.precisions[0].size_bytes
    assert json.loads(json.dumps(report.to_json()))["threads"] == 1
    with pytest.raises(OptionsError):
        bench_bundle(bundle, chunk_frames=[0])


def test_calls_take_turns_and_warm_up():
    order = []
    found = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=4, burst=2)
    assert "".join(order) == "aaabbb" * 2
    assert found.keys() == {"a", "b"}
