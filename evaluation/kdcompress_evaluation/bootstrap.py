"""Percentile bootstrap of corpus error rates from per-utterance error counts (never re-aligned).

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; for paired error rates Bisani and Ney,
Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.errors import PairingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_CELLS = 2_000_000
"""Drawn indices held in memory at once."""
MIN_SPEAKERS = 10
"""Fewer speakers than this cannot carry an interval of their own."""


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
    units = len(statistics)
    generator = np.random.default_rng(list(seed))
    sums = np.zeros((resamples, statistics.shape[1]))
    if not units:
        return sums
    block = max(1, _CELLS // units)
    for start in range(0, resamples, block):
        drawn = generator.integers(0, units, size=(min(block, resamples - start), units))
        for column in range(statistics.shape[1]):
            sums[start : start + len(drawn), column] = statistics[:, column][drawn].sum(axis=1)
    return sums


def ratio(
    errors: float, reference: float, drawn_errors: NDArray[np.float64], drawn_reference: NDArray[np.float64],
    *, confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Return ``errors / reference`` with its percentile interval over the draws (R,)."""
    if not reference:
        return Estimate(None)
    usable = drawn_reference > 0
    if usable.sum() < 2:
        return Estimate(errors / reference)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(drawn_errors[usable] / drawn_reference[usable], [tail, 100 - tail])
    return Estimate(errors / reference, float(low), float(high))


def bootstrap_rate(
    errors: Sequence[int], reference: Sequence[int], *, resamples: int = 2000, seed: int = 0,
    speakers: Sequence[str] | None = None, confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Corpus rate ``sum(errors) / sum(reference)`` with a percentile bootstrap interval.

    Args:
        errors: (N,) errors of each utterance.
        reference: (N,) reference words of each utterance.
        resamples: bootstrap draws.
        seed: of the draws.
        speakers: (N,) names, to resample speakers instead of utterances.
        confidence: of the interval.
    """
    counts = np.stack([np.asarray(errors, float), np.asarray(reference, float)], axis=1)
    units = counts if speakers is None else group_sums(counts, speakers)
    if len(units) < 2:
        return Estimate(_divide(counts[:, 0].sum(), counts[:, 1].sum()))
    sums = resampled_sums(units, resamples=resamples, seed=[seed])
    return ratio(counts[:, 0].sum(), counts[:, 1].sum(), sums[:, 0], sums[:, 1], confidence=confidence)


def paired_difference(
    errors: Sequence[int], baseline_errors: Sequence[int], reference: Sequence[int], *, resamples: int = 2000,
    seed: int = 0, speakers: Sequence[str] | None = None, confidence: float = 0.95,
) -> Estimate:  # fmt: skip
    """Rate minus the baseline's rate over the same utterances, every draw taken for both; see ``bootstrap_rate``."""
    difference = np.asarray(errors) - np.asarray(baseline_errors)
    return bootstrap_rate(
        difference.tolist(), reference, resamples=resamples, seed=seed, speakers=speakers, confidence=confidence
    )


def check_pairs(name: str, ids: Iterable[str], baseline: str, baseline_ids: Iterable[str]) -> None:
    """Refuse to compare systems that did not recognise the same utterances.

    Raises:
        PairingError: the id sets differ; the message counts them and names one.
    """
    ours, theirs = set(ids), set(baseline_ids)
    if ours == theirs:
        return
    only, missing = sorted(ours - theirs), sorted(theirs - ours)
    example = (only or missing)[0]
    raise PairingError(
        f"{name} and the baseline {baseline} did not recognise the same utterances: {len(only)} only in {name}, "
        f"{len(missing)} only in {baseline} (for example {example!r}); run both over the same manifest"
    )


def choose_speakers(speakers: Sequence[str | None]) -> list[str] | None:
    """Return the speakers when every utterance names one and they are enough to resample, else ``None``."""
    named = [speaker for speaker in speakers if speaker]
    return named if len(named) == len(speakers) and len(set(named)) >= MIN_SPEAKERS else None


def _divide(errors: float, reference: float) -> float | None:
    return float(errors / reference) if reference else None
