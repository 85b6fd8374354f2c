"""``kdcompress eval`` and ``compare`` as a user meets them: exit codes, shards, rows, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdcompress.cli import main

UNTIMED = ["--no-speed"]
RATE = 8000


@pytest.fixture
def place(toy_bundle, tmp_path_factory, monkeypatch):
    """A folder with a bundle, a second one that is the same, and a manifest of eight recordings."""
    place = tmp_path_factory.mktemp("eval")
    for name in ("one", "two"):
        shutil.copytree(toy_bundle, place / name)
    random = np.random.default_rng(0)
    rows = []
    for number in range(8):
        soundfile.write(place / f"{number}.wav", random.uniform(-0.4, 0.4, 400).astype(np.float32), RATE)
        rows.append({"id": f"u{number}", "audio_filepath": f"{number}.wav", "text": "ab a b", "speaker": f"s{number}"})
    (place / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.chdir(place)
    return place


def evaluate(*words: str) -> int:
    return main(["eval", "one", "two", "--manifest", "test=test.jsonl", "-o", "report", *UNTIMED, *words])


def report(folder: str = "report") -> dict:
    return json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))


def test_a_budget_decides_the_exit_code(place, capsys):
    assert evaluate("--jobs", "2", "--timeout", "30", "--retry", "--slice", "speaker", "--precision", "float32") == 0
    assert report()["verdict"] is None
    assert evaluate("--budget", "size<=1MB,failures<=0") == 0
    assert "Ship toy@two-float32" in capsys.readouterr().out
    assert evaluate("--budget", "size<=10B") == 3
    assert "Do not ship toy@two-float32: size<=10B is missed" in capsys.readouterr().out
    assert evaluate("--budget", "p95<=20ms") == 3
    assert "p95<=20ms is not shown (found not measured)" in capsys.readouterr().out
    assert main(["eval", "--rows", "report", "--budget", "size<=1MB", "--candidate", "one"]) == 0
    assert report()["verdict"]["ships"] == "toy@one-float32"
    assert {"report.html", "report.md", "report.json", "report.csv", "rows"} == {
        p.name for p in Path("report").iterdir()
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--budget", "sise<=3MB"], ["'sise' cannot be bounded", "did you mean size?"]),
        (["--candidate", "three"], ["no variant or bundle is called 'three'", "toy@one-float32"]),
        (["--baseline", "three"], ["no variant or bundle is called 'three'"]),
        (["--normaliser", "fancy"], ["normaliser 'fancy' is unknown", "plain"]),
        (["--shard", "3/2"], ["--shard '3/2'", "I/N"]),
        (["--manifest", "b=none.jsonl"], ["manifest not found: none.jsonl"]),
    ],
    ids=" ".join,
)
def test_mistakes_are_told_before_anything_is_written(place, capsys, words, told):
    assert evaluate(*words) == 1
    found = capsys.readouterr().err
    assert found.count("error:") == 1
    assert "Traceback" not in found
    assert all(one in found for one in told), found
    assert not Path("report").exists()


def test_what_must_be_named_is_asked_for(place, capsys):
    assert main(["eval", "one", "-o", "report"]) == 1
    assert "--manifest" in capsys.readouterr().err
    assert main(["eval", "--rows", "nowhere"]) == 1
    assert "run.json is missing" in capsys.readouterr().err
    assert main(["eval", "--rows", "report", "--manifest", "test.jsonl"]) == 1
    assert "leave out --manifest" in capsys.readouterr().err
    assert main(["compare", "one", "two"]) == 1
    assert "--manifest" in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_a_bundle_that_cannot_be_opened_is_reported_and_the_others_go_on(place, capsys):
    (place / "two" / "model.onnx").write_bytes(b"damaged")
    assert evaluate() == 1
    told = capsys.readouterr()
    assert "two" in told.err
    assert "SHA-256" in told.err or "hash" in told.err
    assert [v["info"]["bundle_name"] for v in report()["variants"]] == ["toy"]
    assert len(report()["broken"]) == 1
    assert "two" in Path("report/report.md").read_text(encoding="utf-8")


def test_missing_audio_and_empty_references_are_counted_and_told(place, capsys):
    (place / "3.wav").unlink()
    text = Path("test.jsonl").read_text(encoding="utf-8")
    Path("test.jsonl").write_text(text.replace('"text": "ab a b"', '"text": ""', 1), encoding="utf-8")
    assert evaluate() == 0
    assert "not recognised: 1 utterance(s)" in capsys.readouterr().err
    pooled = report()["variants"][0]["pooled"]
    assert (pooled["failures"], pooled["empty_references"], pooled["utterances"]) == (1, 1, 8)
    assert "audio file not found" in Path("report/report.html").read_text(encoding="utf-8")


def test_a_manifest_whose_recordings_are_all_missing_still_gives_a_report(place, capsys):
    for file in place.glob("*.wav"):
        file.unlink()
    command = ["eval", "one", "--manifest", "test.jsonl", "-o", "report", "--paced", "0"]
    assert main(command) == 1
    assert "not one of 8 utterances could be recognised" in capsys.readouterr().err
    assert report()["variants"][0]["pooled"]["failures"] == 8
    assert main([*command, "--budget", "size<=1MB,failures<=8"]) == 3  # what recognised nothing never ships
    assert "8 utterances could not be recognised" in Path("report/report.md").read_text(encoding="utf-8")


def test_shards_merged_are_one_process(place, capsys):
    assert evaluate() == 0
    whole = report()
    for part in ("1/3", "2/3", "3/3"):
        folder = f"part-{part[0]}"
        command = ["eval", "one", "two", "--manifest", "test=test.jsonl", "-o", folder, "--shard", part]
        assert main(command) == 0
        assert not Path(folder, "report.html").exists()
    assert main(["eval", "--rows", "part-1", "part-2", "-o", "incomplete"]) == 1
    assert "rows of 8 are missing" in capsys.readouterr().err
    assert main(["eval", "--rows", "part-1", "part-2", "part-3", "-o", "merged"]) == 0
    merged = report("merged")
    rows = Path("merged/rows/toy@one-float32.test.jsonl").read_bytes()
    assert main(["eval", "--rows", "part-1", "part-2", "part-3", "-o", "merged"]) == 0
    assert Path("merged/rows/toy@one-float32.test.jsonl").read_bytes() == rows
    for key in ("variants", "slices", "worst", "regressions", "metrics", "overlaps"):
        if key != "overlaps":
            assert timeless(merged[key]) == timeless(whole[key]), key
    assert main(["eval", "--rows", "merged", "-o", "again"]) == 0
    assert report("again")["variants"] == merged["variants"]


def timeless(value: object) -> object:
    """Without what a clock says."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in {"final", "footprint"}}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_compare_two_bundles_and_two_variants_of_reports(place, capsys):
    assert main(["compare", "one", "two", "--manifest", "test.jsonl", "-o", "kept", *UNTIMED]) == 0
    first = capsys.readouterr().out
    assert "toy@one-float32" in first
    assert "8 the same" in first
    assert evaluate() == 0
    capsys.readouterr()
    assert main(["compare", "report:one", "report:two", "--budget", "dwer<=0"]) == 0
    assert "Ship toy@two-float32" in capsys.readouterr().out
    assert main(["compare", "report:one", "kept:two", "--budget", "size<=1B"]) == 3
    capsys.readouterr()
    for words, told in (
        (["report:one", "report:one"], "compared with itself"),
        (["report:one", "two"], "one is a report, the other is not"),
        (["one", "nowhere", "--manifest", "test.jsonl", "--no-speed"], "nowhere does not exist"),
        (["report:one", "report:three"], "no variant or bundle is called 'three'"),
    ):
        assert main(["compare", *words]) == 1
        assert told in capsys.readouterr().err


