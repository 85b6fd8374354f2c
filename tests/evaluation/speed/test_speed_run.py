"""The whole speed run on bundles that really run, in processes of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdcompress_evaluation.options import EvalOptions
from kdcompress_evaluation.records import dumps, load, write_text
from kdcompress_evaluation.rows import ROWS
from kdcompress_evaluation.speed import SpeedRecord, run, summarise_footprint, summarise_run, summarise_speed
from kdcompress_evaluation.speed.record import TimedUtterance
from kdcompress_evaluation.speed.run import choose_paced
from kdcompress_evaluation.speed.worker import Notebook, rotated, spread


def test_everything_is_measured_and_kept(speed_case, make_bundle, tmp_path, monkeypatch):
    heard = {"float32": {}, "int8": {"b": "c"}}
    bundles = [make_bundle(tmp_path / "one", "one", heard), make_bundle(tmp_path / "two", "two", streaming=False)]
    case = speed_case(bundles)
    record = case.measure()
    assert record.done
    assert record.notes == ()
    names = ["one-float32", "one-int8", "two-float32"]
    assert list(record.variants) == names
    for name in names:
        costs = record.variants[name]
        assert [len(timing.whole) for timing in costs.timings] == [2, 2, 2]
        assert costs.parts is not None
        assert all(t >= g + d > 0 for t, g, d in zip(*vars(costs.parts).values(), strict=True))
        assert costs.profile is not None
        assert costs.profile.float_macs > 0
        assert costs.memory is not None
        assert 10_000_000 < costs.memory.imported <= costs.memory.loaded <= costs.memory.peak
        assert len(costs.cold_starts) == 3
    full_chunks = sum(int(utterance.duration / 0.16 + 1e-9) for utterance in record.utterances)
    assert sum(len(timing.chunks) for timing in record.variants["one-int8"].timings) == 2 * full_chunks
    assert all(timing.chunks == () for timing in record.variants["two-float32"].timings)
    assert record.again is not None
    assert len(record.again.timings) == 3
    assert len(record.pinned) <= 1
    _check_figures(case, record)
    # A second run finds everything there; one with other options measures again.
    content = (case.output / ROWS / "speed.json").read_bytes()
    monkeypatch.setattr(run, "_run_worker", None)
    case.measure()
    assert (case.output / ROWS / "speed.json").read_bytes() == content
    with pytest.raises(TypeError):
        case.measure(EvalOptions(speed_utterances=2))


def _check_figures(case, record):
    whole = summarise_speed(record, "two-float32", "one-float32")
    assert (whole.chunk, whole.paced, whole.paced_cpu) == (None, None, None)
    assert whole.final.p50 > 0
    assert whole.speedup.value > 0
    streaming = summarise_speed(record, "one-float32", "one-float32")
    assert 0 < streaming.chunk.p50 <= streaming.chunk.p95 <= streaming.chunk.highest
    assert streaming.paced.count == 3
    assert 0 < streaming.paced_cpu < 1
    assert streaming.parts.frontend is None
    assert streaming.work.share_of_compute > 0
    told = summarise_run(record)
    assert told.noise.value == pytest.approx(1.0, abs=0.9)
    assert told.peaks.int8 > 0
    assert 0.4 < told.paced_seconds < 1.0
    info = case.run.variants[0]
    footprint = summarise_footprint(record, info)
    assert footprint.size_bytes == info.size_bytes > footprint.compressed_bytes > 0
    assert footprint.runtime_bytes > 10_000_000
    assert footprint.lm_bytes == 0
    assert footprint.cold_start.total == pytest.approx(
        footprint.cold_start.imported + footprint.cold_start.loaded + footprint.cold_start.first
    )
    assert footprint.cold_start.imported > 10
    bare = summarise_footprint(None, info)
    assert (bare.size_bytes, bare.memory, bare.cold_start) == (info.size_bytes, None, None)


def test_a_killed_run_goes_on_where_it_stopped(speed_case, bundle, monkeypatch):
    """What was timed stays; the rest is added, also where one variant was ahead of the other."""
    case = speed_case([bundle])
    monkeypatch.setattr(run, "_footprints", lambda *_: None)
    first = case.measure()
    name = case.run.baseline
    half = replace(first.variants[name], timings=first.variants[name].timings[:2], pacings=())
    again = replace(first.again, timings=first.again.timings[:1])
    path = case.output / ROWS / "speed.json"
    write_text(path, dumps(replace(first, variants={name: half}, again=again, done=False)))
    second = case.measure()
    assert second.done
    assert len(second.variants[name].timings) == len(second.again.timings) == 3
    assert second.variants[name].timings[0] == first.variants[name].timings[0]
    assert second.variants[name].timings[1] != first.variants[name].timings[1]
    assert second.variants[name].profile == first.variants[name].profile
    assert all(
        after >= before for after, before in zip(*(vars(r.peaks).values() for r in (second, first)), strict=True)
    )
    assert len(second.variants[name].pacings) == len(second.paced) > 0


def test_a_variant_that_kills_the_process_is_left_out(speed_case, make_bundle, tmp_path, monkeypatch):
    """The others keep what was timed, and are timed to the end."""
    case = speed_case([make_bundle(tmp_path / name, name) for name in ("good", "bad")])
    monkeypatch.setattr(run, "_footprints", lambda *_: None)
    killer = tmp_path / "site" / "sitecustomize.py"
    killer.parent.mkdir()
    killer.write_text(
        "import os, sys\n"
        "if 'kdcompress_evaluation.speed' in sys.orig_argv:\n"
        "    import kdcompress_runtime.recognizer as r\n"
        "    old = r.Recognizer.recognize\n"
        "    calls = []\n"
        "    def recognize(self, *a, **k):\n"
        "        calls.append(1)\n"
        "        if self.metadata.name == 'bad' and len(calls) > 5:\n"
        "            os._exit(11)\n"
        "        return old(self, *a, **k)\n"
        "    r.Recognizer.recognize = recognize\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(killer.parent))
    record = case.measure()
    assert record.done
    assert record.variants["bad-float32"].timings == ()
    assert len(record.variants["good-float32"].timings) == 3
    assert record.notes == ("bad-float32 could not be timed (speed): the process ended with exit code 11.",)
    assert summarise_speed(record, "bad-float32", "good-float32") is None


def test_a_variant_that_cannot_be_opened_is_left_out(speed_case, make_bundle, tmp_path, monkeypatch):
    case = speed_case([make_bundle(tmp_path / name, name) for name in ("good", "bad")])
    monkeypatch.setattr(run, "_footprints", lambda *_: None)
    (tmp_path / "bad" / "float32.onnx").write_bytes(b"no model")
    record = case.measure()
    assert record.variants["bad-float32"].timings == ()
    assert len(record.variants["good-float32"].timings) == 3
    assert any("bad-float32 could not be timed" in note for note in record.notes)


def test_a_process_that_falls_silent_is_given_up(speed_case, bundle, tmp_path, monkeypatch):
    case = speed_case([bundle])
    monkeypatch.setattr(run, "_footprints", lambda *_: None)
    monkeypatch.setattr(run, "_SILENCE", 0.5)
    monkeypatch.setattr(run, "_PATIENCE", 0.0)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys, time\nif 'kdcompress_evaluation.speed' in sys.orig_argv: time.sleep(60)\n", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    record = case.measure()
    assert record.done
    assert len(record.notes) == 1
    assert record.notes[0].startswith("The timing process could not be timed (open): no answer in")


def test_recordings_that_a_variant_failed_on_are_not_timed(speed_case, make_bundle, tmp_path, monkeypatch):
    bundles = [make_bundle(tmp_path / name, name) for name in ("one", "two")]
    case = speed_case(bundles, failed=[("two-float32", index) for index in range(1, 8)])
    monkeypatch.setattr(run, "_time", lambda *_: None)
    monkeypatch.setattr(run, "_footprints", lambda *_: None)
    assert [utterance.id for utterance in case.measure().utterances] == ["u0"]


def test_when_nothing_was_recognised_by_all_nothing_is_timed_and_a_note_says_so(speed_case, bundle):
    case = speed_case([bundle], failed=[("good-float32", index) for index in range(8)])
    record = case.measure()
    assert record.done
    assert (record.utterances, record.variants["good-float32"].timings) == ((), ())
    assert record.variants["good-float32"].sizes is not None
    assert "Nothing was timed" in record.notes[0]


def utterances(*durations: float) -> list[TimedUtterance]:
    return [TimedUtterance("m", str(i), "x", duration) for i, duration in enumerate(durations)]


def test_picked_utterances_are_spread_and_stable():
    candidates = utterances(*[1.0] * 100)
    assert [u.id for u in spread(candidates, 5)] == ["0", "25", "50", "74", "99"]
    assert spread(candidates[:3], 5) == candidates[:3]
    assert rotated(["a", "b", "c"], 4) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("durations", "seconds", "expected"),
    [
        ([4.0] * 10, 12.0, {"0": 4.0, "4": 4.0, "8": 4.0}),
        ([30.0, 30.0], 12.0, {"0": 12.0}),
        ([0.2, 3.0, 0.1, 3.0], 12.0, {"1": 3.0, "3": 3.0}),
        ([4.0] * 3, 0.0, {}),
        ([], 12.0, {}),
    ],
)
def test_what_is_paced_lasts_as_long_as_asked_for(durations, seconds, expected):
    chosen = choose_paced(utterances(*durations), seconds)
    assert {u.id: u.duration for u in chosen} == pytest.approx(expected)


def test_a_note_is_written_once(tmp_path, speed_case, bundle, monkeypatch):
    case = speed_case([bundle], failed=[("good-float32", index) for index in range(8)])
    case.measure()
    book = Notebook(case.output / ROWS / "speed.json")
    book.note("a")
    book.note("a")
    assert load(SpeedRecord, Path(book.path)).notes.count("a") == 1
    assert json.loads(book.path.read_text(encoding="utf-8"))["notes"][-1] == "a"
