"""The benchmark of teachers that do not match: valid recipes, equal terms, everything made before its use."""

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


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("bench_mismatch")


@pytest.fixture
def sources(tmp_path):
    """Noise, and four sentences of noise a split."""
    rng = np.random.default_rng(1)
    noises = []
    for split in ("train", "dev", "test"):
        soundfile.write(tmp_path / f"{split}.wav", 0.1 * rng.standard_normal(40000), 16000)
        noises.append({"audio_filepath": f"{split}.wav", "noise_type": "hiss", "split": split})
    (tmp_path / "noise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in noises))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "lexicon.txt").write_text(LEXICON)
    for split in ("train", "dev", "test"):
        rows = []
        for number, text in enumerate(("a cat", "the cat runs", "runs", "the cat")):
            name = f"{split}{number}.wav"
            soundfile.write(corpus / name, 0.1 * rng.standard_normal(20000 + 500 * number), 16000)
            rows.append({"audio_filepath": name, "text": text, "speaker": split, "utt_id": name[:-4]})
        (corpus / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--noise", str(tmp_path / "noise.jsonl"), "--sentences", str(corpus), "--digits", str(ROOT / "data/fsdd")]


@pytest.fixture
def args(bench, sources, tmp_path):
    return bench.parse([*sources, "--output", str(tmp_path / "out"), "--seeds", "1", "2"])


def test_without_the_data_it_says_what_is_missing(bench, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--noise", str(tmp_path / "none"), "--sentences", str(tmp_path)])
    assert stop.value.code == 1
    assert "name the data with --noise and --sentences" in capsys.readouterr().err


def test_students_of_a_part_differ_in_what_they_learn_from_alone(bench, args):
    names = []
    for name, part in bench.PARTS.items():
        labels = dict(bench.students(args, name, part))
        for seed, step in zip(args.seeds, bench.student_steps(args, name, part), strict=True):
            recipes = load_sweep(Path(step.arguments[1]))
            assert set(recipes) == {run for run, said in labels.items() if said["seed"] == seed}
            names += recipes
            dumped = [recipe.model_dump(exclude={"name", "distill", "losses"}) for recipe in recipes.values()]
            assert all(one == dumped[0] for one in dumped)
            for run, recipe in recipes.items():
                assert (recipe.seed, recipe.train.steps) == (seed, part.updates)
                assert recipe.model.lookahead_frames == part.lookahead
                teacher = part.methods[labels[run]["method"]][0]
                folder = args.output / ("stores" if teacher in bench.STORES else "teachers") / teacher
                assert (recipe.distill.teachers if recipe.distill else ()) == ((folder,) if teacher else ())
    assert len(set(names)) == len(names) == 2 * sum(len(part.methods) for part in bench.PARTS.values())


def test_everything_is_made_before_it_is_used(bench, args):
    teachers = {step.name: step for step in bench.teacher_steps(args, bench.PARTS)}
    stores = {step.name: step for step in bench.store_steps(args, bench.PARTS)}
    assert {step.name for step in bench.data_steps(args, bench.PARTS)} >= {"data digits", "data phones"}
    assert teachers["sentences-subwords500"].after == ("data sentences", "sentences-phones")
    for name, store in bench.STORES.items():
        assert stores[f"labels {name}"].after == (store.teacher,)
        assert store.teacher in teachers
    for part in bench.PARTS.values():
        assert all(name in teachers or f"labels {name}" in stores for name in part.taught_by())


def test_stores_are_labelled_as_their_teachers_read(bench, args):
    for step in bench.store_steps(args, bench.PARTS):
        words = list(step.arguments)
        settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        teacher = bench.TEACHERS[Path(words[words.index("--teacher") + 1]).name]
        recipe = load_recipe(words[1], settings)
        trained = load_recipe(teacher.recipe, list(teacher.settings))
        assert (recipe.data.units, recipe.data.subwords) == (trained.data.units, trained.data.subwords)
        assert recipe.label is not None


def test_a_pair_is_trained_alone(bench, sources, tmp_path):
    words = ["--pair", "stored in full", "stored, 8 tokens", "--output", str(tmp_path / "out")]
    args = bench.parse([*sources, *words, "--seeds", "1"])
    (step,) = bench.student_steps(args, "digits", bench.PARTS["digits"])
    assert len(load_sweep(Path(step.arguments[1]))) == 2


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_from_the_data_to_the_tables(bench, sources, tmp_path):
    words = [*sources, "--output", str(tmp_path / "out"), "--save", str(tmp_path / "save")]
    assert bench.main([*words, "--updates", "1", "--batch-size", "2", "--seeds", "1", "--parts", "delay"]) == 0
    lines = json.loads((tmp_path / "save" / "delay.json").read_text())
    assert [line["method"] for line in lines] == list(bench.PARTS["delay"].methods)
    rows = gzip.decompress((tmp_path / "save" / "delay.rows.jsonl.gz").read_bytes()).splitlines()
    assert len(rows) % len(lines) == 0
    assert "<svg" in (tmp_path / "save" / "delay.svg").read_text()