def test_texts_of_another_system_and_an_anchor(place, capsys):
    lines = [json.dumps({"id": f"u{n}", "text": "ab a b"}) for n in range(8)]
    Path("cloud.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["eval", "one", "cloud.jsonl", "--anchor", "two", "--manifest", "test.jsonl", "-o", "report", *UNTIMED]
    assert main([*command, "--device-note", "a kitchen table"]) == 0
    variants = {v["info"]["name"]: v for v in report()["variants"]}
    cloud = next(v for v in variants.values() if v["info"]["kind"] == "predictions")
    assert cloud["pooled"]["metrics"]["wer"]["value"] == 0
    assert cloud["footprint"]["size_bytes"] is None
    assert [v["info"]["anchor"] for v in report()["variants"]].count(True) == 1
    assert "a kitchen table" in Path("report/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "source", "metrics"),
    [("image_filepath", "line.png", ("ser", "cer", "exact")), ("source", "Hello there.", ("chrf", "bleu", "copied"))],
)
def test_text_lines_and_translations_take_the_same_road(place, key, source, metrics):
    rows = [{"id": f"u{n}", key: source, "text": "Hej på dig du gamle vän."} for n in range(12)]
    Path("lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("line.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, text in (("good", "Hej på dig du gamle vän."), ("poor", "Hej på dig du gamla vän.")):
        content = [json.dumps({"id": f"u{n}", "text": text if n % 2 else rows[0]["text"]}) for n in range(12)]
        Path(f"{name}.jsonl").write_text("\n".join(content) + "\n", encoding="utf-8")
    assert main(["eval", "good.jsonl", "poor.jsonl", "--manifest", "t=lines.jsonl", "-o", "report"]) == 0
    found = report()
    assert tuple(metric["name"] for metric in found["metrics"]) == metrics
    good, poor = (v["pooled"]["metrics"] for v in found["variants"])
    lower = {metric["name"]: metric["lower_is_better"] for metric in found["metrics"]}
    for name in metrics:
        if name != "copied":
            assert (good[name]["value"] < poor[name]["value"]) is lower[name]


def test_ctrl_c_is_exit_code_130_and_the_next_run_goes_on(place):
    rows = [json.loads(line) for line in Path("test.jsonl").read_text(encoding="utf-8").splitlines()]
    many = [{**rows[n % 8], "id": f"u{n}"} for n in range(1200)]
    Path("many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many), encoding="utf-8")
    command = [sys.executable, "-m", "kdcompress", "eval", "one", "--manifest", "many.jsonl", "-o", "report", *UNTIMED]
    command.append("--no-streaming")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    written = Path("report/rows/toy-float32.many.jsonl")
    deadline = time.monotonic() + 60
    while not (written.is_file() and written.stat().st_size > 2000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    before = written.read_text(encoding="utf-8").splitlines()
    assert 0 < len(before) < 1200
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    after = written.read_text(encoding="utf-8").splitlines()
    assert len(after) == 1200
    assert after[: len(before) - 1] == before[:-1]
