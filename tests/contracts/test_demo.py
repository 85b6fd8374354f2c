"""The demo: its steps, their order, what happens when one fails or is interrupted; the whole of it behind ``slow``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdcompress.cli import main
from kdcompress.demo import STUDENTS, plan, run_demo
from kdcompress.errors import DataNotFoundError, StepError
from kdcompress.steps import Step, run_steps, training_step

ROOT = Path(__file__).parents[2]
FAST = ("--set", "train.steps=3", "--set", "train.batch_size=4")


def command(output: Path) -> list[str]:
    source = str(ROOT / "data" / "fsdd")
    return [sys.executable, "-m", "kdcompress", "demo", "-o", str(output), "--source", source, *FAST]


def test_the_plan_trains_before_it_exports_and_exports_before_it_reports(tmp_path):
    steps = plan(tmp_path, ROOT / "data" / "fsdd")
    place = {step.name: index for index, step in enumerate(steps)}
    assert len(place) == len(steps)
    assert all(place[needed] < place[step.name] for step in steps for needed in step.after)
    assert {f"export {recipe}" for recipe in STUDENTS} == set(steps[-1].after)
    taught = next(step for step in steps if step.name == "digits-from-oracle")
    assert "digits-oracle" in taught.after
    assert f'distill.teachers="{tmp_path / "digits-oracle"}"' in taught.arguments


def test_steps_run_after_those_they_need_and_keep_their_logs(tmp_path, capsys):
    run_steps([Step("second", ("--version",), after=("first",)), Step("first", ("--help",))], tmp_path / "logs")
    order = re.findall(r"\] (\w+):", capsys.readouterr().err)
    assert order == ["first", "second"]
    assert "Usage" in (tmp_path / "logs" / "first.log").read_text()


def test_a_failed_step_names_its_log_and_stops_the_others(tmp_path):
    steps = [Step("bad one", ("train", "nope", "-o", str(tmp_path / "run"))), Step("later", ("--help",), ("bad one",))]
    with pytest.raises(StepError, match=r"step 'bad one' failed: .*recipe not found: nope.*bad-one\.log"):
        run_steps(steps, tmp_path / "logs")
    assert not (tmp_path / "logs" / "later.log").exists()


def test_a_result_newer_than_its_source_is_not_made_again(tmp_path):
    source, result = tmp_path / "source", tmp_path / "result"
    source.write_text("")
    result.write_text("")
    step = Step("made", ("train", "nope", "-o", "x"), result=result, made_from=(source,))
    os.utime(source, (1, 1))
    assert step.is_done()
    run_steps([step], tmp_path / "logs")
    assert not (tmp_path / "logs" / "made.log").exists()
    os.utime(result, (0, 0))
    assert not step.is_done()


def test_a_training_step_knows_its_updates(tmp_path):
    step = training_step("train", "digits-labels", tmp_path / "run", ["train.steps=7"], after=("data",))
    assert step.updates == 7
    assert step.metrics == tmp_path / "run" / "metrics.jsonl"


def test_without_the_recordings_the_demo_says_where_it_looked(tmp_path, capsys):
    with pytest.raises(DataNotFoundError, match=r"--source"):
        run_demo(tmp_path / "out", tmp_path)
    assert main(["demo", "-o", str(tmp_path / "out"), "--source", str(tmp_path)]) == 1
    assert "the packed recordings are not here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_demo_interrupted_and_repeated(tmp_path):
    output = tmp_path / "demo"
    first = subprocess.Popen(command(output), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (output / "digits-oracle" / "recipe.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    _, words = first.communicate(timeout=120)
    assert first.returncode == 130, words
    assert "repeat the command to go on" in words
    assert "Traceback" not in words

    second = subprocess.run(command(output), check=False, capture_output=True, text=True, timeout=600)
    assert second.returncode == 0, second.stderr
    report = output / "report" / "report.html"
    assert str(report) in second.stdout
    assert len(second.stdout.strip().splitlines()) == 6
    assert len(json.loads((output / "report" / "report.json").read_text())["variants"]) == 2 * len(STUDENTS)

    made = {path: path.stat().st_mtime_ns for path in output.glob("bundles/*/*")}
    again = subprocess.run(command(output), check=False, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in output.glob("bundles/*/*")} == made
