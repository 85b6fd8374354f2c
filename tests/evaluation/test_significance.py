from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kdcompress_evaluation import significance
from kdcompress_evaluation.metrics import metrics_for
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.significance import holm, permutation_p


def rate(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def pair(errors: list[int], others: list[int], words: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([errors, words], dtype=float).T, np.array([others, words], dtype=float).T


def test_few_units_are_enumerated() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = pair(*(rng.integers(low, high, 9).tolist() for low, high in ((0, 6), (0, 4), (6, 12))))
    # Different words as well, as after swapping hypotheses of statistics that are not all of the reference.
    theirs[:, 1] += rng.integers(0, 3, 9)
    found = abs(rate(ours.sum(axis=0)) - rate(theirs.sum(axis=0)))
    hits = 0
    for swap in product((False, True), repeat=9):
        one = np.where(np.array(swap)[:, None], theirs, ours).sum(axis=0)
        other = np.where(np.array(swap)[:, None], ours, theirs).sum(axis=0)
        hits += abs(rate(one) - rate(other)) >= found - 1e-12
    assert 0 < hits < 512
    assert permutation_p(ours, theirs, rate) == pytest.approx(hits / 512)


def test_units_that_do_not_differ_change_nothing() -> None:
    ours, theirs = pair([3, 2, 1, 0, 2] + [1] * 500, [1, 1, 0, 1, 0] + [1] * 500, [5] * 505)
    short = permutation_p(ours[:5], theirs[:5], rate)
    assert permutation_p(ours, theirs, rate) == pytest.approx(short)
    # Changes of 2, 1, 1, -1 and 2: of 32 ways to give them signs, 8 reach the sum of 5, or minus it.
    assert short == 8 / 32


def test_the_order_of_the_systems_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = pair(*(rng.integers(0, 5, 60).tolist() for _ in range(2)), [8] * 60)
    one, other = (permutation_p(*both, rate, seed=[3]) for both in ((ours, theirs), (theirs, ours)))
    assert one == other
    assert one == permutation_p(ours, theirs, rate, seed=[3])
    assert one != permutation_p(ours, theirs, rate, seed=[4])


def test_random_swaps_agree_with_all_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = pair(rng.integers(1, 6, 12).tolist(), rng.integers(0, 5, 12).tolist(), [10] * 12)
    exact = permutation_p(ours, theirs, rate)
    monkeypatch.setattr(significance, "_EXACT_UNITS", 0)
    monkeypatch.setattr(significance, "_CELLS", 1000)
    drawn = permutation_p(ours, theirs, rate, permutations=20_000)
    assert exact is not None
    assert drawn == pytest.approx(exact, abs=0.012)


def test_a_p_value_is_never_zero() -> None:
    ours, theirs = pair([5] * 200, [1] * 200, [8] * 200)
    assert permutation_p(ours, theirs, rate, permutations=499) == 1 / 500


def test_equal_systems_and_too_little_data() -> None:
    ours, _ = pair([1, 2, 3], [0, 0, 0], [5, 5, 5])
    assert permutation_p(ours, ours, rate) == 1.0
    assert permutation_p(ours[:1], ours[:1], rate) is None
    assert permutation_p(ours[:0], ours[:0], rate) is None
    silent = np.zeros((4, 4))
    assert permutation_p(silent, silent, metrics_for("speech", NORMALISERS["plain"])[0].value) is None


def test_scores_are_swapped_unit_by_unit() -> None:
    references = ["the cat sat on the mat again", "a dog ran home very fast", "it rains all day long here"] * 8
    spoiled = [text.replace("a", "o") if number % 3 else text for number, text in enumerate(references)]
    for metric in metrics_for("translation", NORMALISERS["plain"]):
        whole, broken = metric.statistics(references, references), metric.statistics(references, spoiled)
        p = permutation_p(whole, broken, metric.value)
        assert p is not None
        assert p < 0.01


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([None, 0.02]) == [None, 0.02]
    assert holm([]) == []
