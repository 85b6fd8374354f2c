"""Where units of one kind are, from an alignment in units of another."""

from __future__ import annotations

import numpy as np
import pytest

from kdcompress.aligning.aligned import Aligned, Segment
from kdcompress.aligning.placing import spans_of, units_at

PHONES = Aligned(
    id="a",
    place=0,
    kind="phones",
    words=("cat", "runs"),
    segments=(
        Segment("K", 0.1, 0.2, 0),
        Segment("AE", 0.2, 0.4, 0),
        Segment("T", 0.4, 0.5, 0),
        Segment("R", 0.7, 0.8, 1),
        Segment("AH", 0.8, 0.9, 1),
        Segment("N", 0.9, 1.1, 1),
        Segment("Z", 1.1, 1.3, 1),
    ),
    duration=1.5,
    score=-0.1,
)
LETTERS = Aligned(
    id="b",
    place=0,
    kind="characters",
    words=("cat", "a"),
    segments=(
        Segment("c", 0.0, 0.1, 0),
        Segment("a", 0.1, 0.2, 0),
        Segment("t", 0.2, 0.5, 0),
        Segment("▁", 0.5, 0.6, 0),
        Segment("a", 0.6, 0.9, 1),
    ),
    duration=1.0,
    score=-0.1,
)


def spans(symbols: list[str], words: list[int], kind: str, aligned: Aligned, shares: list[float] | None = None):
    return spans_of(symbols, np.array(words), np.array(shares or [1.0] * len(words), np.float32), kind, aligned)


def test_units_of_the_alignment_have_their_segments():
    found = spans([one.unit for one in PHONES.segments], [0, 0, 0, 1, 1, 1, 1], "phones", PHONES)
    assert found.tolist() == [[one.start, one.end] for one in PHONES.segments]


def test_states_divide_the_segment_of_their_phone():
    found = spans(["s"] * 14, [0] * 6 + [1] * 8, "senones", PHONES)
    np.testing.assert_allclose(found[:2], [[0.1, 0.15], [0.15, 0.2]])
    np.testing.assert_allclose(found[12:], [[1.1, 1.2], [1.2, 1.3]])


def test_subwords_divide_a_word_by_their_letters():
    found = spans(["▁c", "at", "▁runs"], [0, 0, 1], "subwords", PHONES, [1, 2, 4])
    np.testing.assert_allclose(found, [[0.1, 0.1 + 0.4 / 3], [0.1 + 0.4 / 3, 0.5], [0.7, 1.3]])


def test_subwords_of_aligned_letters_have_the_times_of_their_letters():
    found = spans(["▁c", "at", "▁", "a"], [0, 0, 1, 1], "subwords", LETTERS, [1, 2, 0.25, 1])
    np.testing.assert_allclose(found, [[0.0, 0.1], [0.1, 0.5], [0.6, 0.6], [0.6, 0.9]])
    assert units_at(found, np.array([0.05, 0.3, 0.55, 0.7])).tolist() == [0, 1, -1, 3]


def test_the_silence_behind_a_word_is_no_part_of_it():
    found = spans(["K", "AE", "T", "EY"], [0, 0, 0, 1], "phones", LETTERS)
    np.testing.assert_allclose(found, [[0.0, 0.5 / 3], [0.5 / 3, 1 / 3], [1 / 3, 0.5], [0.6, 0.9]])


def test_other_phones_than_were_aligned_divide_the_word():
    found = spans(["K", "AA", "T", "S"], [0, 0, 0, 0], "phones", PHONES)
    np.testing.assert_allclose(found[:, 0], [0.1, 0.2, 0.3, 0.4])


def test_a_word_that_was_not_aligned_is_an_error():
    with pytest.raises(ValueError, match="no word 3 of 'cat runs'"):
        spans(["x"], [2], "characters", PHONES)


def test_moments_between_and_around_units_belong_to_none():
    edges = np.array([[0.1, 0.2], [0.2, 0.4], [0.7, 0.8]])
    moments = np.array([-1.0, 0.0, 0.1, 0.19, 0.2, 0.39, 0.4, 0.69, 0.7, 0.8, 9.0])
    assert units_at(edges, moments).tolist() == [-1, -1, 0, 0, 1, 1, -1, -1, 2, -1, -1]
    assert units_at(np.zeros((0, 2)), moments).tolist() == [-1] * 11
