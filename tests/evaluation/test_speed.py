from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation import EvalOptions, evaluate
from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.footprint import measure_footprint
from kdcompress_evaluation.machine import describe_machine, parse_cpuinfo
from kdcompress_evaluation.records import load
from kdcompress_evaluation.speed import (
    RawSpeed,
    SpeedRecord,
    TimedUtterance,
    pick_utterances,
    summarise_speed,
)
from kdcompress_evaluation.summary import Summary

if TYPE_CHECKING:
    from pathlib import Path

TIMED = EvalOptions(resamples=1000, speed_utterances=3, speed_rounds=2)


def record(whole: dict[str, tuple[tuple[float, ...], ...]], durations: tuple[float, ...]) -> SpeedRecord:
    utterances = tuple(TimedUtterance("m", str(i), "x", d) for i, d in enumerate(durations))
    raw = {name: RawSpeed(times, (0.001, 0.003), (0.002,)) for name, times in whole.items()}
    return SpeedRecord({}, describe_machine(), utterances, raw, {}, ())


def test_numbers_from_raw_times() -> None:
    times = {"base": ((1.0, 4.0), (3.0, 4.0)), "new": ((0.5, 1.0), (0.5, 1.0))}
    base = summarise_speed(record(times, (10.0, 20.0)), "base", "base")
    new = summarise_speed(record(times, (10.0, 20.0)), "new", "base")
    assert base is not None
    assert base.rtf_median == pytest.approx(0.2)
    assert base.rtf_total == pytest.approx(6 / 30)
    assert base.speedup is None
    assert (base.chunk_p50_ms, base.chunk_max_ms) == (pytest.approx(2.0), pytest.approx(3.0))
    assert new is not None
    assert new.speedup == pytest.approx(4.0)
    assert summarise_speed(record(times, (10.0, 20.0)), "unknown", "base") is None


def test_every_variant_is_timed_on_the_same_utterances(make_bundle: Any, manifest: Path, tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / name, name) for name in ("one", "two")]
    summary = evaluate(bundles, {"m": manifest}, tmp_path / "out", TIMED)
    found = load(SpeedRecord, tmp_path / "out" / "rows" / "speed.json")
    assert set(found.variants) == {"one-float32", "two-float32"}
    assert all(len(raw.whole) == 2 and len(raw.whole[0]) == 3 for raw in found.variants.values())
    full_chunks = sum(int(u.duration / 0.16 + 1e-9) for u in found.utterances)
    assert len(found.variants["one-float32"].chunks) == 2 * full_chunks
    speed = summary.variants[1].speed
    assert speed is not None
    assert speed.chunk_p50_ms
    assert speed.chunk_p95_ms
    assert speed.chunk_max_ms
    assert 0 < speed.chunk_p50_ms <= speed.chunk_p95_ms <= speed.chunk_max_ms
    assert summary.variants[0].memory is not None
    assert summary.variants[0].memory.peak >= summary.variants[0].memory.imported > 10_000_000


