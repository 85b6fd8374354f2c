"""N-gram models: the back-off rule, sentences, the hash table, which file is opened how."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_runtime.errors import (
    KdcompressError,
    LanguageModelError,
    LanguageModelFormatError,
    LanguageModelNotFoundError,
    MissingDependencyError,
    OptionsError,
)
from kdcompress_runtime.lm import NgramModel, open_lm, packed, score_text
from kdcompress_runtime.lm.hashing import key_of, keys_of, slots_of, table_size
from kdcompress_runtime.lm.ngram import RepeatedNgramError, build

GOLDEN = Path(__file__).parents[1] / "golden" / "lm"
LN10 = math.log(10)
ARPA = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-2\t<unk>
-99\t<s>\t-0.5
-1\t</s>
-0.7\ta\t-0.3
-0.9\tb\t-0.2

\\2-grams:
-0.4\t<s> a\t-0.1
-0.6\ta b\t-0.25
-0.8\tb a
-0.35\tb </s>

\\3-grams:
-0.15\t<s> a b
-0.05\ta b </s>

\\end\\
"""
"""With numbers that a person can add up."""


@pytest.fixture
def model(tmp_path: Path) -> NgramModel:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA)
    model = open_lm(path)
    assert isinstance(model, NgramModel)
    return model


@pytest.mark.parametrize(
    ("context", "word", "log10"),
    [
        ("", "a", -0.7),
        ("a", "b", -0.6),
        ("a", "a", -0.3 - 0.7),
        ("<s> a", "b", -0.15),
        ("<s> a", "a", -0.1 - 0.3 - 0.7),
        ("a b", "a", -0.25 - 0.8),
        ("a b", "b", -0.25 - 0.2 - 0.9),
        ("b a", "b", -0.6),  # "b a" has no back-off
        ("b b", "</s>", -0.35),  # "b b" is not held: nothing to pay
        ("a b", "zebra", -0.25 - 0.2 - 2),
        ("zebra", "a", -0.7),
        ("zebra a", "b", -0.6),
        ("b a <s> a", "b", -0.15),  # what is older than order - 1 words does not matter
    ],
)
def test_back_off_rule(model, context, word, log10):
    ids = tuple(model.ids.get(w, 0) for w in context.split())
    assert model.score(ids, model.ids.get(word, 0)) == pytest.approx(log10 * LN10, rel=1e-6)


def test_sentences_with_and_without_their_ends(model):
    assert model.score_sentence(["a", "b"]) == pytest.approx((-0.4 - 0.15 - 0.05) * LN10, rel=1e-6)
    assert model.score_sentence(["a", "b"], eos=False) == pytest.approx((-0.4 - 0.15) * LN10, rel=1e-6)
    assert model.score_sentence(["a", "b"], bos=False) == pytest.approx((-0.7 - 0.6 - 0.05) * LN10, rel=1e-6)
    assert model.score_sentence([], bos=False, eos=False) == 0


def test_perplexity_counts_ends_and_unknown_words(model):
    score = score_text(model, [["a", "b"], [], ["zebra"]])
    zebra = -0.5 - 2
    total = (-0.4 - 0.15 - 0.05 + zebra - 1) * LN10
    assert (score.sentences, score.words, score.unknown) == (2, 3, 1)
    assert score.log_prob == pytest.approx(total, rel=1e-6)
    assert score.oov_rate == pytest.approx(1 / 3)
    assert score.perplexity == pytest.approx(math.exp(-total / 5), rel=1e-6)
    assert score.perplexity_known == pytest.approx(math.exp(-(total - zebra * LN10) / 4), rel=1e-6)
    with pytest.raises(LanguageModelError, match="no sentence"):
        score_text(model, [[], []])


def test_tables_as_the_format_says(model):
    assert model.order == 3
    assert model.unit == "word"
    assert model.words == ("<unk>", "<s>", "</s>", "a", "b")
    assert (model.bos, model.eos) == (1, 2)
    assert model.unigrams() == pytest.approx(np.array([-2, -99, -1, -0.7, -0.9]) * LN10, rel=1e-6)
    assert model.ngrams == 11
    assert model.ngram((1, 3)) == pytest.approx((-0.4 * LN10, -0.1 * LN10), rel=1e-6)
    assert model.ngram((4,)) == pytest.approx((-0.9 * LN10, -0.2 * LN10), rel=1e-6)
    assert model.ngram((4, 4)) is None


