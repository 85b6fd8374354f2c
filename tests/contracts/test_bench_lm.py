"""The benchmark of language models: equal terms but for what is learned from, all made before its use, a table."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from kdcompress.recipe_file import load_recipe
from kdcompress.sweep import load_sweep

LEXICON = "A\tEY0\nCAT\tK AE1 T\nRUNS  R AH1 N Z\nTHE  DH AH0\n"
TEXTS = ("a cat", "the cat runs", "runs", "the cat")
FAST = ["--updates", "2", "--aligner-updates", "2", "--start-updates", "2", "--text-updates", "3", "--batch-size", "2"]


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("bench_lm")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Four sentences of noise a split, and texts."""
    corpus = tmp_path_factory.mktemp("bench-lm") / "corpus"
    corpus.mkdir()
    rng = np.random.default_rng(1)
    (corpus / "lexicon.txt").write_text(LEXICON)
    (corpus / "text.txt").write_text("the cat runs\na cat\nruns a cat\nthe cat the cat\n" * 20)
    for split in ("train", "dev", "test"):
        rows = []
        for number, text in enumerate(TEXTS):
            name = f"{split}{number}.wav"
            soundfile.write(corpus / name, 0.1 * rng.standard_normal(40000 + 500 * number), 16000)
            rows.append({"audio_filepath": name, "text": text, "speaker": split, "utt_id": name[:-4]})
        (corpus / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--sentences", str(corpus), "--text", str(corpus / "text.txt"), "--an4", str(corpus)]


def test_without_the_data_it_says_what_is_missing(bench, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--sentences", str(tmp_path)])
    assert stop.value.code == 1
    assert "name the data with --sentences, --an4 and --text" in capsys.readouterr().err


def test_an_unknown_method_is_refused(bench, sources, tmp_path):
    with pytest.raises(SystemExit, match="there is no method 'magic'; there are: labels only"):
        bench.main([*sources, "--output", str(tmp_path), "--methods", "magic"])


@pytest.mark.parametrize("name", ["sentences", "an4"])
def test_students_of_a_part_differ_in_what_they_learn_from_alone(bench, sources, tmp_path, name):
    args = bench.parse([*sources, "--output", str(tmp_path), "--seeds", "1", "2"])
    job = bench.Job(args, name, bench.PARTS[name])
    steps = job.students()
    assert len(steps) == 2
    for step in steps:
        recipes = load_sweep(next(path for path in job.folder.glob("sweeps/*.yaml") if path.name in step.arguments[1]))
        assert len(recipes) == len(job.methods) == 16
        left_out = {"name", "losses", "distill"}
        terms = [recipe.model_dump(exclude=left_out) for recipe in recipes.values()]
        assert all(one == terms[0] for one in terms)
        assert sum(recipe.distill is None for recipe in recipes.values()) == 1
    directions = {model.partition("-")[2] for model in job.models()}
    assert directions == {"", "masked"}


def test_the_layers_are_there(bench):
    for part in bench.PARTS.values():
        recipe = load_recipe(part.recipe)
        assert max(part.layers.values()) < recipe.model.resolved().depth
        assert list(part.layers.values()) == sorted(part.layers.values())


@pytest.mark.slow
def test_from_the_data_to_the_table(bench, sources, tmp_path, monkeypatch, capsys):
    """Some of the methods, two seeds, everything for a few updates; a second call does nothing anew."""
    part = bench.PARTS["sentences"]
    settings = [one.replace("256", "12") for one in part.settings]
    small = type(part)(**{**vars(part), "settings": tuple(settings), "senones": 12})
    monkeypatch.setitem(bench.PARTS, "sentences", small)
    chosen = ["--methods", "label interpolation 0.3", "heads: all three", "states: subwords, masked"]
    call = [*sources, *FAST, "--parts", "sentences", "--seeds", "1", "2", *chosen]
    call += ["--output", str(tmp_path / "out"), "--save", str(tmp_path / "saved")]
    bench.main(call)
    table = capsys.readouterr().out
    for method in ("labels only", *chosen[1:]):
        assert f"| {method} |" in table
    saved = json.loads((tmp_path / "saved" / "sentences.json").read_text())
    assert [len(line["rates"]["wer"]) for line in saved] == [2] * 4
    assert (tmp_path / "saved" / "sentences.rows.jsonl.gz").is_file()
    before = {path: path.stat().st_mtime for path in (tmp_path / "out").rglob("model.safetensors")}
    bench.main(call)
    assert before == {path: path.stat().st_mtime for path in (tmp_path / "out").rglob("model.safetensors")}
