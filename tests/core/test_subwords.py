"""Subwords: learned from texts, written into the token table, read back from it alone."""

from __future__ import annotations

import json
import string
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from kdcompress.data.speech import speech_items
from kdcompress.data.subwords import train_subwords
from kdcompress.data.text import Encoder, encode, unit_vocabulary
from kdcompress.distill import fit
from kdcompress.errors import RecipeError, VocabularyError
from kdcompress.recipe_file import load_recipe
from kdcompress.run import load_run
from kdcompress_runtime.decoders import DecoderOptions, build_decoder
from kdcompress_runtime.errors import MissingDependencyError
from kdcompress_runtime.subwords import split_word
from kdcompress_runtime.vocabulary import Vocabulary

TEXTS = (
    "the hen hears the thin hare",
    "she sells the other shells there",
    "banana bandana anna can",
    string.ascii_lowercase,
)
SUBWORDS = "data={train: %s, dev: %s, units: subwords, subwords: 6}"

letters = st.text(alphabet="abcens", min_size=1, max_size=8)
corpora = st.lists(st.lists(letters, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=6)


def vocabulary_of(count: int) -> Vocabulary:
    return unit_vocabulary(TEXTS, "subwords", count)


def most(texts) -> int:
    """As many subwords as the texts give, from the error's own words."""
    with pytest.raises(VocabularyError, match="too few for more than") as problem:
        train_subwords(texts, 10_000)
    return int(str(problem.value).partition("more than ")[2].partition(";")[0])


def test_characters_come_first_then_merges_in_their_order():
    symbols = vocabulary_of(40).symbols
    assert symbols[0] == "<blk>"
    assert list(symbols[1:28]) == [*string.ascii_lowercase, "▁"]
    assert len(symbols) == 41
    for place, symbol in enumerate(symbols[28:], start=28):
        assert any(symbol[:i] in symbols[:place] and symbol[i:] in symbols[:place] for i in range(1, len(symbol)))
    assert "▁the" in symbols


def test_a_word_begins_with_the_separator_and_frequent_pieces_are_one_token():
    vocabulary = vocabulary_of(40)
    symbols = [vocabulary.symbols[i] for i in encode("  the   zen ", vocabulary, units="subwords")]
    assert symbols[0] == "▁the"
    assert symbols[1:3] == ["▁", "z"]


@given(corpora, st.lists(letters, max_size=5).map(" ".join))
def test_any_text_comes_back_and_is_encoded_as_tokenizers_does(texts, text):
    words = ["▁" + word for line in texts for word in line.split()]
    theirs = Tokenizer(models.BPE())
    theirs.train_from_iterator(words, trainers.BpeTrainer(vocab_size=64, show_progress=False))
    size = theirs.get_vocab_size()
    known = "".join(c for c in text if c == " " or c in "".join(texts))
    vocabulary = unit_vocabulary(texts, "subwords", size)
    read = Vocabulary.loads(vocabulary.dumps())
    ids = encode(known, read, units="subwords")
    assert read.text(ids) == " ".join(known.split())
    expected = [token for word in known.split() for token in theirs.encode("▁" + word).tokens]
    assert [read.symbols[i] for i in ids] == expected


def test_the_same_texts_give_the_same_symbols_in_any_order():
    assert train_subwords(TEXTS, 45) == train_subwords(reversed(TEXTS), 45)


def test_equal_merges_go_from_the_left():
    assert split_word("▁aaaaa", {"▁": 1, "a": 2, "aa": 3}) == ["▁", "aa", "aa", "a"]


def test_a_repeated_word_is_encoded_as_the_first_time():
    encoder = Encoder(vocabulary_of(40), "subwords")
    assert encoder("the the the") == encoder("the") * 3


def test_too_few_texts_and_too_few_symbols_say_how_many_there_are():
    count = most(TEXTS)
    assert len(train_subwords(TEXTS, count)) == count
    with pytest.raises(VocabularyError, match=r"data\.subwords is 20, .* have 27 characters with ▁"):
        train_subwords(TEXTS, 20)
    assert train_subwords(TEXTS, 27) == [*string.ascii_lowercase, "▁"]
    with pytest.raises(VocabularyError, match="all empty"):
        train_subwords(["", " "], 20)


def test_a_character_outside_the_alphabet_is_named():
    with pytest.raises(VocabularyError, match="item 7: 'ß' in 'the ßen'"):
        encode("the ßen", vocabulary_of(40), "item 7", "subwords")


def test_without_the_package_the_error_names_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[train\]"):
        train_subwords(TEXTS, 40)
    assert split_word("▁ab", {"ab": 1}) == ["▁", "ab"]


@pytest.mark.parametrize("kind", ["greedy", "beam", "pyctcdecode"])
def test_decoders_join_pieces_to_words(kind):
    vocabulary = vocabulary_of(40)
    text = "the zen hare"
    path = [label for i in encode(text, vocabulary, units="subwords") for label in (i, i, 0)]
    log_probs = np.full((len(path), len(vocabulary)), -9.0, np.float32)
    log_probs[np.arange(len(path)), path] = -0.005
    decoder = build_decoder(DecoderOptions(kind=kind), vocabulary)
    best = decoder.best(decoder.advance(decoder.init_state(), log_probs))
    assert vocabulary.text(best.token_ids) == text


def test_training_takes_subwords_and_a_teacher_shares_them(make_recipe, corpus, tmp_path):
    data = SUBWORDS % (corpus["train"], corpus["dev"])
    recipe = make_recipe("conventional", data, steps=2)
    summary = fit(recipe, tmp_path / "teacher")
    assert {"wer", "cer"} < summary["dev"].keys()
    assert fit(recipe, tmp_path / "teacher") == summary
    assert load_recipe(tmp_path / "teacher" / "recipe.yaml") == recipe
    run = load_run(tmp_path / "teacher")
    assert len(run.vocabulary) == 7
    items = speech_items(run.recipe.data.dev, run.recipe, run.vocabulary, 320)
    assert [run.vocabulary.text(item.labels) for item in items] == [item.entry.text for item in items]
    taught = [f"distill.teachers={tmp_path / 'teacher'}", "losses=[{kind: frame_kl}]"]
    # With a teacher the count of the recipe does not matter: more than the texts give is no error.
    student = make_recipe("student", data.replace("subwords: 6", "subwords: 500"), *taught, steps=2)
    fit(student, tmp_path / "student")
    assert load_run(tmp_path / "student").vocabulary == run.vocabulary
    bridged = fit(make_recipe("student", *taught, steps=2), tmp_path / "characters")["teachers"][0]["bridged"]
    assert "spelled in the student's characters" in " ".join(bridged)
    own = fit(make_recipe("student", taught[0], steps=2), tmp_path / "default")["teachers"][0]["bridged"]
    assert "best texts" in " ".join(own)


def test_too_many_subwords_end_before_the_first_update(make_recipe, corpus, tmp_path):
    data = (SUBWORDS % (corpus["train"], corpus["dev"])).replace("subwords: 6", "subwords: 600")
    with pytest.raises(VocabularyError, match="too few for more than"):
        fit(make_recipe("student", data, steps=1), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_count_without_subwords_is_an_error_and_is_not_written(make_recipe):
    with pytest.raises(RecipeError, match="subwords is 300, but units is characters"):
        make_recipe("student", "data.subwords=300")
    assert "subwords" not in make_recipe("student").dumps()
    written = make_recipe("student", "data.units=subwords").dumps()
    assert "subwords: 256" in written
    assert json.loads(make_recipe("student", "data.units=subwords").model_dump_json())["data"]["subwords"] == 256