def test_models_can_be_pickled_also_after_use(model):
    expected = model.score((1, 3), 4)
    assert pickle.loads(pickle.dumps(model)).score((1, 3), 4) == expected


def test_key_of_one_ngram_by_hand():
    def mix(value, word):
        value = (value * 0x9E3779B97F4A7C15 + word) % 2**64
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    assert key_of((7, 9)) == mix(mix((0x9E3779B97F4A7C15 + 2) % 2**64, 9 + 1), 7 + 1)


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=3, max_size=3), min_size=1, max_size=20))
def test_keys_of_many_are_keys_of_each(rows):
    assert keys_of(np.array(rows)).tolist() == [key_of(row) for row in rows]


@settings(max_examples=200)
@given(st.sets(st.integers(1, 2**64 - 1), max_size=40), st.booleans())
def test_linear_probing_finds_every_key(keys, crowded):
    array = np.array(sorted(keys), np.uint64)
    size = table_size(len(array))
    if crowded:  # all at home in the last two slots, so that they go on at the first
        array |= np.uint64(size - 2)
        array = np.unique(array)
        size = table_size(len(array))
    table = np.zeros(size, np.uint64)
    table[slots_of(array, size)] = array
    assert np.count_nonzero(table) == len(array)
    assert 2 * len(array) <= size
    for key in array.tolist():
        slot = key & (size - 1)
        while table[slot] not in {0, key}:
            slot = (slot + 1) & (size - 1)
        assert table[slot] == key


def test_no_model_with_an_ngram_twice_or_without_marks():
    words, unigrams = ["<unk>", "<s>", "</s>"], np.zeros((3, 2), np.float32)
    twice = (keys_of(np.array([[1, 2], [1, 2]])), np.zeros((2, 2), np.float32))
    with pytest.raises(RepeatedNgramError) as caught:
        build(2, "word", words, unigrams, [twice])
    assert caught.value.index == 1
    with pytest.raises(LanguageModelError, match="no </s>"):
        build(1, "word", ["<unk>", "<s>", "a"], unigrams, [])
    with pytest.raises(LanguageModelError, match="not finite"):
        build(1, "word", words, np.full((3, 2), np.nan, np.float32), [])
    with pytest.raises(OptionsError, match="letter"):
        build(1, "letter", words, unigrams, [])


def test_open_lm_looks_into_the_file(tmp_path, model):
    (tmp_path / "renamed.txt").write_bytes(packed.dumps(model))
    opened = open_lm(str(tmp_path / "renamed.txt"))
    assert opened.score((1, 3), 4) == model.score((1, 3), 4)
    assert open_lm(tmp_path / "small.arpa", unit="token").unit == "token"
    with pytest.raises(OptionsError, match="predicts a word at a time"):
        open_lm(tmp_path / "renamed.txt", unit="token")
    with pytest.raises(OptionsError, match="letter"):
        open_lm(tmp_path / "small.arpa", unit="letter")


def test_open_lm_says_what_is_wrong(tmp_path):
    with pytest.raises(LanguageModelNotFoundError, match=r"not found: .*absent.arpa"):
        open_lm(tmp_path / "absent.arpa")
    with pytest.raises(LanguageModelError, match="cannot be read"):
        open_lm(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(LanguageModelFormatError, match="not an ARPA file"):
        open_lm(tmp_path / "empty")
    assert issubclass(LanguageModelFormatError, KdcompressError)
    assert issubclass(LanguageModelFormatError, ValueError)
    assert issubclass(LanguageModelNotFoundError, FileNotFoundError)


def test_binary_of_kenlm_without_kenlm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(MissingDependencyError, match=r"install kdcompress\[lm\], or give the ARPA file"):
        open_lm(GOLDEN / "words-2-sri.trie.bin")


def test_package_of_language_models_is_not_imported_before_it_is_needed():
    loaded = "[m for m in sys.modules if 'kdcompress_runtime.lm' in m or m == 'kenlm']"
    script = f"import sys, kdcompress_runtime; print({loaded})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
