from __future__ import annotations

import random

import jiwer
import pytest

from kdcompress_evaluation.scoring import NORMALISERS, ErrorCounts, count_columns, plain, score, word_diff

PLAIN = NORMALISERS["plain"]


def random_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = ["one", "two", "three", "four", "it's", "à"]
    return [" ".join(rng.choices(words, k=rng.randint(0 if seed else 1, 9))) for _ in range(count)]


def test_counts_and_rates_are_jiwers() -> None:
    references, hypotheses = random_texts(60, 0), random_texts(60, 1)
    scores = score(references, hypotheses, PLAIN)
    for reference, hypothesis, found in zip(references, hypotheses, scores, strict=True):
        expected = jiwer.process_words(reference, hypothesis)
        assert (found.words.substitutions, found.words.deletions, found.words.insertions, found.words.hits) == (
            expected.substitutions,
            expected.deletions,
            expected.insertions,
            expected.hits,
        )
    words = sum((s.words for s in scores), ErrorCounts())
    characters = sum((s.characters for s in scores), ErrorCounts())
    assert words.rate == pytest.approx(jiwer.wer(references, hypotheses))
    assert characters.rate == pytest.approx(jiwer.cer(references, hypotheses))


def test_empty_reference_makes_insertions() -> None:
    (found,) = score([""], ["two words"], PLAIN)
    assert found.words == ErrorCounts(insertions=2)
    assert found.words.rate is None


def test_empty_hypothesis_makes_deletions() -> None:
    (found,) = score(["one two"], [""], PLAIN)
    assert found.words == ErrorCounts(deletions=2)
    assert found.characters.deletions == 7


def test_both_empty_and_no_utterance() -> None:
    assert score([""], [""], PLAIN)[0].words == ErrorCounts()
    assert score([], [], PLAIN) == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Hello,   WORLD!", "hello world"),
        ("don\u2019t  stop\u2014now", "don't stop now"),
        ("\uff26\uff35\uff2c\uff2c width", "full width"),
        ("\u00c9tude caf\u0065\u0301", "\u00e9tude caf\u00e9"),
        ("\u0130stanbul\n\tx", "i\u0307stanbul x"),
        ("...", ""),
    ],
)
def test_plain_normaliser(raw: str, expected: str) -> None:
    assert plain(raw) == expected
    assert plain(plain(raw)) == expected


def test_unicode_is_counted_by_characters_that_people_see() -> None:
    (found,) = score(["cafe\u0301 \u6771\u4eac"], ["caf\u00e9 \u6771"], PLAIN)
    assert found.characters == ErrorCounts(hits=6, deletions=1)
    assert found.words == ErrorCounts(hits=1, substitutions=1)


def test_columns_hold_the_counts() -> None:
    counts = [ErrorCounts(5, 1, 2, 3), ErrorCounts(insertions=4)]
    columns = count_columns(counts)
    assert columns.tolist() == [[1, 2, 3, 8], [0, 0, 4, 0]]
    assert ErrorCounts.of(columns.sum(axis=0)) == counts[0] + counts[1]
    assert count_columns([]).shape == (0, 4)


def test_diff_names_every_kind() -> None:
    pieces = word_diff("a b c d", "a x c d e", PLAIN)
    assert [(p.kind, p.reference, p.hypothesis) for p in pieces] == [
        ("equal", "a", "a"),
        ("substitute", "b", "x"),
        ("equal", "c d", "c d"),
        ("insert", "", "e"),
    ]
    assert word_diff("a b", "b", PLAIN)[0].kind == "delete"
