"""Do intervals hold the truth, are equal systems left alone, are planted differences found? Seeded, so never flaky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from kdcompress_evaluation.bootstrap import interval, resampled_sums
from kdcompress_evaluation.metrics import metrics_for
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.significance import holm, permutation_p

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOWEST, HIGHEST = 0.925, 0.975
"""93 to 97 %, and half a point for so few trials."""


def systems(
    rng: np.random.Generator, speakers: int, each: int, *, count: int = 2, spread: float = 0.5, rate: float = 0.1,
    planted: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """(speakers, count + 1): errors of each system, and words.

    Speakers are of unequal size and difficulty, utterances of unequal difficulty; the systems err alike on 70 % of the
    words. The last system has ``planted`` errors a word more.
    """
    sizes = (
        np.maximum(1, np.round(each * rng.gamma(4, 0.25, speakers))).astype(int) if each > 1 else np.ones(speakers, int)
    )
    who = np.repeat(np.arange(speakers), sizes)
    words = rng.integers(3, 11, len(who))
    hard = np.exp(rng.normal(-(spread**2) / 2, spread, speakers))[who]
    chance = np.minimum(1.0, rate * hard * rng.gamma(1.0, 1.0, len(who)))
    alike = rng.binomial(words, 0.7)
    both = rng.binomial(alike, chance)
    errors = [both + rng.binomial(words - alike, chance) for _ in range(count)]
    errors[-1] = errors[-1] + rng.binomial(words - errors[-1], planted / (1 - rate))
    return np.add.reduceat(np.stack([*errors, words], axis=1).astype(float), np.flatnonzero(np.diff(who, prepend=-1)))


def wer(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., -1]


def difference(sums: np.ndarray) -> np.ndarray:
    return (sums[..., 1] - sums[..., 0]) / sums[..., -1]


def held(
    samples: Iterable[np.ndarray], value: Callable[[np.ndarray], np.ndarray], truth: float, resamples: int = 800
) -> tuple[float, float]:
    """Share of intervals that hold the truth: ours, and plain percentiles."""
    ours, plain = [], []
    for trial, sample in enumerate(samples):
        draws = value(resampled_sums(sample, resamples=resamples, seed=[trial]))
        found = interval(float(value(sample.sum(axis=0))), draws, len(sample))
        ours.append(found.low <= truth <= found.high)  # type: ignore[operator]
        low, high = np.percentile(draws, [2.5, 97.5])
        plain.append(low <= truth <= high)
    return float(np.mean(ours)), float(np.mean(plain))


@pytest.mark.parametrize(("utterances", "rate"), [(30, 0.1), (100, 0.05), (300, 0.1)])
def test_intervals_over_utterances_hold_the_truth(utterances: int, rate: float) -> None:
    rng = np.random.default_rng([1, utterances])
    truth = float(wer(systems(rng, 300_000, 1, spread=0, rate=rate).sum(axis=0)))
    share, _ = held((systems(rng, utterances, 1, spread=0, rate=rate) for _ in range(800)), wer, truth)
    assert LOWEST <= share <= HIGHEST


@pytest.mark.parametrize("speakers", [15, 20, 40])
def test_intervals_over_few_speakers_hold_the_truth(speakers: int) -> None:
    rng = np.random.default_rng(speakers)
    truth = float(wer(systems(rng, 30_000, 20).sum(axis=0)))
    samples = [systems(rng, speakers, 20) for _ in range(800)]
    share, plain = held(samples, wer, truth)
    assert LOWEST <= share <= HIGHEST
    if speakers == 15:
        assert plain < 0.92  # what the plain percentile interval would do: the simulation can tell
    share, _ = held(samples, difference, 0.0)
    assert LOWEST <= share <= HIGHEST


@pytest.mark.parametrize("task", ["scene_text", "translation"])
def test_intervals_of_other_metrics_hold_the_truth(task: str) -> None:
    rng = np.random.default_rng(5)
    vocabulary = ["".join(rng.choice(list("aeiobdgklmnrst"), rng.integers(2, 8))) for _ in range(200)]
    references = [" ".join(rng.choice(vocabulary, rng.integers(3, 20))) for _ in range(800)]
    hypotheses = [
        " ".join(str(rng.choice(vocabulary)) if rng.random() < bad else word for word in text.split())
        for text, bad in zip(references, rng.beta(1, 4, len(references)), strict=True)
    ]
    for metric in metrics_for(task, NORMALISERS["plain"]):
        pool = metric.statistics(references, hypotheses)
        samples = (pool[rng.integers(0, len(pool), 60)] for _ in range(600))
        share, _ = held(samples, metric.value, float(metric.value(pool.sum(axis=0))))
        assert LOWEST <= share <= HIGHEST + 0.005


def compare(rng: np.random.Generator, trials: int, planted: float) -> tuple[int, int]:
    """Trials in which two systems on 800 utterances of 40 speakers differ: by the interval, by the test."""
    by_interval = by_test = 0
    for trial in range(trials):
        sample = systems(rng, 40, 20, planted=planted)
        draws = difference(resampled_sums(sample, resamples=800, seed=[trial]))
        found = interval(float(difference(sample.sum(axis=0))), draws, len(sample))
        by_interval += not found.low <= 0 <= found.high  # type: ignore[operator]
        p = permutation_p(sample[:, [0, 2]], sample[:, [1, 2]], wer, permutations=800, seed=[trial])
        by_test += p is not None and p < 0.05
    return by_interval, by_test


def test_equal_systems_differ_about_five_times_in_a_hundred() -> None:
    low, high = stats.binom.ppf([0.001, 0.999], 400, 0.05)
    by_interval, by_test = compare(np.random.default_rng(6), 400, 0.0)
    assert low <= by_interval <= high
    assert low <= by_test <= high


def test_a_planted_point_is_found() -> None:
    """WER 10 against 11 %, 800 utterances: power about 0.8; two points: always."""
    by_interval, by_test = compare(np.random.default_rng(7), 150, 0.01)
    assert by_interval >= 0.7 * 150
    assert by_test >= 0.7 * 150
    assert min(compare(np.random.default_rng(8), 50, 0.02)) >= 49


def test_many_equal_variants_raise_few_alarms_after_correction() -> None:
    rng = np.random.default_rng(9)
    plain = corrected = 0
    for trial in range(200):
        sample = systems(rng, 40, 20, count=9)
        baseline = sample[:, [8, 9]]
        found = [permutation_p(sample[:, [k, 9]], baseline, wer, permutations=400, seed=[trial, k]) for k in range(8)]
        plain += any(p < 0.05 for p in found)  # type: ignore[operator]
        corrected += any(p < 0.05 for p in holm(found))  # type: ignore[operator]
    assert plain >= 30  # without the correction, reports cry wolf
    assert corrected <= stats.binom.ppf(0.999, 200, 0.05)
