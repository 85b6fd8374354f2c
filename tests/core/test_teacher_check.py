"""Teacher-check: what it tests, what it prints and keeps, the time to a twin's quality, and its exit codes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcompress.cli import main
from kdcompress.errors import RunError
from kdcompress.run import RunFolder, load_run
from kdcompress.teacher_check import check_run
from kdcompress.time_to_quality import Point, crossing, read_curve, time_to_quality
from kdcompress_runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def curve_of(runs, tmp_path):
    """``curve_of("oracle", {100: 0.5})``: a copy of a run with other measurements on dev; seconds are updates / 4."""

    def make(model: str, measured: dict[int, float]) -> Path:
        folder = shutil.copytree(runs[model], tmp_path / model)
        rows = [{"step": step, "seconds": step / 4, "dev_ctc": value} for step, value in measured.items()]
        rows.insert(1, {"step": 150, "seconds": 40.0, "loss": 0.1})  # scalars of training are not looked at
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make


def test_an_oracle_is_tested_for_copying(runs, corpus):
    check = check_run(runs["oracle"])
    assert (check.items, check.manifest, check.twin) == (4, corpus["dev"], None)
    found = check.to_json()
    assert found["sees_labels"] is True
    assert all(isinstance(share, (float, str)) for share in found["leak"].values())
    assert check.passed
    assert "wer" not in json.dumps(found).lower()


@pytest.mark.parametrize("model", ["conventional", "student"])
def test_a_run_that_sees_no_labels_cannot_copy(runs, model):
    check = check_run(runs[model])
    assert check.leak.verdict.startswith("cannot copy: it sees no reference; ")
    assert check.leak.empty_reference_true is check.leak.wrong_reference_given is None
    assert 0 <= check.leak.noise_source <= 100
    assert 0 <= check.leak.shuffled_frames <= 100
    assert check.passed


def test_another_manifest_and_progress(runs, corpus):
    seen = []
    check = check_run(
        runs["oracle"], manifest=corpus["train"], on_progress=lambda done, total: seen.append((done, total))
    )
    assert check.items == 12
    assert seen == [(4, 12), (8, 12), (12, 12)]


def test_the_command_prints_tests_and_verdict(capsys, runs):
    assert main(["teacher-check", str(runs["oracle"])]) == 0
    shown = capsys.readouterr().out
    for words in ("input is noise", "frames in random order", "wrong reference shown", "padding added", "pass"):
        assert words in shown
    assert shown.splitlines()[-1].startswith(("tiny-oracle listens: ", "tiny-oracle copies: "))
    assert "no recognition rates" in shown
    assert "WER" not in shown
    assert main(["teacher-check", str(runs["conventional"])]) == 0
    shown = capsys.readouterr().out
    assert "wrong reference" not in shown
    assert shown.splitlines()[-1].startswith("tiny-conventional cannot copy: ")


def test_a_twin_is_compared_and_everything_is_kept(capsys, curve_of, tmp_path):
    oracle = curve_of("oracle", {100: 0.6, 200: 0.2, 300: 0.1})
    twin = curve_of("conventional", {200: 0.5, 400: 0.3})
    command = ["teacher-check", str(oracle), "--twin", str(twin), "-o", str(tmp_path / "kept"), "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "kept" / "teacher-check.json").read_text())
    found = printed["time_to_quality"]
    assert found["reached"] == {"updates": 175.0, "seconds": 43.75, "dev_ctc": 0.3}
    assert (found["target"], found["updates_ratio"], found["seconds_ratio"]) == (0.3, 0.4375, 0.4375)
    assert "after 175 updates: 0.44 of its 400, 0.44 of its seconds" in found["sentence"]
    svg = ET.fromstring((tmp_path / "kept" / "curve.svg").read_text())
    texts = {element.text for element in svg.iter() if element.text}
    assert {"updates", "seconds", "tiny-oracle", "tiny-conventional"} <= texts
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["curve.svg", "teacher-check.json"]
    assert main(command[:-1]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == found["sentence"]


def test_without_a_twin_there_is_no_curve(runs, tmp_path):
    assert check_run(runs["conventional"], output=tmp_path / "kept").twin is None
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["teacher-check.json"]


def test_a_run_that_never_gets_there_and_one_that_is_there_at_once(curve_of):
    slow, fast = curve_of("oracle", {100: 0.9, 200: 0.7}), curve_of("conventional", {100: 0.5, 200: 0.6})
    found = time_to_quality(load_run(slow), load_run(fast))
    assert found.reached is found.updates_ratio is found.seconds_ratio is None
    assert "never reaches" in found.sentence
    assert "0.7000" in found.sentence
    found = time_to_quality(load_run(fast), load_run(slow))
    assert found.from_the_first
    assert found.updates_ratio == 0.5
    assert "after at most 100 updates" in found.sentence


def test_the_padding_test_failing_is_exit_code_3(capsys, runs, tmp_path, monkeypatch):
    """A teacher that does not mask its padding: what stands behind the end of an item reaches into it."""

    def all_inside(lengths, frames):
        return torch.ones(len(lengths), frames, dtype=torch.bool)

    monkeypatch.setattr("kdcompress.full_context.frame_mask", all_inside)
    assert main(["teacher-check", str(runs["conventional"]), "-o", str(tmp_path)]) == 3
    assert "FAIL" in capsys.readouterr().out
    kept = json.loads((tmp_path / "teacher-check.json").read_text())
    assert kept["padding"] == {"tolerance": 1e-3, "passed": False}
    assert kept["leak"]["padding_difference"] > 1e-3


MISTAKES = {
    "no run": (["nowhere"], "run not found: nowhere"),
    "no twin": (["ORACLE", "--twin", "nowhere"], "run not found: nowhere"),
    "no manifest": (["ORACLE", "--manifest", "none.jsonl"], "manifest not found: none.jsonl"),
    "no dev": (["DEAF", "--twin", "ORACLE"], "names no data.dev; name held-out items with --manifest"),
    "never measured": (["ORACLE", "--twin", "UNMEASURED"], "holds no dev_ctc; train with data.dev"),
    "other dev": (["ORACLE", "--twin", "ELSEWHERE"], "measured on different dev manifests"),
    "dev unknown": (["ORACLE", "--twin", "UNKNOWN"], "has no dev manifest; train with data.dev"),
    "broken curve": (["ORACLE", "--twin", "BROKEN"], "metrics.jsonl: cannot be read"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(capsys, runs, tmp_path, name):
    words, sentence = MISTAKES[name]
    places = {"ORACLE": runs["oracle"]}
    for place in ("DEAF", "UNMEASURED", "ELSEWHERE", "UNKNOWN", "BROKEN"):
        places[place] = shutil.copytree(runs["conventional"], tmp_path / place)
    recipe = places["DEAF"] / "recipe.yaml"
    recipe.write_text("".join(line for line in recipe.read_text().splitlines(True) if not line.startswith("  dev:")))
    (places["UNMEASURED"] / "metrics.jsonl").write_text('{"step": 1, "seconds": 1.0, "loss": 2.0}\n')
    (places["BROKEN"] / "metrics.jsonl").write_text('{"step": 1, "dev_ctc": 1.0}\n')
    summary = json.loads((runs["conventional"] / "run.json").read_text())
    other = {**summary["data"], "dev": {**summary["data"]["dev"], "fingerprint": "0"}}
    (places["ELSEWHERE"] / "run.json").write_text(json.dumps({**summary, "data": other}))
    (places["UNKNOWN"] / "run.json").write_text(json.dumps({**summary, "data": {"train": summary["data"]["train"]}}))
    command = ["teacher-check", *(str(places.get(word, word)) for word in words), "-o", str(tmp_path / "kept")]
    assert main(command) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert not (tmp_path / "kept").exists()


def test_a_twin_with_other_frames_cannot_be_compared(make_recipe, runs, tmp_path):
    from kdcompress.distill import fit

    fit(make_recipe("conventional", "model.subsampling_factor=2", steps=1), tmp_path / "fine")
    with pytest.raises(RunError, match="differ in the length of a frame or in their tokens"):
        check_run(runs["oracle"], twin=tmp_path / "fine")


def test_a_missing_matplotlib_is_said_before_the_work(runs, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("kdcompress.teacher_check.find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[eval\]"):
        check_run(runs["oracle"], twin=runs["conventional"], output=tmp_path / "kept")
    assert check_run(runs["oracle"], twin=runs["conventional"]).twin is not None  # without a picture it is not needed


def test_a_curve_keeps_the_last_of_two_measurements_and_leaves_out_what_is_not_finite(tmp_path):
    lines = [
        '{"step": 20, "seconds": 2.0, "dev_ctc": 0.5}',
        '{"step": 10, "seconds": 1.0, "dev_ctc": NaN}',
        '{"step": 20, "seconds": 2.5, "dev_ctc": 0.4}',
        '{"step": 5, "seconds": 0.5, "dev_ctc": 0.9, "dev_wer": 80}',
        '{"step": 30, "seco',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_curve(RunFolder(tmp_path)) == (Point(5, 0.5, 0.9), Point(20, 2.5, 0.4))


@given(values=st.lists(st.floats(0.01, 2), min_size=1, max_size=8), target=st.floats(0.01, 2))
def test_a_crossing_is_on_the_curve_and_the_first(values, target):
    curve = [Point(10 * (index + 1), index + 1.0, value) for index, value in enumerate(values)]
    found = crossing(curve, target)
    if min(values) > target:
        assert found is None
        return
    first = next(index for index, value in enumerate(values) if value <= target)
    earliest = curve[first - 1].updates if first else curve[0].updates
    assert earliest <= found.updates <= curve[first].updates
    assert found.seconds == pytest.approx(found.updates / 10)
