"""Units of a reference and their words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.aligning.spelled import Speller, matched
from kdcompress.data.lexicon import Lexicon
from kdcompress.errors import AlignmentError, VocabularyError
from kdcompress_runtime.manifest import ManifestEntry
from kdcompress_runtime.vocabulary import Vocabulary

SYMBOLS = {
    "characters": ["▁", "a", "b"],
    "subwords": ["▁", "a", "b", "▁a", "bb"],
    "words": ["▁a", "▁b", "▁x", "▁y"],
}


def spelled(units, text, lexicon=None, **extra):
    vocabulary = Vocabulary.from_symbols(SYMBOLS[units])
    return Speller.of(vocabulary, units, lexicon)(ManifestEntry("id", "x", text, extra=extra), "here")


@pytest.fixture
def lexicon(tmp_path):
    return Lexicon(tmp_path / "lexicon.txt", {"ab": "a b", "ba": "b a", "x": "x", "yx": "y x"})


def test_characters():
    found = spelled("characters", "ab  b a")
    assert "".join(found.units) == "ab▁b▁a"
    assert found.words == ("ab", "b", "a")
    assert found.word_of.tolist() == [0, 0, 0, 1, 1, 2]
    assert found.letters.tolist() == [True, True, False, True, False, True]


def test_subwords():
    found = spelled("subwords", "abb bb")
    assert found.units == ("▁a", "bb", "▁", "bb")
    assert found.word_of.tolist() == [0, 0, 1, 1]
    assert found.letters.tolist() == [True, True, False, True]


def test_words_are_their_own():
    found = spelled("words", "a b a")
    assert found.units == ("▁a", "▁b", "▁a")
    assert found.word_of.tolist() == [0, 1, 2]


def test_an_empty_text():
    for units in SYMBOLS:
        found = spelled(units, "")
        assert (found.labels, found.words, found.word_of.tolist()) == ((), (), [])


def test_phones_of_a_lexicon(lexicon):
    found = spelled("words", "a b b a x", lexicon, words="ab ba x")
    assert found.units == ("a", "b", "b", "a", "x")
    assert found.words == ("ab", "ba", "x")
    assert found.word_of.tolist() == [0, 0, 1, 1, 2]


def test_words_that_a_lexicon_says(lexicon):
    """A model of phones aligns a manifest of words."""
    found = spelled("words", "ab ba x", lexicon)
    assert found.units == ("a", "b", "b", "a", "x")
    assert found.words == ("ab", "ba", "x")
    assert found.word_of.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(VocabularyError, match="here: no pronunciation of 'unknown'"):
        spelled("words", "ab unknown", lexicon)
    assert spelled("words", "", lexicon).labels == ()


@pytest.mark.parametrize(
    ("text", "owners"),
    [("a b b x", [0, 0, 1, 2]), ("a b b a b x", [0, 0, 1, 1, 1, 2]), ("x b b a y", [0, 0, 1, 1, 2])],
)
def test_phones_that_are_not_quite_those_of_the_lexicon(lexicon, text, owners):
    assert spelled("words", text, lexicon, words="ab ba x").word_of.tolist() == owners


def test_phones_that_leave_a_word_without_any(lexicon):
    with pytest.raises(AlignmentError, match="here: the phones 'a b' are not those of 'ab x x'"):
        spelled("words", "a b", lexicon, words="ab x x")
    with pytest.raises(AlignmentError, match="are not those of 'ab'"):
        spelled("words", "", lexicon, words="ab")


def test_what_cannot_be_told(lexicon):
    with pytest.raises(AlignmentError, match="is not the words 'ab ba'; give the --lexicon"):
        spelled("words", "a b b a", words="ab ba")
    with pytest.raises(VocabularyError, match="no pronunciation of 'unknown'"):
        spelled("words", "a", lexicon, words="unknown")
    with pytest.raises(VocabularyError, match="here: 'c' in 'ac' is not in the vocabulary"):
        spelled("characters", "ac")


def slow_edits(found, expected) -> int:
    table = {(row, 0): row for row in range(len(found) + 1)} | {(0, column): column for column in range(99)}
    for row, column in itertools.product(range(1, len(found) + 1), range(1, len(expected) + 1)):
        change = table[row - 1, column - 1] + (found[row - 1] != expected[column - 1])
        table[row, column] = min(change, table[row - 1, column] + 1, table[row, column - 1] + 1)
    return table[len(found), len(expected)]


@settings(deadline=None)
@given(st.lists(st.sampled_from("ab"), max_size=8), st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_a_match_has_the_fewest_edits(found, expected):
    places = matched(found, expected).tolist()
    assert places == sorted(places)
    # of those at one place the first is matched; the others are too many, or one stands for it as well
    pairs: dict[int, list[str]] = {}
    for place, unit in zip(places, found, strict=True):
        pairs.setdefault(place, []).append(unit)
    cost = len(expected) - len(pairs)
    cost += sum(len(units) - 1 + (expected[place] not in units) for place, units in pairs.items())
    assert cost <= slow_edits(found, expected)


def test_matching_equals():
    np.testing.assert_array_equal(matched(list("abcab"), list("abcab")), np.arange(5))
