"""Training: the same from seed and step, resumed exactly, measured against n-grams; every mistake is one sentence."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcompress.errors import RecipeError, RunError, TextModelError, VocabularyError
from kdcompress.lm.language_model import LmOptions, estimate
from kdcompress.metrics import read_metrics
from kdcompress.text_models.corpus import read_texts
from kdcompress.text_models.fit import fit_text_model
from kdcompress.text_models.measuring import measure_texts
from kdcompress.text_models.opening import open_text_model
from kdcompress.text_models.recipe import is_text_recipe, load_text_recipe, packaged_text_recipes
from kdcompress.units.characters import CharacterInventory
from kdcompress_runtime.errors import LanguageModelError, ManifestError
from kdcompress_runtime.vocabulary import Vocabulary
from tests.core.text_models.conftest import DEV, KINDS, TRAIN

NETWORKS = [kind for kind in KINDS if kind != "ngram"]


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_killed_run_goes_on_to_the_same_weights(text_recipe, runs, tmp_path, kind):
    def kill(step, steps, scalars):
        if step == 8:
            raise Stop

    recipe = text_recipe(kind)
    with pytest.raises(Stop):
        fit_text_model(recipe, tmp_path / "run", kill)
    with pytest.raises(TextModelError, match="unfinished; repeat the command"):
        open_text_model(tmp_path / "run")
    steps = []
    summary = fit_text_model(recipe, tmp_path / "run", lambda step, *_: steps.append(step))
    assert steps == list(range(6, 13))
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (runs[kind], tmp_path / "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert open_text_model(runs[kind]).fingerprint == open_text_model(tmp_path / "run").fingerprint
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 13))
    assert fit_text_model(recipe, tmp_path / "run") == summary


def test_ctrl_c_writes_a_checkpoint(text_recipe, runs, tmp_path):
    import os
    import signal

    def press(step, steps, scalars):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_text_model(text_recipe("causal_lstm"), tmp_path / "run", press)
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    fit_text_model(text_recipe("causal_lstm"), tmp_path / "run")
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (runs["causal_lstm"], tmp_path / "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_learns_and_keeps_the_best(text_recipe, tmp_path):
    summary = fit_text_model(
        text_recipe("causal_lstm", "train.steps=150", "train.learning_rate=0.03"), tmp_path / "run"
    )
    assert summary["dev"]["perplexity"] < 3.5
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "dev_loss" in row]
    assert summary["best_step"] == min(rows, key=lambda row: row["dev_loss"])["step"]
    assert summary["ngram"]["perplexity"] > 1
    assert summary["dev_unknown_words"] == 0


def test_measurements_by_hand(runs):
    model = open_text_model(runs["ngram"])
    spelled = [model.inventory.spell(text) for text in DEV]
    measured = measure_texts(model, spelled, DEV)
    nats = 0.0
    for text, scores in zip(spelled, model.score([one.ids for one in spelled]), strict=True):
        nats -= sum(float(scores.log_probs[place, unit]) for place, unit in enumerate(text.ids))
    assert measured["perplexity"] == pytest.approx(2.718281828 ** (nats / 22), rel=1e-3)
    assert measured["bits_per_character"] == pytest.approx(nats / 0.6931 / sum(map(len, DEV)), rel=1e-3)
    assert measured["words"] == 7
    assert json.loads((runs["ngram"] / "run.json").read_text())["dev"] == measured


def test_n_grams_from_elsewhere_with_their_units(texts, tmp_path):
    vocabulary = Vocabulary.from_symbols([*"abcd", "▁"])
    estimate([texts / "train.txt"], tmp_path / "lm.arpa", LmOptions(order=3, unit="token", vocabulary=vocabulary))
    with pytest.raises(TextModelError, match=r"no lm.arpa.units.json beside it"):
        open_text_model(tmp_path / "lm.arpa")
    units = tmp_path / "lm.arpa.units.json"
    inventory = CharacterInventory.from_vocabulary(vocabulary)
    units.write_text(json.dumps(inventory.to_json()), encoding="utf-8")
    model = open_text_model(tmp_path / "lm.arpa")
    assert (model.kind, model.reads_both_ways, model.state_dim) == ("ngram", False, 0)
    assert model.score([[0, 1]])[0].log_probs.shape == (2, 5)
    units.write_text(json.dumps(CharacterInventory("xyz").to_json()), encoding="utf-8")
    with pytest.raises(TextModelError, match="knows none of the 3 characters"):
        open_text_model(tmp_path / "lm.arpa")


def test_units_of_a_student(text_recipe, tmp_path):
    vocabulary = Vocabulary.from_symbols(["▁", *"dcba"])
    (tmp_path / "tokens.txt").write_text(vocabulary.dumps(), encoding="utf-8")
    corpus = read_texts(text_recipe("ngram", f"text.tokens={tmp_path}").text)
    assert corpus.inventory.symbols == ("▁", "d", "c", "b", "a")
    (tmp_path / "tokens.txt").write_text(Vocabulary.from_symbols(["▁", *"abc"]).dumps(), encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"does not cover the text: it lacks the characters 'd'"):
        read_texts(text_recipe("ngram", f"text.tokens={tmp_path}").text)


def test_without_dev_equal_sentences_stay_on_one_side(text_recipe):
    corpus = read_texts(text_recipe("ngram", "text.dev=null").text)
    assert corpus.dev
    assert not set(corpus.train_texts) & set(corpus.dev_texts)
    assert set(corpus.train_texts) | set(corpus.dev_texts) == set(TRAIN)


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        (["text.train=EMPTY"], LanguageModelError, "holds no sentence"),
        (["text.dev=EMPTY"], LanguageModelError, "holds no sentence"),
        (["text.train=NOWHERE"], LanguageModelError, "text not found"),
        (["text.units=phones", "text.lexicon=LEXICON"], VocabularyError, "no pronunciation of 'bc'"),
        (["text.train=MANIFEST", "text.field=words"], ManifestError, "set text.field: text"),
        (["text.units=senones", "text.senones=NOWHERE"], VocabularyError, "senones not found"),
    ],
)
def test_bad_texts_are_one_sentence(text_recipe, tmp_path, overrides, error, sentence):
    files = {
        "EMPTY": "\n\n",
        "LEXICON": "".join(f"{word} {' '.join(word.upper())}\n" for word in ("ab", "cab", "bad", "dab", "ada")),
        "MANIFEST": '{"audio_filepath": "a.wav", "text": "ab"}\n',
    }
    changed = []
    for override in overrides:
        key, _, value = override.partition("=")
        if value in files or value == "NOWHERE":
            path = tmp_path / (value + (".jsonl" if value == "MANIFEST" else ".txt"))
            if value in files:
                path.write_text(files[value], encoding="utf-8")
            value = str(path)
        changed.append(f"{key}={value}")
    with pytest.raises(error, match=sentence) as problem:
        fit_text_model(text_recipe("ngram", *changed), tmp_path / "run")
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.kind=causal_lstn"], "model.kind: 'causal_lstn' is unknown"),
        (["model.widht=3"], "unknown key 'model.widht'; did you mean 'width'?"),
        (["text.units=phones"], "need a lexicon"),
        (["text.units=senones"], "need the file senones"),
        (["text.g2p=espeak"], "take no lexicon and no g2p"),
        (["text.subwords=99"], "set units to subwords"),
        (["model={kind: causal_transformer, width: 10, heads: 4}"], "heads must divide width"),
        (["train.stepz=3"], "did you mean 'steps'?"),
    ],
)
def test_bad_recipes_are_one_sentence(text_recipe, overrides, sentence):
    with pytest.raises(RecipeError) as problem:
        text_recipe("causal_lstm", *overrides)
    assert sentence in str(problem.value)
    assert "\n" not in str(problem.value)


def test_learned_positions_say_how_far_they_reach(text_recipe, runs, tmp_path):
    with pytest.raises(RecipeError, match=r"model\.most_units is 4"):
        fit_text_model(text_recipe("masked_transformer", "model.most_units=4"), tmp_path / "run")
    model = open_text_model(runs["masked_transformer"])
    with pytest.raises(TextModelError, match="a text of 65 units is longer than the 64"):
        model.score([[0] * 65])


def test_folders_that_are_no_language_model(runs, text_recipe, tmp_path):
    with pytest.raises(TextModelError, match="language model not found"):
        open_text_model(tmp_path / "nothing")
    with pytest.raises(TextModelError, match="no language model"):
        open_text_model(tmp_path)
    with pytest.raises(RunError, match="another recipe"):
        fit_text_model(text_recipe("causal_lstm", "seed=9"), runs["causal_lstm"])
    with pytest.raises(TextModelError, match="predicts 5 characters, not the 3 characters that are asked for"):
        open_text_model(runs["causal_lstm"], CharacterInventory("abc"))


@pytest.mark.parametrize("damage", ["nan", "cut", "units", "missing"])
def test_damaged_runs(runs, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(runs["causal_lstm"], folder)
    weights = folder / "model.safetensors"
    if damage == "nan":
        tensors = load_file(weights)
        tensors["bias"][0] = float("nan")
        save_file(tensors, weights)
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif damage == "missing":
        weights.unlink()
    else:
        (folder / "units.json").write_text(json.dumps(CharacterInventory("abc").to_json()), encoding="utf-8")
    with pytest.raises(TextModelError, match=r"train it again|repeat the command"):
        open_text_model(folder)


def test_recipes_are_told_apart(text_recipe, texts, tmp_path):
    recipe = text_recipe("masked_transformer")
    (tmp_path / "recipe.yaml").write_text(recipe.dumps(), encoding="utf-8")
    assert load_text_recipe(tmp_path / "recipe.yaml") == recipe
    assert is_text_recipe(tmp_path / "recipe.yaml")
    assert not is_text_recipe("digits-labels")
    assert not is_text_recipe(tmp_path / "nothing.yaml")
    for name in packaged_text_recipes():
        assert is_text_recipe(name)
        assert load_text_recipe(name).name == name
