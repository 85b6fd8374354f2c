from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kdcompress_evaluation import bootstrap
from kdcompress_evaluation.bootstrap import (
    bootstrap_rate,
    choose_speakers,
    interval,
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


def test_sums_are_those_of_the_units_drawn() -> None:
    statistics = np.random.default_rng(6).normal(size=(7, 3))
    found = resampled_sums(statistics, resamples=40, seed=[2, 1])
    drawn = np.random.default_rng([2, 1]).integers(0, 7, size=(40, 7))
    assert found == pytest.approx(statistics[drawn].sum(axis=1))
    assert resampled_sums(statistics[:0], resamples=4, seed=[0]).tolist() == [[0, 0, 0]] * 4


def test_interval_is_never_inside_the_percentiles() -> None:
    rng = np.random.default_rng(7)
    for skewed in (rng.gamma(2, size=2000), -rng.gamma(2, size=2000), rng.normal(2, 1, size=2000)):
        low, high = np.percentile(skewed, [2.5, 97.5])
        few, many = interval(skewed.mean(), skewed, 12), interval(skewed.mean(), skewed, 100_000)
        assert few.low < many.low <= low + 1e-3  # type: ignore[operator]
        assert few.high > many.high >= high - 1e-3  # type: ignore[operator]


def test_the_longer_tail_gets_more_room() -> None:
    draws = np.random.default_rng(8).gamma(16, 1 / 16, size=20_000)
    found = interval(1.0, draws, 20)
    _, high = np.percentile(draws, [2.5, 97.5])
    assert found.high - 1 > 1.35 * (high - 1)  # type: ignore[operator]
    mirrored = interval(-1.0, -draws, 20)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))  # type: ignore[operator]


def test_interval_without_skew_is_students() -> None:
    draws = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    found = interval(0.0, draws, 25)
    reach = stats.t.ppf(0.975, 24) * np.sqrt(25 / 24)
    assert (found.low, found.high) == pytest.approx((-reach, reach), abs=0.01)


def test_interval_stays_within_possible_values() -> None:
    draws = np.clip(np.random.default_rng(9).normal(0.9, 0.1, size=2000), 0, 1)
    found = interval(0.9, draws, 10, lowest=0.0, highest=1.0)
    assert found.high == 1.0
    assert interval(0.9, draws, 10).high > 1  # type: ignore[operator]


def test_no_error_is_not_taken_for_certainty() -> None:
    """The rule of three: 0 of 100 words wrong is what a rate of 3.6 % gives in 2.5 % of all cases."""
    found = bootstrap_rate([0] * 20, [5] * 20)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(stats.beta.ppf(0.975, 1, 100))
    assert interval(0.0, np.zeros(100), 20).high == 0


def test_draws_without_a_value_are_left_out() -> None:
    draws = np.random.default_rng(10).normal(1, 0.1, size=500)
    with_gaps = np.concatenate([draws, [np.nan] * 50])
    assert interval(1.0, with_gaps, 30) == interval(1.0, draws, 30)
    assert interval(1.0, with_gaps[499:501], 30).low is None
    assert interval(float("nan"), draws, 30).value is None


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
