"""A run goes in, a proven bundle comes out; or nothing does."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from kdcompress.errors import RunError
from kdcompress_export import ExportError, ExportOptions, ParityError, SearchOptions, export_run
from kdcompress_export.error_rates import measure_error_rates
from kdcompress_export.quantization.measure import Rounds
from kdcompress_runtime import AudioFileNotFoundError, Bundle, CtcModel, OptionsError, Recognizer, read_audio
from kdcompress_runtime.manifest import manifest_fingerprint

FLOAT_ONLY = ExportOptions(quantization=SearchOptions(quantize="none"))
QUICK = SearchOptions(quantize="static-u8s8-minmax-all", rounds=Rounds(3, 10))


@pytest.fixture
def metadata(bundle):
    return Bundle.open(bundle).metadata


def test_the_bundle_loads_and_recognises(bundle, run):
    for precision in ("float32", "int8"):
        recognizer = Recognizer.from_dir(bundle, precision=precision)
        samples, rate = read_audio(run.parent / "audio" / "dev-0.flac")
        found = recognizer.log_probs(samples, rate)
        assert found.shape == (-(-len(samples) // 320), len(recognizer.vocabulary))
        assert recognizer.recognize(samples, rate).text


def test_the_metadata_is_that_of_the_student(metadata, student):
    assert metadata.states == student.network.state_specs()
    assert (metadata.input.units_per_frame, metadata.input.sample_rate) == (320, 8000)
    assert (metadata.frame_shift_ms, metadata.lookahead_frames, metadata.chunk_frames) == (40.0, 4, 6)
    assert metadata.parameters == sum(p.numel() for p in student.network.parameters())
    assert metadata.frontend["num_mel_bins"] == 24


def test_what_was_proven_is_written_down(metadata, bundle, run):
    measured = metadata.measured
    assert 0 < measured["parity"]["max_abs_diff"] < measured["parity"]["atol"]
    assert measured["int8"]["quantized_nodes"] == 8
    assert measured["int8"]["agreement"]["argmax_agreement"] > 0.9
    assert measured["int8"]["speed"]["cpu"]
    files = {file.precision: bundle / file.file for file in metadata.models}
    assert measured["size_bytes"] == {name: path.stat().st_size for name, path in files.items()}
    assert measured["size_ratio"] == files["int8"].stat().st_size / files["float32"].stat().st_size
    rates = measured["error_rates"]
    assert (rates["utterances"], rates["words"]) == (4, 12)
    assert rates["fingerprint"] == manifest_fingerprint(run.parent / "dev.jsonl")
    assert measured["int8"]["error_rate_difference"].keys() == {"points", "low", "high", "counted"}
    assert measured["default"]["precision"] == metadata.default_precision
    assert "int8" in measured["default"]["reason"]


def test_the_provenance_is_complete(metadata, run):
    found = metadata.provenance
    assert (found["recipe"], found["seed"], found["teachers"], found["licence"]) == ("tiny-4", 1, [], "CC0-1.0")
    assert found["data"]["train"]["fingerprint"] == manifest_fingerprint(run.parent / "train.jsonl")
    assert found["versions"].keys() == {"kdcompress", "torch", "onnx", "onnxruntime", "numpy"}


def test_the_geometry_travels_inside_each_file(bundle, metadata):
    for file in metadata.models:
        session = onnxruntime.InferenceSession(bundle / file.file)
        inside = json.loads(session.get_modelmeta().custom_metadata_map["kdcompress"])
        assert inside["precision"] == file.precision
        assert inside["lookahead_frames"] == 4
        assert [state["name"] for state in inside["states"]] == [state.name for state in metadata.states]


def test_every_stage_is_reported(progress):
    words = ("Reading", "Converting", "torch", "error rate of float32", "Quantizing", "with float32", "error rates")
    said = iter(progress)
    assert all(any(word in line for line in said) for word in words), progress
    assert "Writing" in progress[-1]


def test_a_batch_gives_what_single_recordings_give(bundle):
    model = CtcModel.from_bundle(Bundle.open(bundle), "float32")
    inputs = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 7 * 320)).astype(np.float32)
    together, _ = model.step(inputs, model.init_states(3))
    for row, expected in zip(inputs, together, strict=True):
        np.testing.assert_allclose(model.step(row[None], model.init_states())[0][0], expected, atol=1e-5)


def test_a_zip_holds_the_same(run, tmp_path, converted):
    output = tmp_path / "deep" / "model.zip"
    written = export_run(run, output, FLOAT_ONLY)
    assert output.is_file()
    opened = Bundle.open(output)
    assert opened.metadata == written
    assert [file.precision for file in written.models] == ["float32"]
    assert written.measured["default"] == {"precision": "float32", "reason": "nothing smaller was asked for"}
    assert len(opened.read("model.onnx")) == written.measured["size_bytes"]["float32"]
    assert list(output.parent.iterdir()) == [output]


def test_no_dev_manifest_is_said(tmp_path, make_run):
    lines = []
    quick = ExportOptions(quantization=QUICK)
    written = export_run(make_run(tmp_path, dev=False, width=8), tmp_path / "b", quick, say=lines.append)
    assert "no dev manifest" in written.measured["error_rates"]
    assert any("no dev manifest" in line for line in lines)
    assert written.measured["int8"]["agreement"]["fed"] == "recordings"


class Interrupt:
    """Raises KeyboardInterrupt at the n-th report."""

    def __init__(self, stage):
        self.left = stage

    def __call__(self, _line):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1


@pytest.mark.parametrize("stage", range(8))
def test_ctrl_c_at_any_stage_keeps_the_old_bundle_and_leaves_nothing(bundle, run, tmp_path, *, converted, stage):
    output = tmp_path / "bundle"
    shutil.copytree(bundle, output)
    before = {path: path.read_bytes() for path in output.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        export_run(run, output, ExportOptions(quantization=QUICK), say=Interrupt(stage))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(KeyboardInterrupt):
        export_run(run, tmp_path / "new" / "bundle", say=Interrupt(0))
    assert list(tmp_path.iterdir()) == [output]


def test_failed_parity_writes_nothing(run, tmp_path, converted):
    with pytest.raises(ParityError, match="comparisons"):
        export_run(run, tmp_path / "bundle", ExportOptions(atol=1e-12))
    assert not list(tmp_path.iterdir())


def test_dev_items_among_the_calibration_items_are_refused(run, tmp_path, make_manifest):
    train, dev = run.parent / "train.jsonl", run.parent / "dev.jsonl"
    mixed = run.parent / f"{tmp_path.name}.jsonl"
    mixed.write_text(dev.read_text() + train.read_text().splitlines()[2] + "\n")
    with pytest.raises(ExportError, match=r"1 items of .* for example 'train-2'"):
        export_run(run, tmp_path / "b", ExportOptions(dev=mixed))
    with pytest.raises(ExportError, match="hold the same items"):
        export_run(run, tmp_path / "b", ExportOptions(calibration=dev))
    assert not list(tmp_path.iterdir())


def test_the_same_file_under_another_id_is_refused_too(run, tmp_path):
    row = json.loads((run.parent / "train.jsonl").read_text().splitlines()[0]) | {"id": "renamed"}
    sneaky = run.parent / f"{tmp_path.name}.jsonl"
    sneaky.write_text(json.dumps(row) + "\n")
    with pytest.raises(ExportError, match="renamed"):
        export_run(run, tmp_path / "b", ExportOptions(dev=sneaky))


def test_equal_names_in_two_folders_are_not_the_same_item(tmp_path, make_manifest):
    from kdcompress_export.entries import check_disjoint

    manifests = []
    for index, folder in enumerate(("a", "b")):
        manifest = make_manifest(tmp_path / folder, "x", 2, seed=50 + index)
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        lines = [json.dumps({k: v for k, v in row.items() if k != "id"} | {"text": folder}) for row in rows]
        manifest.write_text("\n".join(lines))
        manifests.append(manifest)
    check_disjoint(*manifests)
    with pytest.raises(ExportError):
        check_disjoint(manifests[0], manifests[0])


def test_what_cannot_be_exported_is_refused_in_one_sentence(run, tmp_path):
    with pytest.raises(RunError, match="not found"):
        export_run(tmp_path / "nothing", tmp_path / "b")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"audio_filepath": "gone.flac", "text": "one"}\n')
    with pytest.raises(AudioFileNotFoundError, match=r"gone\.flac"):
        export_run(run, tmp_path / "b", ExportOptions(calibration=broken))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"atol": 0.0},
        {"targets": ()},
        {"targets": ("web", "web")},
        {"targets": ("webb",)},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(OptionsError):
        ExportOptions(**wrong)


def test_error_rates_count_and_pair(bundle, run):
    opened = Bundle.open(bundle)
    models = {name: CtcModel.from_bundle(opened, name) for name in ("float32", "int8")}
    found = measure_error_rates(models, run.parent / "dev.jsonl", limit=3)
    assert (found.utterances, found.words) == (3, 9)
    for name, rate in found.rates.items():
        assert rate.wer == pytest.approx(100 * sum(found.errors[name].words) / 9)
    paired = found.paired("int8", "float32")
    assert paired.low <= paired.points <= paired.high
    assert found.paired("int8", "int8").high == 0.0


def test_relative_paths_start_at_the_current_folder(tmp_path, make_run, monkeypatch):
    run = make_run(tmp_path, width=8)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(f"{tmp_path}/", ""))
    monkeypatch.chdir(tmp_path)
    written = export_run(Path("run"), Path("out"), FLOAT_ONLY)
    assert written.provenance["data"]["dev"]["manifest"] == "dev.jsonl"
    assert Bundle.open(tmp_path / "out").metadata == written
    assert all(a <= b for a, b in pairwise(sorted(written.files)))
