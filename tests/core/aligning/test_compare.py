"""Two alignments of the same items."""

from __future__ import annotations

import pytest

from kdcompress.aligning.aligned import INPUT_UNITS, Aligned, Header, Segment, write_alignments
from kdcompress.aligning.compare import compare_alignments
from kdcompress.errors import AlignmentError


def item(name, place, words, *segments, kind="phones"):
    return Aligned(name, place, kind, words, tuple(Segment(*segment) for segment in segments), 2.0, -1.0)


@pytest.fixture
def files(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    phones = [("k", 0.1, 0.2, 0), ("t", 0.2, 0.5, 0), ("d", 0.7, 0.9, 1), ("z", 1.0, 1.2, 2)]
    write_alignments(first, [item("x", 0, ("kt", "d", "z"), *phones), item("only", 1, ("a",), ("a", 0, 1, 0))])
    marks = [("▁kt", 0.13, 0.49, 0), ("▁d", 0.66, 0.9, 1), ("▁other", 1.0, 1.2, 2)]
    write_alignments(second, [item("x", 5, ("kt", "d", "other"), *marks, kind="words")])
    return first, second


def test_boundaries_of_common_words(files):
    found = compare_alignments(*files)
    assert (found.items, found.words, found.other_words) == (1, 2, 2)
    assert found.starts.mean == pytest.approx((0.03 - 0.04) / 2)
    assert found.starts.mean_absolute == pytest.approx(0.035)
    assert found.starts.within == (0.0, 1.0, 1.0)
    assert found.ends.mean == pytest.approx(-0.005)
    assert found.ends.median_absolute == pytest.approx(0.005)
    assert found.to_json()["limits"] == (0.02, 0.05, 0.1)


def test_an_alignment_and_itself(files):
    found = compare_alignments(files[0], files[0])
    assert (found.words, found.other_words) == (4, 0)
    assert found.ends.within == (1.0, 1.0, 1.0)
    assert found.starts.mean_absolute == 0


def test_a_separator_is_no_part_of_a_word(tmp_path, files):
    letters = [("k", 0.13, 0.3, 0), ("t", 0.3, 0.49, 0), ("▁", 0.49, 0.66, 0), ("d", 0.66, 0.9, 1)]
    write_alignments(tmp_path / "c.jsonl", [item("x", 0, ("kt", "d"), *letters, kind="characters")])
    found = compare_alignments(files[1], tmp_path / "c.jsonl")
    assert found.words == 2
    assert found.ends.mean_absolute == pytest.approx(0)


def test_what_cannot_be_compared(files, tmp_path):
    other = tmp_path / "other.jsonl"
    write_alignments(other, [item("y", 0, ("a",), ("a", 0, 1, 0))])
    with pytest.raises(AlignmentError, match="have no word in common"):
        compare_alignments(files[0], other)
    write_alignments(other, [item("x", 0, ("a",), ("a", 0, 1, 0)), item("x", 1, ("a",), ("a", 0, 1, 0))])
    with pytest.raises(AlignmentError, match="two items have the id 'x'"):
        compare_alignments(files[0], other)
    write_alignments(other, [item("x", 0, ("a",), ("a", 0, 1, 0))], Header("phones", INPUT_UNITS))
    with pytest.raises(AlignmentError, match=r"counts seconds, .* input units; they cannot be compared"):
        compare_alignments(files[0], other)
