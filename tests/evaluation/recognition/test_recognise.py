"""What can go wrong with a model or a run, in real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from kdcompress_evaluation import worker_process
from kdcompress_evaluation.broken import note_broken, read_broken
from kdcompress_evaluation.rows import rows_files, rows_path
from kdcompress_evaluation.summary import BrokenVariant
from kdcompress_runtime.errors import ManifestError, OptionsError

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


def kinds(rows: list[Any]) -> dict[str, str | None]:
    return {row.id: row.error_kind for row in rows}


def attempts(folder: Path) -> list[str]:
    log = folder / "fake.log"
    return log.read_text(encoding="utf-8").split() if log.exists() else []


def test_a_model_that_crashes_hangs_or_raises_loses_that_utterance_alone(fake: Any) -> None:
    ids = ["a", "segfault-1", "b", "hang-1", "c", "raise-1", "exit-1", "noise-1", "d"]
    run = fake(ids, timeout_seconds=1.0)
    assert run.recognise() == len(ids)
    rows = run.rows()
    assert kinds(rows) == {
        **dict.fromkeys(["a", "b", "c", "d", "noise-1"]),
        "segfault-1": "crash",
        "hang-1": "timeout",
        "raise-1": "model",
        "exit-1": "crash",
    }
    by_id = {row.id: row for row in rows}
    assert by_id["d"].hypothesis == "TEXT OF D"
    assert by_id["noise-1"].hypothesis == "TEXT OF NOISE-1"
    assert "SIGSEGV" in by_id["segfault-1"].error
    assert by_id["exit-1"].error == "its process ended with exit code 255 (the model says: no room for states)"
    assert by_id["raise-1"].error == "ZeroDivisionError: division by zero"
    assert by_id["hang-1"].error == "no answer within 1 s"
    assert by_id["hang-1"].hypothesis == ""
    assert [row.index for row in rows] == list(range(len(ids)))
    assert read_broken(run.output) == ()


def test_three_crashes_in_a_row_end_a_variant_and_it_says_so(fake: Any, tmp_path: Path) -> None:
    ids = ["a", "segfault-1", "exit-1", "b", "segfault-2", "segfault-3", "exit-2", "c", "d"]
    run = fake(ids)
    assert run.recognise() == len(ids)
    found = kinds(run.rows())
    assert [found[one] for one in ("exit-1", "b", "exit-2", "c", "d")] == [
        "crash", None, "crash", "not attempted", "not attempted"
    ]  # fmt: skip
    (broken,) = read_broken(run.output)
    assert broken.name == "fake"
    assert broken.reason.startswith("3 crashes or time-outs in a row, the last on 'exit-2'")
    assert broken.reason in run.rows()[-1].error
    before = attempts(tmp_path)
    assert run.recognise() == len(ids)  # again, but not asked to retry: nothing is tried
    assert attempts(tmp_path) == before
    assert read_broken(run.output) == (broken,)


def test_retry_tries_again_what_may_end_otherwise(fake: Any, tmp_path: Path) -> None:
    ids = ["raise-1", "flaky-1", "flaky-2", "flaky-3", "a"]
    run = fake(ids)
    run.recognise()
    assert [row.error_kind for row in run.rows()] == ["model", "crash", "crash", "crash", "not attempted"]
    assert read_broken(run.output)
    (tmp_path / "fake.log").write_text("flaky-1 flaky-2 flaky-3\n", encoding="utf-8")
    assert run.recognise(retry=True) == len(ids)
    assert attempts(tmp_path)[3:] == ids[1:]  # not what the model itself answered
    assert [(row.id, row.error_kind) for row in run.rows()] == [("raise-1", "model"), *((one, None) for one in ids[1:])]
    assert read_broken(run.output) == ()


@pytest.mark.parametrize("name", ["refuse", "die"])
def test_a_model_that_cannot_be_loaded_is_noted_and_has_rows(fake: Any, name: str) -> None:
    run = fake(["a", "b"], name=name)
    assert run.recognise() == 2
    assert {row.error_kind for row in run.rows()} == {"not attempted"}
    (broken,) = read_broken(run.output)
    wanted = {"refuse": "ValueError: the model is of another kind", "die": "its process ended with signal SIGSEGV"}
    assert broken == BrokenVariant(name, f"the model cannot be loaded: {wanted[name]}")


def test_what_was_noted_goes_when_it_no_longer_holds(fake: Any) -> None:
    run = fake(["a"], name="refuse")
    run.recognise()
    note_broken(run.output, [BrokenVariant("/gone", "BundleNotFoundError: no such folder")])
    assert [one.name for one in read_broken(run.output)] == ["refuse", "/gone"]
    note_broken(run.output, [])  # a later run with a path that opens: what gave up half way stays
    assert [one.name for one in read_broken(run.output)] == ["refuse"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_shards_hold_the_rows_of_one_process(fake: Any, jobs: int) -> None:
    ids = [f"u{i}" for i in range(23)]
    whole, parts = fake(ids), fake(ids, output="parts", jobs=jobs)
    whole.recognise()
    counts = [parts.recognise(shard=(i, 3)) for i in (1, 2, 3)]
    assert counts == [8, 8, 7]
    files = rows_files(parts.output, "fake", "m")
    assert [file.name for file in files] == [f"fake.m.{i}-of-3.jsonl" for i in (1, 2, 3)]

    def content(run: Any) -> list[tuple[Any, ...]]:
        return [(row.index, row.id, row.reference, row.hypothesis, row.input) for row in run.rows()]

    assert content(parts) == content(whole)
    assert parts.recognise() == 23  # a run without shards takes them all, and recognises nothing anew
    assert not rows_path(parts.output, "fake", "m").exists()


@pytest.mark.parametrize("shard", [(0, 2), (3, 2)])
def test_there_is_no_such_shard(fake: Any, shard: tuple[int, int]) -> None:
    with pytest.raises(OptionsError, match="expected i/n"):
        fake(["a"]).recognise(shard=shard)


def test_rows_of_another_manifest_or_decoder_are_not_mixed_in(fake: Any) -> None:
    first = fake(["a", "b"])
    first.recognise()
    second = fake(["a", "c"])
    assert second.recognise() == 2
    assert [row.id for row in second.rows()] == ["a", "c"]
    assert rows_path(second.output, "fake", "m").with_name("fake.m.jsonl.old").exists()


def test_ctrl_c_ends_the_processes_and_writes_no_false_row(fake: Any) -> None:
    run = fake([f"slow-{i}" for i in range(40)], jobs=2)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.recognise(tell=stop)
    assert not psutil.Process().children()
    assert {row.error_kind for row in run.rows()} == {None}
    assert run.recognise() == 40
    assert [row.index for row in run.rows()] == list(range(40))


RUNNER = """
import sys
from pathlib import Path
from kdcompress_evaluation import worker_process
from kdcompress_evaluation.options import EvalOptions
from kdcompress_evaluation.recognise import recognise_variant
from kdcompress_evaluation.records import load
from kdcompress_evaluation.summary import RunInfo
worker_process.COMMAND = (sys.executable, sys.argv[2])
run = load(RunInfo, Path(sys.argv[1], "rows", "run.json"))
recognise_variant(Path(sys.argv[1]), run, run.variants[0], EvalOptions(jobs=int(sys.argv[3])), lambda done, total: None)
"""


def start(output: Path, jobs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUNNER, str(output), str(FAKE_WORKER), str(jobs)])


def wait_for(what: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_kill_loses_one_utterance_of_each_process_at_most(fake: Any, tmp_path: Path, jobs: int) -> None:
    run = fake([f"slow-{i}" for i in range(120)])
    path = rows_path(run.output, "fake", "m")
    process = start(run.output, jobs)
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 30)
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(children) == jobs
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 10)
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines()[0][:40])  # and in the middle of a write
    there = len(run.rows())
    assert run.recognise() == 120
    assert 30 <= there < 120
    tried = attempts(tmp_path)
    assert len(tried) - 120 <= jobs
    assert sorted(set(tried)) == sorted(row.id for row in run.rows())
    assert [row.index for row in run.rows()] == list(range(120))


def test_a_process_that_hangs_does_not_outlive_who_started_it(fake: Any, tmp_path: Path) -> None:
    run = fake(["a", "hang-1"])
    process = start(run.output, 1)
    wait_for(lambda: "hang-1" in attempts(tmp_path))
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not child.is_running() or child.status() == "zombie", 10)


def test_real_recordings_and_what_is_wrong_with_them(
    evaluation: Any, bundle: Path, make_manifest: Any, tmp_path: Path
) -> None:
    items = [("ab cd", "ab cd"), ("dad", "dad"), ("bad cab", "bad cab"), ("", "a"), ("ace", "ace")]
    manifest = make_manifest(tmp_path / "data", "test", items, room=list("xyxyx"))
    (tmp_path / "data" / "test-1.wav").unlink()
    (tmp_path / "data" / "test-2.wav").write_bytes(b"RIFF, but no more than this")
    run = evaluation([bundle], manifest)
    assert run.recognise() == 5
    rows = run.rows()
    assert [row.error_kind for row in rows] == [None, "input", "input", None, None]
    assert "test-1.wav" in rows[1].error
    assert rows[0].hypothesis == "ab cd"
    assert rows[0].duration == pytest.approx(0.4)
    assert rows[0].seconds > 0
    assert rows[0].log_prob < 0
    assert rows[0].extra == {"room": "x"}
    assert (rows[3].reference, rows[3].hypothesis) == ("", "a")
    assert rows[4].stream is not None
    assert rows[4].stream.text == rows[4].split_text == "ace"


def test_streams_are_tried_as_often_as_asked_for(
    evaluation: Any, bundle: Path, make_manifest: Any, tmp_path: Path
) -> None:
    manifest = make_manifest(tmp_path / "data", "test", [("a b", "a b")] * 12)
    run = evaluation([bundle], manifest, stream_every=2, split_utterances=3)
    run.recognise()
    rows = run.rows()
    assert [row.index for row in rows if row.stream is not None] == [0, 2, 4, 6, 8, 10]
    assert [row.index for row in rows if row.split_text is not None] == [0, 4, 10]
    assert [row.index for row in rows if row.stream is not None and row.stream.endpoint] == [0, 4, 10]
    without = evaluation([bundle], manifest, output="without", stream=False)
    without.recognise()
    assert {row.stream for row in without.rows()} == {None}


def test_a_model_for_whole_recordings_has_no_streams(
    evaluation: Any, make_bundle: Any, manifest: Path, tmp_path: Path
) -> None:
    run = evaluation([make_bundle(tmp_path / "whole", "whole", streaming=False)], manifest)
    run.recognise()
    assert {row.stream for row in run.rows()} == {None}
    assert run.rows()[0].hypothesis == "ab cd"


def test_a_manifest_of_another_kind_fails_with_words(evaluation: Any, bundle: Path, texts: Any, tmp_path: Path) -> None:
    run = evaluation([bundle], texts(tmp_path / "t.json", ["a"]))
    run.recognise()
    (row,) = run.rows()
    assert row.error_kind == "input"
    assert row.error == "the manifest gives text, and this system is fed audio; give it another manifest"


def test_a_bundle_damaged_after_it_was_planned(evaluation: Any, bundle: Path, manifest: Path) -> None:
    run = evaluation([bundle], manifest)
    (bundle / "float32.onnx").write_bytes(b"damaged")
    assert run.recognise() == 8
    assert {row.error_kind for row in run.rows()} == {"not attempted"}
    assert "BundleCorruptError" in read_broken(run.output)[0].reason


def test_two_lines_of_one_id_are_refused(fake: Any) -> None:
    with pytest.raises(ManifestError, match="'a' appears twice"):
        fake(["a", "b", "a"])


def test_ten_thousand_utterances_cost_no_memory_and_each_the_same(
    evaluation: Any, texts: Any, predictions: Any, tmp_path: Path
) -> None:
    count = 10_000
    ids = [f"u{i}" for i in range(count)]
    file = predictions(tmp_path / "cloud.jsonl", {one: f"answer {one}" for one in ids})
    run = evaluation([file], texts(tmp_path / "m.json", ids))
    marks: dict[int, tuple[float, int, int]] = {}
    process = psutil.Process()

    def look(done: int, total: int) -> None:
        if done in {2000, 4000, 8000, count}:
            children = sum(child.memory_info().rss for child in process.children())
            marks[done] = (time.process_time(), process.memory_info().rss, children)

    assert run.recognise(tell=look) == count
    early, late = marks[4000][0] - marks[2000][0], marks[count][0] - marks[8000][0]
    assert late < 2 * early + 0.05
    assert marks[count][1] - marks[2000][1] < 8 << 20
    assert marks[count][2] - marks[2000][2] < 8 << 20
    begun = time.process_time()
    assert run.recognise() == count  # nothing is left to do
    assert time.process_time() - begun < 10


def test_the_worker_is_the_module_that_is_shipped() -> None:
    assert list(worker_process.COMMAND) == [sys.executable, "-m", "kdcompress_evaluation.worker"]