def test_a_model_that_takes_whole_recordings_has_no_chunk_times(
    make_bundle: Any, manifest: Path, tmp_path: Path
) -> None:
    bundles = [make_bundle(tmp_path / "one", "one"), make_bundle(tmp_path / "two", "two", streaming=False)]
    summary = evaluate(bundles, {"m": manifest}, tmp_path / "out", TIMED)
    streaming, whole = summary.variants
    assert whole.pooled.words == streaming.pooled.words
    assert (whole.info.chunk_ms, whole.info.lookahead_ms) == (None, None)
    assert whole.on_latency_front is None
    assert whole.memory is not None
    assert whole.speed is not None
    assert whole.speed.chunks == 0
    assert (whole.speed.chunk_p50_ms, whole.speed.chunk_p95_ms, whole.speed.chunk_max_ms) == (None, None, None)
    assert whole.speed.final_p95_ms > 0
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert written["variants"][1]["speed"]["chunk_p95_ms"] is None
    assert Summary.read(tmp_path / "out" / "report.json") == summary
    table = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert [line.count("not streaming") for line in table.splitlines() if "labels" in line or "digits-big" in line] == [
        0,
        2,
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count(">not streaming<") == 2
    assert "whole recordings" in page
    assert "A chunk is 160 ms of audio; look-ahead 40 ms." in page


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_headline_for_a_model_without_chunks(
    make_bundle: Any, manifest: Path, tmp_path: Path, order: tuple[int, int]
) -> None:
    """Alone, and as the chosen one on either side of the comparison."""
    whole = make_bundle(tmp_path / "two", "two", streaming=False)
    evaluate([whole], {"m": manifest}, tmp_path / "alone", TIMED)
    page = (tmp_path / "alone" / "report.html").read_text(encoding="utf-8")
    assert "From end to answer, p95" in page
    assert "A chunk is" not in page
    both = [make_bundle(tmp_path / "one", "one", padding=9000), whole]
    summary = evaluate([both[i] for i in order], {"m": manifest}, tmp_path / "both", TIMED)
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    expected = {"one-float32": "ms chunk, p95", "two-float32": "From end to answer, p95"}[summary.chosen]
    assert expected in page


def test_times_are_kept_until_something_changes(make_bundle: Any, manifest: Path, tmp_path: Path) -> None:
    bundle, output = make_bundle(tmp_path / "b", "b"), tmp_path / "out"
    evaluate([bundle], {"m": manifest}, output, TIMED)
    content = (output / "rows" / "speed.json").read_bytes()
    evaluate([bundle], {"m": manifest}, output, TIMED)
    assert (output / "rows" / "speed.json").read_bytes() == content
    evaluate([bundle], {"m": manifest}, output, EvalOptions(resamples=1000, speed_utterances=2))
    assert (output / "rows" / "speed.json").read_bytes() != content
    summary = evaluate([bundle], {"m": manifest}, output, EvalOptions(resamples=1000, speed_utterances=0))
    assert summary.variants[0].speed is None
    assert "Speed was not measured" in " ".join(summary.notes)


def test_footprint_does_not_count_this_process(bundle: Path, manifest: Path) -> None:
    ballast = bytearray(os.urandom(1)) * 200_000_000
    found, why = measure_footprint(bundle, "float32", manifest.parent / "test-0.wav", Decoding())
    assert why is None
    assert found is not None
    assert found.imported <= found.loaded <= found.peak < len(ballast)


def test_footprint_runs_from_anywhere_and_says_what_is_wrong(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kdcompress_evaluation.footprint", str(bundle), "float32"]
    audio = str(manifest.parent / "test-0.wav")
    done = subprocess.run([*command, audio], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak"] > 0
    found, why = measure_footprint(bundle, "float32", tmp_path / "none.wav", Decoding())
    assert found is None
    assert why is not None
    assert "not found" in why


def test_picked_utterances_are_spread_and_stable() -> None:
    candidates = [TimedUtterance("m", str(i), "x", 1.0) for i in range(100)]
    picked = pick_utterances(candidates, 5)
    assert [u.id for u in picked] == ["0", "25", "50", "74", "99"]
    assert pick_utterances(candidates[:3], 5) == candidates[:3]


@pytest.mark.parametrize(
    ("content", "name", "isa"),
    [
        ("model name\t: Fast CPU\nflags\t\t: fpu avx2 avx_vnni sse\n", "Fast CPU", ("avx2", "avx_vnni")),
        ("processor : 0\nFeatures\t: fp asimd asimddp i8mm\nHardware : Board\n", "Board", ("neon", "dotprod", "i8mm")),
        ("", "", ()),
    ],
)
def test_cpuinfo(content: str, name: str, isa: tuple[str, ...]) -> None:
    assert parse_cpuinfo(content) == (name, isa)


def test_machine_names_what_it_runs() -> None:
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert {"numpy", "onnxruntime"} <= set(machine.versions)
