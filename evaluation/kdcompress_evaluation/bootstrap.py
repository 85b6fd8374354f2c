"""Bootstrap intervals of corpus metrics from per-utterance statistics (texts are never aligned again).

Draws are paired: the same seed draws the same utterances (speakers) for every system, as Bisani and Ney do (Bootstrap
estimates for confidence intervals in ASR performance evaluation, ICASSP 2004). Plain percentiles are too narrow for
few or skewed units (a few speakers with most of the errors); ``interval`` mends that from the draws alone, and
``benchmarks/bench_statistics.py`` says how well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CELLS = 500_000
"""Drawn indices held in memory at once."""
MIN_SPEAKERS = 10
"""Fewer speakers than this cannot carry an interval of their own."""
_NO_SKEW = 1e-4
"""A skewness this small is taken as this much: the transformation divides by it."""
_FLOOR = 0.1
"""Where the transformation would reach no end any more, its argument stays here."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``None`` where the data do not give one."""

    value: float | None
    """The value on the data as they are."""
    low: float | None = None
    """Lower end of the interval."""
    high: float | None = None
    """Upper end of the interval."""


def group_sums(statistics: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Add up rows of ``statistics`` (N, K) that share a group (speaker): (groups, K), so groups are resampled."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), statistics.shape[1]))
    np.add.at(sums, index, statistics)
    return sums


def resampled_sums(statistics: NDArray[np.float64], *, resamples: int, seed: Sequence[int]) -> NDArray[np.float64]:
    """Draw units with replacement and add up their statistics.

    Args:
        statistics: (N, K), one row a unit (utterance or speaker), K counts.
        resamples: number of draws R.
        seed: of numpy's generator; the same seed and N give the same draws, which is what pairs systems.

    Returns:
        (R, K) sums.
    """
    units, width = statistics.shape
    generator = np.random.default_rng(list(seed))
    sums = np.zeros((resamples, width))
    if not units:
        return sums
    block = max(1, _CELLS // units)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, units, size=(size, units)) + units * np.arange(size)[:, None]
        # How often each unit was drawn, times what it holds: one matrix product for all columns.
        times = np.bincount(drawn.reshape(-1), minlength=size * units).reshape(size, units)
        sums[start : start + size] = times.astype(np.float64) @ statistics
    return sums


def interval(
    value: float, draws: NDArray[np.float64], units: int, *, lowest: float = -np.inf, highest: float = np.inf,
    trials: float = 0.0, confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Return ``value`` with a bootstrap interval that holds its level with few and skewed units.

    Each end is the outer one of two. One is the expanded percentile: percentiles further out, by Student's t with
    ``units - 1`` degrees of freedom and by ``sqrt(units / (units - 1))``, because resampling n units understates their
    variance (Hesterberg, What teachers should know about the bootstrap, arXiv 1411.5279, section 5.4). The other is
    Student's interval with the skewness of the draws taken out by Hall's exponential (On the removal of skewness by
    transformation, J. R. Stat. Soc. B 54, 1992): the longer tail of an error rate needs more room than percentiles
    give it. Hall's cubic and the bootstrap-t cover as well; the one is far wider, the other needs more than draws.

    Args:
        value: on the data as they are; NaN: no value.
        draws: (R,) the same on resampled data; NaN where a draw has no value.
        units: independent units that were drawn; one less for every stratum beyond the first.
        lowest: of possible values; the interval ends there.
        highest: of possible values.
        trials: reference units (words, lines) of an error rate. When none of them went wrong, every draw is 0; the
            interval then ends at the rate at which so many trials pass without an error in half of ``1 - confidence``
            of all cases. 0: not a rate.
        confidence: of the interval.
    """
    value = float(value)
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return Estimate(None)
    if units < 2 or len(draws) < 2:
        return Estimate(value)
    tail = (1 - confidence) / 2
    if trials and value == 0 and not draws.any():
        return Estimate(value, 0.0, float(-np.expm1(np.log(tail) / trials)))
    spread = float(draws.std()) * np.sqrt(units / (units - 1))
    if spread <= 1e-12 * abs(value):
        return Estimate(value, value, value)
    reach = float(stats.t.ppf(1 - tail, units - 1))
    outer = 100 * stats.norm.sf(reach * np.sqrt(units / (units - 1)))
    low, high = np.percentile(draws, [outer, 100 - outer])
    skewness = float(stats.skew(draws))
    low = min(low, value - spread * _without_skew(reach, skewness))
    high = max(high, value - spread * _without_skew(-reach, skewness))
    return Estimate(value, max(float(low), lowest), min(float(high), highest))


def _without_skew(quantile: float, skewness: float) -> float:
    """Quantile of a studentised statistic from that of Student's t: Hall's exponential, inverted."""
    bend = (skewness if abs(skewness) > _NO_SKEW else _NO_SKEW) * 2 / 3
    return float(np.log(max(_FLOOR, 1 + bend * (quantile - skewness / 6))) / bend)


def bootstrap_rate(
    errors: Sequence[int], reference: Sequence[int], *, resamples: int = 2000, seed: int = 0,
    speakers: Sequence[str] | None = None, confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Corpus rate ``sum(errors) / sum(reference)`` with its interval.

    Args:
        errors: (N,) errors of each utterance.
        reference: (N,) reference words of each utterance.
        resamples: bootstrap draws.
        seed: of the draws.
        speakers: (N,) names, to resample speakers instead of utterances.
        confidence: of the interval.
    """
    value, draws, units = _draw_rate(errors, reference, speakers, resamples, seed)
    return interval(value, draws, units, lowest=0.0, trials=sum(reference), confidence=confidence)


def paired_difference(
    errors: Sequence[int], baseline_errors: Sequence[int], reference: Sequence[int], *, resamples: int = 2000,
    seed: int = 0, speakers: Sequence[str] | None = None, confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Rate minus the baseline's rate over the same utterances, every draw taken for both; see ``bootstrap_rate``."""
    difference = (np.asarray(errors) - np.asarray(baseline_errors)).tolist()
    value, draws, units = _draw_rate(difference, reference, speakers, resamples, seed)
    return interval(value, draws, units, confidence=confidence)


def choose_speakers(speakers: Sequence[str | None]) -> list[str] | None:
    """Return the speakers when every utterance names one and they are enough to resample, else ``None``."""
    named = [speaker for speaker in speakers if speaker]
    return named if len(named) == len(speakers) and len(set(named)) >= MIN_SPEAKERS else None


def _draw_rate(
    errors: Sequence[int], reference: Sequence[int], speakers: Sequence[str] | None, resamples: int, seed: int
) -> tuple[float, NDArray[np.float64], int]:
    """Rate, rates of the draws (R,), units drawn."""
    counts = np.stack([np.asarray(errors, float), np.asarray(reference, float)], axis=1)
    units = counts if speakers is None else group_sums(counts, speakers)
    sums = np.vstack([counts.sum(axis=0), resampled_sums(units, resamples=resamples, seed=[seed])])
    rates = np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)
    return float(rates[0]), rates[1:], len(units)
