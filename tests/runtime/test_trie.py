"""Spelling of tokens, and the trie of words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcompress_runtime.decoders.spelling import SEPARATOR, Spelling
from kdcompress_runtime.decoders.trie import OUTSIDE, ROOT, Trie
from kdcompress_runtime.vocabulary import Vocabulary

SUBWORDS = Vocabulary(("▁he", "l", "<blk>", "lo▁", "▁", "a b"))
LETTERS = Spelling.of(Vocabulary.from_symbols(["▁", *"abcé"]))


def build(words, weights=None, spelling=LETTERS):
    weights = np.zeros(len(words), np.float32) if weights is None else np.array(weights, np.float32)
    return Trie.build(spelling, words, np.arange(len(words), dtype=np.int32), weights)


def walk(trie, word, spelling=LETTERS):
    node = np.zeros(1, dtype=np.int64)
    for letter in word:
        node = trie.step(node, np.array([spelling.ids.get(letter, spelling.size - 1)]))
    return int(node[0])


def test_tokens_are_spelt_letter_by_letter_and_whitespace_separates():
    spelling = Spelling.of(SUBWORDS)
    assert spelling.alphabet == ("▁", "a", "b", "e", "h", "l", "o")
    spelt = [
        "".join(spelling.alphabet[letter] for letter in spelling.letters[start:end])
        for start, end in zip(spelling.starts, spelling.starts[1:], strict=False)
    ]
    assert spelt == ["▁he", "l", "", "lo▁", "▁", "a▁b"]
    assert spelling.padded.tolist()[:3] == [[0, 4, 3], [5, -1, -1], [-1, -1, -1]]
    assert spelling.separated
    assert (spelling.starts.dtype, spelling.letters.dtype) == (np.int32, np.int32)


def test_the_separator_is_letter_0_even_where_no_token_holds_it():
    spelling = Spelling.of(Vocabulary.from_symbols("xy"))
    assert spelling.alphabet == ("▁", "x", "y")
    assert not spelling.separated
    lonely = Spelling.of(Vocabulary(("<blk>",)))
    assert (lonely.size, lonely.padded.shape) == (1, (1, 1))
    letters, lengths = lonely.encode(["ab", ""])
    assert (letters.tolist(), lengths.tolist()) == ([-1, -1], [2, 0])


def test_words_are_encoded_with_letters_that_no_token_holds_marked():
    letters, lengths = LETTERS.encode(["abé", "", "xa", "b▁c", "\ud800"])
    assert lengths.tolist() == [3, 0, 2, 3, 1]
    assert letters.tolist() == [1, 2, 4, -1, 1, 2, -1, 3, -1]


WORDS = st.lists(st.text("abcé", min_size=1, max_size=6), unique=True, max_size=30)


@given(words=WORDS, probes=st.lists(st.text("abcé", max_size=7), max_size=20), data=st.data())
def test_it_holds_its_words_and_their_beginnings_and_nothing_else(words, probes, data):
    weights = data.draw(st.lists(st.integers(-50, 0), min_size=len(words), max_size=len(words)))
    trie = build(words, weights)
    beginnings = {word[:length] for word in words for length in range(1, len(word) + 1)}
    assert len(trie) == len(beginnings) + 1
    for probe in [*probes, *words]:
        node = walk(trie, probe)
        if not probe:
            assert node == ROOT
            continue
        assert (node != OUTSIDE) == (probe in beginnings)
        if node != OUTSIDE:
            assert trie.word[node] == (words.index(probe) if probe in words else -1)
            assert trie.best[node] == max(w for w, word in zip(weights, words, strict=True) if word.startswith(probe))


def test_its_arrays_are_those_of_a_compressed_sparse_graph():
    trie = build(["ab", "b", "ba"])
    for name, dtype in (("edge_start", "i4"), ("edge_letter", "i4"), ("edge_node", "i4"), ("word", "i4")):
        assert getattr(trie, name).dtype == np.dtype(dtype)
    assert trie.best.dtype == np.float32
    assert trie.edge_start.tolist() == [0, 2, 3, 4, 4, 4]
    assert trie.edge_letter.tolist() == [1, 2, 2, 1]
    assert trie.edge_node.tolist() == [1, 2, 3, 4]
    assert trie.word.tolist() == [-1, -1, 1, 0, 2]


def test_words_that_cannot_be_spelt_are_left_out():
    assert len(build(["xyz", "", "a b", "a▁b"])) == 1
    trie = build(["xyz", "ab", "aX"])
    assert len(trie) == 3
    assert trie.word[walk(trie, "ab")] == 1


def test_once_outside_always_outside():
    trie = build(["a"])
    assert walk(trie, "ba") == OUTSIDE
    assert trie.step(np.array([OUTSIDE, 1]), np.array([1, SEPARATOR])).tolist() == [OUTSIDE, OUTSIDE]
    assert build([]).step(np.array([ROOT]), np.array([1])).tolist() == [OUTSIDE]


@pytest.mark.parametrize("count", [1, 3000])
def test_many_words_are_found_again(count):
    random = np.random.default_rng(0)
    words = sorted({"".join(random.choice(list("abcé"), random.integers(1, 12))) for _ in range(count)})
    trie = build(words)
    assert [trie.word[walk(trie, word)] for word in words] == list(range(len(words)))
