"""The benchmark of sentences: valid recipes, equal terms, the teacher that each method names, tables at the end."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdcompress.recipe_file import load_recipe
from kdcompress.sweep import load_sweep

ROOT = Path(__file__).parents[2]
LEXICON = "A\tEY0\nCAT\tK AE1 T\nRUNS  R AH1 N Z\nTHE  DH AH0\n"
TEXTS = ("a cat", "the cat runs", "runs", "the cat")
TAUGHT_BY = {
    "labels only": None,
    "in-place oracle": None,
    "conventional teacher": "conventional",
    "Oracle Teacher": "oracle",
    "narrowband teacher": "narrowband",
    "broadband teacher": "conventional",
}


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("bench_sentences")


@pytest.fixture
def corpus(tmp_path):
    """Four sentences of noise a split."""
    folder, rng = tmp_path / "corpus", np.random.default_rng(1)
    folder.mkdir()
    (folder / "lexicon.txt").write_text(LEXICON)
    for split in ("train", "dev", "test"):
        rows = []
        for number, text in enumerate(TEXTS):
            name = f"{split}{number}.wav"
            soundfile.write(folder / name, 0.1 * rng.standard_normal(20000 + 500 * number), 16000)
            rows.append({"audio_filepath": name, "text": text, "speaker": split, "utt_id": name[:-4]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def args(bench, corpus, tmp_path):
    return bench.parse(["--source", str(corpus), "--output", str(tmp_path / "out"), "--seeds", "1", "2"])


def test_without_the_corpus_it_says_what_is_missing(bench, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--source", str(tmp_path)])
    assert stop.value.code == 1
    assert "name the corpus with --source" in capsys.readouterr().err


def test_ctrl_c_and_an_error_have_their_codes(bench, args, monkeypatch, capsys):
    from kdcompress.errors import StepError

    words = ["--source", str(args.source), "--output", str(args.output)]
    for problem, code in ((StepError("step 'data' failed"), 1), (KeyboardInterrupt(), 130)):

        def fail(*arguments, problem=problem):
            raise problem

        monkeypatch.setattr(bench, "run_steps", fail)
        assert bench.main(words) == code
    assert "error: step 'data' failed" in capsys.readouterr().err


def test_students_of_a_part_differ_in_what_they_learn_from_alone(bench, args):
    names = []
    for part in bench.PARTS:
        labels = dict(bench.students(args, part))
        steps = bench.student_steps(args, part)
        assert [step.name for step in steps] == [f"{part} seed {seed}" for seed in args.seeds]
        for seed, step in zip(args.seeds, steps, strict=True):
            recipes = load_sweep(Path(step.arguments[1]))
            assert set(recipes) == {name for name, said in labels.items() if said["seed"] == seed}
            names += recipes
            dumped = [recipe.model_dump(exclude={"name", "distill", "losses"}) for recipe in recipes.values()]
            assert all(one == dumped[0] for one in dumped)
            for name, recipe in recipes.items():
                assert (recipe.seed, recipe.train.steps) == (seed, args.student_steps)
                assert (recipe.train.batch_size, recipe.data.units) == (args.batch_size, "words")
                assert recipe.model.lookahead_frames == bench.LOOKAHEAD_FRAMES
                teacher = TAUGHT_BY[labels[name]["method"]]
                found = recipe.distill.teachers if recipe.distill else ()
                assert found == ((args.output / "teachers" / teacher,) if teacher else ())
    assert len(set(names)) == len(names) == 2 * sum(len(methods) for _, methods in bench.PARTS.values())


def test_teachers_hear_what_their_names_say(bench, args):
    steps = {step.name: step for step in bench.teacher_steps(args)}
    assert set(steps) >= {teacher for teacher in TAUGHT_BY.values() if teacher}
    assert all(step.after == ("data",) for step in steps.values())
    updates = {name: args.oracle_steps if name == "oracle" else args.teacher_steps for name in steps}
    assert {name: step.updates for name, step in steps.items()} == updates
    rates = {name: load_recipe(bench.TEACHERS[name]).frontend.sample_rate for name in steps}
    assert (rates["conventional"], rates["oracle"], rates["narrowband"]) == (16000, 16000, 8000)
    assert [load_recipe(bench.PARTS[part][0]).frontend.sample_rate for part in ("wide", "narrow")] == [16000, 8000]


def test_data_are_made_once(bench, args):
    (step,) = bench.data_step(args)
    assert step.arguments[:2] == ("prepare", "sentences")
    assert "phones" in step.arguments
    (args.output / "data").mkdir(parents=True)
    (args.output / "data" / "test.jsonl").write_text("")
    assert bench.data_step(args) == []
    assert not any(step.after for step in bench.teacher_steps(args))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_the_corpus_to_the_tables(bench, corpus, tmp_path):
    words = ["--source", str(corpus), "--output", str(tmp_path / "out"), "--save", str(tmp_path / "save")]
    few = ["--teacher-steps", "1", "--oracle-steps", "1", "--student-steps", "1", "--batch-size", "2", "--seeds", "1"]
    assert bench.main([*words, *few]) == 0
    for part, (_, methods) in bench.PARTS.items():
        lines = json.loads((tmp_path / "save" / f"{part}.json").read_text())
        assert [line["method"] for line in lines] == list(methods)
        assert {line["lookahead_ms"] for line in lines} == {320}
        rows = gzip.decompress((tmp_path / "save" / f"{part}.rows.jsonl.gz").read_bytes()).splitlines()
        assert len(rows) == len(TEXTS) * len(methods)
        assert "<svg" in (tmp_path / "save" / f"{part}.svg").read_text()
