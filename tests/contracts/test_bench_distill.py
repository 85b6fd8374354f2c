"""The benchmark of methods: valid recipes, equal terms for all, teachers in order, tables that say what rows say."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from kdcompress.errors import StepError
from kdcompress.recipe_file import load_recipe
from kdcompress.sweep import load_sweep

ROOT = Path(__file__).parents[2]
DELAYED = "frame KL, delayed"


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("bench_distill")


@pytest.fixture(scope="module")
def scores(benchmark_script):
    return benchmark_script("distill_scores")


@pytest.fixture
def options(bench, tmp_path):
    """``options("--seeds", "1")``: parsed, with folders of their own and a noise manifest that nobody reads."""
    (tmp_path / "noise.jsonl").write_text("")

    def parse(*words):
        noise = ["--noise", str(tmp_path / "noise.jsonl")]
        return bench.parse([*noise, "--output", str(tmp_path / "out"), "--save", str(tmp_path / "save"), *words])

    return parse


def everything(bench, args):
    """Name, overrides and labels of every student: both settings where it is chosen, and all parts."""
    chosen = {method.name: len(method.choices) - 1 for method in bench.METHODS}
    found = [run for part in bench.PARTS for run in bench.plan(args, part, chosen)]
    where = {"seed": args.seeds[0], "lookahead": bench.LOOKAHEAD_FRAMES}
    for method in bench.METHODS:
        for choice in range(len(method.choices)):
            overrides = bench.student(args, method, choice, steps=args.student_steps, **where)
            labels = {"method": method.name, **where}
            found.append((bench.variant(method, choice, part="short", **where), overrides, labels))
    return found


# ---- what is planned


def test_without_noise_it_says_what_is_missing(bench, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--noise", str(tmp_path / "none.jsonl")])
    assert stop.value.code == 1
    assert "name one with --noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [(StepError("step 'data' failed: no space"), 1, "error: step 'data' failed"), (KeyboardInterrupt(), 130, "repeat")],
)
def test_a_step_that_fails_and_ctrl_c(bench, options, monkeypatch, capsys, problem, code, words):  # noqa: PLR0917
    def fail(*arguments):
        raise problem

    args = options()
    monkeypatch.setattr(bench, "run_steps", fail)
    assert bench.main(["--noise", str(args.noise), "--output", str(args.output), "--save", str(args.save)]) == code
    assert words in capsys.readouterr().err
    assert not args.save.exists()


def test_every_student_is_a_recipe_and_differs_in_what_it_learns_from_alone(bench, options):
    """Updates, batch, seed, data, augmentation and network are those of labels only at the same look-ahead."""
    args = options("--seeds", "2")
    methods = {method.name: method for method in (*bench.METHODS, *bench.DELAYS)}
    found, plain = {}, {}
    for name, overrides, labels in everything(bench, args):
        if name not in found:
            found[name] = load_recipe("digits-labels", overrides)
        key = labels["lookahead"], found[name].train.steps
        if labels["method"] == "labels only":
            plain[key] = found[name]
    assert len(found) > 2 * len(bench.METHODS)
    assert {recipe.train.steps for recipe in found.values()} == {args.student_steps, args.long_steps}
    for name, _, labels in everything(bench, args):
        recipe, method = found[name], methods[labels["method"]]
        same = plain[labels["lookahead"], recipe.train.steps]
        fields = {"train", "seed", "data", "frontend", "task"} | (set() if method.settings else {"model", "augment"})
        assert recipe.model_dump(include=fields) == same.model_dump(include=fields), name
        assert (recipe.seed, recipe.train.batch_size) == (2, args.batch_size)
        assert recipe.model.lookahead_frames == labels["lookahead"]
        teachers = recipe.distill.teachers if recipe.distill else ()
        assert teachers == tuple(args.output / "teachers" / teacher for teacher in method.teachers)
        assert (len(teachers) > 1) == bool(method.combine), name
        assert any(loss.needs_teacher for loss in recipe.losses) == bool(teachers)


def test_names_are_unique_and_good_for_folders(bench, options):
    names = [method.name for method in (*bench.METHODS, *bench.DELAYS)]
    assert len(set(names)) == len(names)
    assert set(bench.LONG) <= set(names)
    runs = {}
    for name, overrides, _ in everything(bench, options("--seeds", "1", "2")):
        assert re.fullmatch(r"[a-z0-9-]+", name), name
        assert runs.setdefault(name, overrides) == overrides, name  # the same name is the same run
    as_sets = [tuple(overrides) for overrides in runs.values()]
    assert len(set(as_sets)) == len(as_sets)


def test_every_method_has_the_same_choice_but_the_baseline(bench):
    baseline, *others = bench.METHODS
    assert (baseline.name, len(baseline.choices), baseline.teachers) == ("labels only", 1, ())
    assert {len(method.choices) for method in others} == {2}
    assert all(method.paper for method in bench.METHODS)


def test_teachers_are_planned_with_their_guides_first(bench, options):
    args = options()
    steps = {step.name: step for step in bench.teacher_steps(args)}
    assert set(steps) == {name for method in bench.METHODS for name in method.teachers}
    assert set(steps) <= set(bench.TEACHERS)
    order = list(steps)
    for name, step in steps.items():
        guide = bench.TEACHERS[name].guide
        assert set(step.after) == {"data", *([guide] if guide else [])}
        assert step.arguments[0] == ("distill" if guide else "train")
        if guide:
            assert order.index(guide) < order.index(name)
            assert f'distill.teachers="{args.output / "teachers" / guide}"' in step.arguments
        said = {"teacher": args.teacher_steps, "oracle": args.oracle_steps, "member": args.member_steps}
        assert step.updates == said[bench.TEACHERS[name].steps]
    assert [step.name for step in bench.data_step(args)] == ["data"]


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("labels only", set()),
        ("guided CTC", {"guide"}),
        ("guided teacher, frame KL", {"guide", "conventional-guided"}),
        ("hybrid", {"oracle", "conventional"}),
    ],
)
def test_only_teachers_that_are_needed_are_trained(bench, options, method, wanted):
    args = options("--methods", method)
    (args.output / "data").mkdir(parents=True)
    (args.output / "data" / "test.jsonl").write_text("")
    assert bench.data_step(args) == []
    steps = bench.teacher_steps(args)
    assert {step.name for step in steps} == wanted | {"conventional"}
    assert not any("data" in step.after for step in steps)
    assert {planned.name for planned in bench.methods(args)} == {"labels only", method}


def test_the_better_setting_on_dev_is_chosen(bench, options, monkeypatch):
    args = options("--methods", DELAYED, "SKD", "--seeds", "3", "1")
    wer = {"labels only": [30.0], DELAYED: [21.0, 20.5], "SKD": [19.0, 19.0]}
    asked = {}

    def trained(args, runs, part):
        for name, overrides in runs:
            asked[name] = load_recipe("digits-labels", overrides)
            method = next(m for m in bench.METHODS if name == bench.variant(m, int(name[-7]), part="short", **WHERE))
            folder = args.output / "students" / name
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(json.dumps({"dev": {"wer": wer[method.name][int(name[-7])]}}))

    WHERE = {"seed": 3, "lookahead": bench.LOOKAHEAD_FRAMES}  # noqa: N806 (of the closure)
    monkeypatch.setattr(bench, "train", trained)
    assert bench.choose(args) == {"labels only": 0, DELAYED: 1, "SKD": 0}
    assert json.loads((args.save / "dev.json").read_text()) == wer
    assert {(recipe.seed, recipe.train.steps) for recipe in asked.values()} == {(3, args.student_steps)}
    planned = {labels["method"]: name for name, _, labels in bench.plan(args, "short", {DELAYED: 1, "SKD": 0})}
    assert planned[DELAYED].endswith("-1-seed1")  # of the last seed: the setting chosen with the first
    assert planned["SKD"].endswith("-0-seed1")


def test_students_of_one_seed_train_side_by_side_and_finished_ones_are_left_out(bench, options, monkeypatch):
    args = options("--methods", DELAYED, "interpolation", "--seeds", "1", "2")
    ran = []
    monkeypatch.setattr(bench, "run_steps", lambda steps, *_: ran.extend(steps))
    runs = [(name, overrides) for name, overrides, _ in bench.plan(args, "short", {})]
    bench.train(args, runs, "short")
    sweeps = {step.name: load_sweep(Path(step.arguments[1])) for step in ran}
    assert {name for sweep in sweeps.values() for name in sweep} == {name for name, _ in runs}
    for sweep in sweeps.values():
        assert len({recipe.seed for recipe in sweep.values()}) == 1
    assert sorted(len(sweep) for sweep in sweeps.values()) == [1, 1, 2, 2]  # several teachers train apart
    assert all(step.arguments[2:] == ("-o", str(args.output / "students")) for step in ran)
    for name in next(iter(sweeps.values())):
        (args.output / "students" / name).mkdir(parents=True)
        (args.output / "students" / name / "run.json").write_text("{}")
    ran.clear()
    bench.train(args, runs, "short")
    assert {step.name for step in ran} == set(list(sweeps)[1:])


# ---- what is said of the results

WORDS = ("one two", "three four", "five six", "seven eight")


def write_rows(folder: Path, wrong: int, frames: tuple[int, int]) -> None:
    """Four utterances of two words; the first ``wrong`` words are wrong; spikes at ``frames``."""
    folder.mkdir(parents=True)
    rows = []
    for number, text in enumerate(WORDS):
        words = text.split()
        heard = ["x" if 2 * number + place < wrong else word for place, word in enumerate(words)]
        rows.append({"id": f"u{number}", "ref": text, "hyp": " ".join(heard), "snr_db": 5.0, "frames": list(frames)})
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def part(bench, options):
    """A finished part: labels only has 2 and 4 of 8 words wrong, the other method 1 and none, 3 frames late."""
    args = options("--seeds", "1", "2", "--methods", DELAYED)
    write_rows(args.output / "teachers" / "conventional", 1, (4, 9))
    runs = [(name, labels) for name, _, labels in bench.plan(args, "short", {})]
    for name, labels in runs:
        wrong = {("labels only", 1): 2, ("labels only", 2): 4, (DELAYED, 1): 1, (DELAYED, 2): 0}
        late = 3 if labels["method"] == DELAYED else 5
        write_rows(args.output / "students" / name, wrong[labels["method"], labels["seed"]], (4 + late, 9 + late))
    return args, runs


def test_lines_add_up_rows(scores, part):
    labels, taught = scores.lines_of(*part)
    assert (labels.method, taught.method) == ("labels only", DELAYED)
    assert (labels.wer, taught.wer) == ([25.0, 50.0], [12.5, 0.0])
    assert (labels.mean, taught.mean) == (37.5, 6.25)
    assert labels.spread == pytest.approx(np.std([25, 50], ddof=1))
    assert taught.lookahead_ms == 160
    assert labels.against_labels is None
    difference, low, high = taught.against_labels
    assert difference == pytest.approx(6.25 - 37.5)  # negative: better than labels only
    assert low <= difference <= high
    assert taught.interval[0] <= 6.25 <= taught.interval[1]
    assert (labels.later_ms, taught.later_ms) == (200, 120)


def test_the_difference_is_paired(scores, part):
    """Errors in the same utterances: a difference that does not vary has no width."""
    args, runs = part
    for name, labels in runs:
        folder = args.output / "students" / name
        rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
        for row in rows:
            row["hyp"] = row["ref"].split()[0] + (" x" if labels["method"] == "labels only" else " x y")
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, taught = scores.lines_of(args, runs)
    assert taught.against_labels == pytest.approx((50, 50, 50))


def test_the_table_says_what_the_lines_say(scores, part):
    args, runs = part
    text = scores.table(scores.lines_of(args, runs), args.student_steps, args.batch_size)
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines() if row.startswith("| ")}
    assert f"{args.student_steps} updates of {args.batch_size} strings" in text
    assert "| 25.00 / 50.00 | 37.50 ± 17.68 | - | - | 200 ms |" in rows["labels only"]
    assert "| 12.50 / 0.00 | 6.25 ± 8.84 | -31.25 (" in rows[DELAYED]
    assert "| -83 % | 120 ms |" in rows[DELAYED]
    assert {row.count("|") for row in rows.values()} == {8}


def test_what_is_kept_of_a_part(scores, part, capsys):
    args, runs = part
    scores.save_part(args, "short", runs)
    assert {file.name for file in args.save.iterdir()} == {"short.md", "short.json", "short.rows.jsonl.gz", "short.svg"}
    table = (args.save / "short.md").read_text()
    assert table.strip() == capsys.readouterr().out.strip()
    numbers = json.loads((args.save / "short.json").read_text())
    assert [line["mean"] for line in numbers] == [37.5, 6.25]
    rows = [json.loads(line) for line in gzip.decompress((args.save / "short.rows.jsonl.gz").read_bytes()).splitlines()]
    assert len(rows) == len(WORDS) * len(runs)
    assert {(row["method"], row["seed"], row["lookahead"]) for row in rows} == {
        (method, seed, 4) for method, seed in product(("labels only", DELAYED), (1, 2))
    }
    picture = ElementTree.parse(args.save / "short.svg").getroot()
    assert picture.tag.endswith("svg")
    assert DELAYED in (args.save / "short.svg").read_text()


def test_runs_that_are_scored_are_not_scored_again(scores, part):
    """Nothing but rows is there: a network could not be read."""
    args, runs = part
    folders = [args.output / "students" / name for name, _ in runs]
    before = [(folder / "test.jsonl").stat().st_mtime_ns for folder in folders]
    scores.score_runs(folders, args.output / "data" / "test.jsonl")
    assert [(folder / "test.jsonl").stat().st_mtime_ns for folder in folders] == before


@pytest.mark.parametrize("name", ["bench-distill", "bench-sentences", "bench-digits"])
def test_make_knows_the_benchmarks(name):
    help_text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in help_text.splitlines() if line.split()[:2] == ["make", name]]
    assert len(line.split()) > 6
    planned = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"benchmarks/{name.replace('-', '_')}.py" in planned
    assert (ROOT / "benchmarks" / f"{name.replace('-', '_')}.py").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_the_noise_to_the_table(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    rng, lines = np.random.default_rng(0), []
    for split in ("train", "test"):
        soundfile.write(tmp_path / f"{split}.flac", 0.1 * rng.standard_normal(16000), 8000)
        lines.append(json.dumps({"audio_filepath": f"{split}.flac", "noise_type": "hiss", "split": split}))
    (tmp_path / "noise.jsonl").write_text("\n".join(lines))
    words = ["--noise", str(tmp_path / "noise.jsonl"), "--output", str(tmp_path / "out"), "--parts", "short"]
    words += ["--save", str(tmp_path / "save"), "--seeds", "1", "2", "--methods", DELAYED, "guided CTC"]
    few = ["teacher", "member", "student"]
    assert bench.main([*words, *(word for kind in few for word in (f"--{kind}-steps", "2"))]) == 0
    lines = json.loads((tmp_path / "save" / "short.json").read_text())
    assert [line["method"] for line in lines] == ["labels only", DELAYED, "guided CTC"]
    assert {len(line["wer"]) for line in lines} == {2}
    rows = gzip.decompress((tmp_path / "save" / "short.rows.jsonl.gz").read_bytes()).splitlines()
    assert len(rows) == 300 * 3 * 2
