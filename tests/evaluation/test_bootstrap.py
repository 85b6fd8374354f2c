from __future__ import annotations

import numpy as np
import pytest

from kdcompress_evaluation import bootstrap
from kdcompress_evaluation.bootstrap import (
    bootstrap_rate,
    choose_speakers,
    paired_difference,
    resampled_sums,
)
from kdcompress_evaluation.pareto import pareto_front


def draw(rng: np.random.Generator, count: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors and words of utterances whose difficulty varies."""
    words = rng.integers(3, 8, count)
    return rng.binomial(words, np.clip(rate * rng.gamma(2.0, 0.5, count), 0, 1)), words


def test_interval_holds_the_rate_and_is_seeded() -> None:
    errors, words = draw(np.random.default_rng(0), 300, 0.1)
    one = bootstrap_rate(errors.tolist(), words.tolist(), resamples=1000, seed=3)
    assert one.value == pytest.approx(errors.sum() / words.sum())
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high
    assert one == bootstrap_rate(errors.tolist(), words.tolist(), resamples=1000, seed=3)
    assert one != bootstrap_rate(errors.tolist(), words.tolist(), resamples=1000, seed=4)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    many_errors, many_words = draw(rng, 200_000, 0.1)
    truth = many_errors.sum() / many_words.sum()
    covered = 0
    for trial in range(300):
        errors, words = draw(rng, 150, 0.1)
        found = bootstrap_rate(errors.tolist(), words.tolist(), resamples=400, seed=trial)
        covered += bool(found.low <= truth <= found.high)  # type: ignore[operator]
    assert 0.90 <= covered / 300 <= 0.985


def test_paired_difference_finds_what_was_planted() -> None:
    rng = np.random.default_rng(2)
    errors, words = draw(rng, 800, 0.1)
    worse = np.minimum(errors + (rng.random(800) < 0.1), words)
    found = paired_difference(worse.tolist(), errors.tolist(), words.tolist(), resamples=1000)
    assert found.low is not None
    assert found.low > 0
    lone = bootstrap_rate(worse.tolist(), words.tolist(), resamples=1000)
    assert found.high - found.low < lone.high - lone.low  # type: ignore[operator]


def test_identical_systems_do_not_differ() -> None:
    errors, words = draw(np.random.default_rng(3), 100, 0.2)
    found = paired_difference(errors.tolist(), errors.tolist(), words.tolist(), resamples=1000)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_equal_systems_rarely_differ() -> None:
    rng = np.random.default_rng(4)
    false_alarms = 0
    for trial in range(200):
        hard = np.clip(0.1 * rng.gamma(2.0, 0.5, 150), 0, 1)
        words = rng.integers(3, 8, 150)
        one, other = rng.binomial(words, hard), rng.binomial(words, hard)
        found = paired_difference(one.tolist(), other.tolist(), words.tolist(), resamples=400, seed=trial)
        false_alarms += found.low > 0 or found.high < 0  # type: ignore[operator]
    assert false_alarms <= 22


def test_speakers_widen_the_interval_when_they_differ() -> None:
    rng = np.random.default_rng(5)
    speakers = [f"s{i % 12}" for i in range(600)]
    rates = dict(zip(sorted(set(speakers)), rng.uniform(0.02, 0.4, 12), strict=True))
    words = np.full(600, 6)
    errors = rng.binomial(words, [rates[s] for s in speakers])
    plain = bootstrap_rate(errors.tolist(), words.tolist(), resamples=1000)
    grouped = bootstrap_rate(errors.tolist(), words.tolist(), resamples=1000, speakers=speakers)
    assert grouped.value == plain.value
    assert grouped.high - grouped.low > 1.5 * (plain.high - plain.low)  # type: ignore[operator]


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = np.arange(60, dtype=float).reshape(30, 2)
    whole = resampled_sums(statistics, resamples=50, seed=[7])
    monkeypatch.setattr(bootstrap, "_CELLS", 90)
    assert np.array_equal(whole, resampled_sums(statistics, resamples=50, seed=[7]))


@pytest.mark.parametrize(("errors", "words", "value"), [([], [], None), ([2], [4], 0.5), ([1, 1], [0, 0], None)])
def test_too_little_data_gives_no_interval(errors: list[int], words: list[int], value: float | None) -> None:
    found = bootstrap_rate(errors, words, resamples=1000)
    assert (found.value, found.low, found.high) == (value, None, None)


def test_speakers_are_used_only_when_all_are_known_and_enough() -> None:
    ten = [f"s{i}" for i in range(10)]
    assert choose_speakers(ten) == ten
    assert choose_speakers([*ten, None]) is None
    assert choose_speakers(ten[:9]) is None


def test_pareto_front() -> None:
    points = [(0.1, 5.0), (0.2, 1.0), (0.2, 2.0), (0.1, 5.0), (0.3, None), (0.05, 9.0)]
    assert pareto_front(points) == [True, True, False, True, None, True]
