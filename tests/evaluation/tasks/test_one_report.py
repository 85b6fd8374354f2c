"""Bundles of three tasks in one call: one report, in which nobody is compared with a stranger."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation import EvalOptions, Rederive, evaluate, evaluate_tasks, rederive_tasks
from kdcompress_evaluation.errors import BudgetError
from kdcompress_evaluation.schema import read_schema
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from pathlib import Path

QUICK = EvalOptions(resamples=1000, speed_utterances=0)
BUDGET = "size<=3MB,dwer<=100,exact>=1,chrf>=90,rtf<=1"


def test_each_bundle_meets_the_manifests_of_its_kind(tasks: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    report = evaluate_tasks([tasks.pairs, tasks.speech, tasks.lines], tasks.manifests, output, QUICK)
    assert [one.run.task for one in report.tasks] == ["speech", "scene_text", "translation"]
    assert [[v.info.name for v in one.variants] for one in report.tasks] == [
        ["letters-float32"],
        ["reader-float32"],
        ["translator-float32"],
    ]
    assert [[m.name for m in one.run.manifests] for one in report.tasks] == [["spoken"], ["lines"], ["pairs"]]
    assert [one.run.normaliser for one in report.tasks] == ["plain", "nocase", "plain"]
    assert [one.primary.name for one in report.tasks] == ["wer", "ser", "chrf"]
    assert not report.broken
    for name in ("Speech: ", "Scene text: ", "Translation: "):
        assert name in report.headline

    _check_page((output / "report.html").read_text(encoding="utf-8"))
    markdown = (output / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"^# (.*)$", markdown, re.MULTILINE)[1:] == ["Speech", "Scene text", "Translation"]
    with (output / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["task"] for row in rows} == {"speech", "scene_text", "translation"}
    wer = next(row for row in rows if (row["task"], row["section"], row["metric"]) == ("speech", "accuracy", "wer"))
    assert float(wer["value"]) == report.task("speech").variants[0].pooled.metrics["wer"].value
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads((output / "report.json").read_text(encoding="utf-8")), read_schema("tasks"))

    again = rederive_tasks([output], tmp_path / "again", Rederive(budget=BUDGET, baseline=("reader",)))
    assert [one.variants[0].pooled.metrics for one in again.tasks] == [
        one.variants[0].pooled.metrics for one in report.tasks
    ]
    assert [one.run.budget for one in again.tasks] == [
        "size<=3MB,dwer<=100,rtf<=1",
        "size<=3MB,exact>=1",
        "size<=3MB,chrf>=90",
    ]
    assert [one.verdict.ships if one.verdict else "" for one in again.tasks][2] is None
    assert (tmp_path / "again" / "report.html").exists()


def _check_page(page: str) -> None:
    """Ids stand once, links lead somewhere, every task is there."""
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {f"{task}-variants" for task in ("speech", "scene_text", "translation")} <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert "StrictUndefined" not in page


def test_one_task_is_the_report_that_it_was(tasks: Any, tmp_path: Path) -> None:
    report = evaluate_tasks([tasks.lines], {"lines": tasks.manifests["lines"]}, tmp_path / "out", QUICK)
    assert len(report.tasks) == 1
    assert report.headline == report.tasks[0].headline
    assert (tmp_path / "out" / "rows" / "reader-float32.lines.jsonl").exists()
    content = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert content["run"]["task"] == "scene_text"


def test_what_belongs_nowhere_is_refused(tasks: Any, tmp_path: Path) -> None:
    two = {name: tasks.manifests[name] for name in ("lines", "pairs")}
    cases: list[tuple[list[Path], dict[str, Path], EvalOptions, str]] = [
        ([tasks.lines, tasks.pairs, tasks.speech], two, QUICK, "letters is of the task speech, and no manifest gives"),
        ([tasks.lines], two, QUICK, "pairs gives source sentences, and no system to evaluate is fed those"),
        ([tasks.lines, tasks.pairs], {"lines": two["lines"]}, QUICK, "translator is of the task translation"),
        ([tasks.lines, tasks.pairs], two, EvalOptions(baseline=("reader", "nobody")), "called 'nobody'"),
        ([tasks.lines, tasks.pairs], two, EvalOptions(baseline=("reader", "reader")), "several baselines of one task"),
    ]
    for systems, manifests, options, message in cases:
        with pytest.raises(OptionsError, match=message):
            evaluate_tasks(systems, manifests, tmp_path / "out", options)
    with pytest.raises(OptionsError, match="use evaluate_tasks"):
        evaluate([tasks.lines, tasks.pairs], two, tmp_path / "out", QUICK)
    with pytest.raises(BudgetError, match="did you mean exact"):
        EvalOptions(budget="exactt>=90")
    assert not (tmp_path / "out").exists()


def test_texts_of_other_systems_go_where_their_ids_are(tasks: Any, tmp_path: Path) -> None:
    cloud = tmp_path / "cloud.jsonl"
    cloud.write_text("".join(json.dumps({"id": f"pair{i}", "text": "x"}) + "\n" for i in range(4)), encoding="utf-8")
    strange = tmp_path / "strange.jsonl"
    strange.write_text(json.dumps({"id": "nobody", "text": "x"}) + "\n", encoding="utf-8")
    two = {name: tasks.manifests[name] for name in ("lines", "pairs")}
    options = EvalOptions(resamples=1000, speed_utterances=0, baseline="cloud")
    report = evaluate_tasks([tasks.lines, tasks.pairs, cloud], two, tmp_path / "out", options)
    assert [[v.info.name for v in one.variants] for one in report.tasks] == [
        ["reader-float32"],
        ["translator-float32", "cloud"],
    ]
    assert [one.run.baseline for one in report.tasks] == ["reader-float32", "cloud"]
    with pytest.raises(OptionsError, match="holds no text for any line of the manifests"):
        evaluate_tasks([tasks.lines, tasks.pairs, strange], two, tmp_path / "out2", QUICK)
