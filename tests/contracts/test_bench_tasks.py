"""The benchmarks of text lines and of translation: equal terms but for what is learned from, then a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kdcompress.sweep import load_sweep
from kdcompress_evaluation.metrics import metrics_for
from kdcompress_evaluation.scoring import NORMALISERS

ROOT = Path(__file__).parents[2]
DATA = {"bench_text": ("--lines", "lines"), "bench_translation": ("--pairs", "pairs")}


@pytest.fixture(params=DATA, scope="module")
def bench(request, benchmark_script):
    return benchmark_script(request.param)


@pytest.fixture
def call(bench, tmp_path):
    """Options: the sample that comes with kdcompress, everything below a folder of the test."""
    option, name = DATA[bench.__name__]
    teacher = tmp_path / "marian"
    teacher.mkdir()
    (teacher / "config.json").write_text("{}")
    found = [option, str(ROOT / "data" / name), "--output", str(tmp_path / "out"), "--save", str(tmp_path / "saved")]
    return found if name == "lines" else [*found, "--teacher", str(teacher)]


def test_without_the_data_it_says_what_is_missing(bench, tmp_path, capsys):
    option, _ = DATA[bench.__name__]
    with pytest.raises(SystemExit) as stop:
        bench.main([option, str(tmp_path)])
    assert stop.value.code == 1
    assert f"with {option}" in capsys.readouterr().err.replace("pairs and teacher with --pairs", "with --pairs")


def test_students_differ_in_what_they_learn_from_alone(bench, call, tmp_path):
    args = bench.parse(call)
    inputs = (args, bench.mix(args)) if bench.__name__ == "bench_text" else (args,)
    step = bench.sweep(*inputs, 3)
    recipes = load_sweep(Path(step.arguments[1]))
    assert set(recipes) == {bench.student(args, number, 3).name for number in range(len(bench.METHODS))}
    terms = [recipe.model_dump(exclude={"name", "losses", "distill"}) for recipe in recipes.values()]
    assert all(one == terms[0] for one in terms)
    assert [recipe.distill is None for recipe in recipes.values()] == [True] + [False] * (len(recipes) - 1)
    assert next(iter(recipes.values())).seed == 3
    assert str(tmp_path) in step.arguments[1]


def test_teachers_are_twins(bench, call):
    args = bench.parse(call)
    inputs = (args, bench.mix(args)) if bench.__name__ == "bench_text" else (args,)
    recipes = [step.arguments[1].partition("-")[2] for step in bench.teachers(*inputs)]
    assert recipes[:2] == ["conventional", "oracle"]
    assert set(recipes[2:]) <= {"oracle"}


def test_every_part_is_written(bench):
    assert all(callable(getattr(bench, part)) for part in bench.PARTS)


def rows_of(wrong, items=40, groups=12):
    return [
        {"id": str(n), "group": f"g{n % groups}", "ref": "a b", "hyp": "a c" if n < wrong else "a b"}
        for n in range(items)
    ]


def test_a_table_has_means_over_seeds_and_paired_intervals(benchmark_script, tmp_path):
    scores = benchmark_script("task_scores")
    runs = {}
    for method, wrong in {"labels only": (20, 24), "taught": (8, 12)}.items():
        runs[method] = [tmp_path / f"{method}{seed}" for seed in range(2)]
        for folder, count in zip(runs[method], wrong, strict=True):
            folder.mkdir()
            scores.write_rows(folder / scores.SCORED, rows_of(count))
    metrics = metrics_for("scene_text", NORMALISERS["plain"])
    text = scores.save(tmp_path / "saved", "part", runs, "labels only", metrics, "Note.")
    assert "| labels only | 55.00 ± 7.07 | - | - |" in text
    line = next(line for line in text.splitlines() if line.startswith("| taught"))
    assert "| 25.00 ± 7.07 | -30.00 (" in line
    assert "-54.5 %" in line
    saved = json.loads((tmp_path / "saved" / "part.json").read_text())
    low, high = saved[1]["differences"]["ser"][1:]
    assert low < -30 < high < 0
    assert (tmp_path / "saved" / "part.rows.jsonl.gz").is_file()


def test_a_difference_of_equal_systems_is_none(benchmark_script):
    scores = benchmark_script("task_scores")
    metric = metrics_for("translation", NORMALISERS["plain"])[0]
    counted = scores.statistics_of(metric, rows_of(9))
    estimate = scores.mean_difference(metric, [counted], [counted])
    assert estimate.value == 0
    assert estimate.low == estimate.high == 0


def test_systems_are_timed_in_turns(benchmark_script):
    bench = benchmark_script("bench_text")
    seen = []
    systems = {name: (lambda one, name=name: seen.append((name, one)) or name + one) for name in ("x", "y")}
    texts, taken = bench.in_turns(systems, ["1", "2"])
    assert texts == {"x": ["x1", "x2"], "y": ["y1", "y2"]}
    assert seen[-4:] == [("x", "1"), ("y", "1"), ("x", "2"), ("y", "2")]
    assert all(len(times) == 2 and np.min(times) >= 0 for times in taken.values())
