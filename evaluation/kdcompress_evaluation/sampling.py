"""What is resampled, and the sums over it: one set of draws for all variants, so that differences are paired."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.bootstrap import MIN_SPEAKERS, Estimate, choose_speakers, interval, resampled_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.metrics import Metric

UTTERANCE = "utterance"
"""Unit of the bootstrap where every input stands for itself."""
FEWEST_UNITS = 5
"""Under so many units a report gives no interval: it would say anything."""


@dataclass(frozen=True)
class Sums:
    """Statistics added up over all units, and over every bootstrap draw of them."""

    total: NDArray[np.float64]
    """(K,) as the data are."""
    draws: NDArray[np.float64]
    """(R, K)."""
    units: int
    """Units drawn, less one for every stratum beyond the first: degrees of freedom plus one."""

    def part(self, columns: slice) -> Sums:
        """Some of the columns."""
        return Sums(self.total[columns], self.draws[:, columns], self.units)


@dataclass(frozen=True)
class Units:
    """Which unit every utterance belongs to; manifests in order."""

    name: str
    """``utterance``, or the field that says what hangs together."""
    codes: tuple[NDArray[np.int64], ...]
    """By manifest, (N,): number of the unit, the same for a value that is in several manifests."""

    @classmethod
    def of(cls, field: str, values: Sequence[Sequence[str | None]]) -> Units:
        """Values of a field where every manifest names enough of them, else utterances.

        Args:
            field: its name, such as ``speaker``.
            values: by manifest, of every utterance.
        """
        if all(choose_speakers(named) is not None for named in values):
            known = {name: code for code, name in enumerate(sorted({str(s) for named in values for s in named}))}
            codes = [np.array([known[str(s)] for s in named], dtype=np.int64) for named in values]
            return cls(field, tuple(codes))
        return utterances([len(named) for named in values])

    def some(self, rows: Sequence[NDArray[np.bool_]]) -> Units:
        """Units of the utterances that ``rows`` (by manifest) marks.

        Units that are too few among those to carry an interval make way for utterances.
        """
        codes = tuple(codes[marked] for codes, marked in zip(self.codes, rows, strict=True))
        if self.name != UTTERANCE and len(np.unique(np.concatenate(codes))) < MIN_SPEAKERS:
            return utterances([len(one) for one in codes])
        return Units(self.name, codes)


def utterances(sizes: Sequence[int]) -> Units:
    """Every utterance on its own; ``sizes`` by manifest."""
    starts = np.cumsum([0, *sizes])
    return Units(UTTERANCE, tuple(np.arange(a, b) for a, b in pairwise(starts.tolist())))


def draw_manifests(
    statistics: Sequence[NDArray[np.float64]], units: Units, *, resamples: int, seed: int
) -> tuple[Sums, list[Sums]]:
    """Sums over all manifests together, and over each.

    Units that are in the same manifests are drawn from each other, so that the mix of test sets stays as it is; a
    speaker who is in several manifests brings all of their utterances along.

    Args:
        statistics: by manifest, (N, K).
        units: of the utterances.
        resamples: draws R.
        seed: the same one gives the same draws.
    """
    width = statistics[0].shape[1]
    present = [np.unique(codes) for codes in units.codes]
    everybody = np.unique(np.concatenate(present))
    member = np.stack([np.isin(everybody, one) for one in present], axis=1)
    patterns, stratum = np.unique(member, axis=0, return_inverse=True)
    by_manifest = [np.zeros((resamples, width)) for _ in statistics]
    # Patterns are sorted: the draws do not depend on the order in which speakers were met.
    for number, pattern in enumerate(patterns):
        inside = everybody[stratum.reshape(-1) == number]
        where = np.flatnonzero(pattern)
        parts = [_inside(statistics[m], units.codes[m], inside) for m in where]
        drawn = resampled_sums(np.hstack(parts), resamples=resamples, seed=[seed, number])
        for place, manifest in enumerate(where):
            by_manifest[manifest] += drawn[:, place * width : (place + 1) * width]
    totals = [one.sum(axis=0) for one in statistics]
    each = [
        Sums(total, drawn, _free(len(codes), int(strata)))
        for total, drawn, codes, strata in zip(totals, by_manifest, present, patterns.sum(axis=0), strict=True)
    ]
    return Sums(np.sum(totals, axis=0), np.sum(by_manifest, axis=0), _free(len(everybody), len(patterns))), each


def _free(units: int, strata: int) -> int:
    return max(0, units - max(0, strata - 1))


def _inside(statistics: NDArray[np.float64], codes: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """(U, K) statistics of each of ``units``, which are sorted."""
    place = np.searchsorted(units, codes)
    known = (place < len(units)) & (units[np.minimum(place, len(units) - 1)] == codes)
    return add_up(statistics[known], place[known], len(units))


def add_up(statistics: NDArray[np.float64], codes: NDArray[np.int64], count: int | None = None) -> NDArray[np.float64]:
    """Add up rows of ``statistics`` (N, K) with the same code: (units, K), in the order of the codes."""
    if count is None:
        names, codes = np.unique(codes, return_inverse=True)
        count = len(names)
    sums = np.empty((count, statistics.shape[1]))
    for column in range(statistics.shape[1]):
        sums[:, column] = np.bincount(codes.reshape(-1), weights=statistics[:, column], minlength=count)
    return sums


def estimate(metric: Metric, sums: Sums) -> Estimate:
    """The metric with its interval."""
    value, draws, trials = float(metric.value(sums.total)), metric.value(sums.draws), metric.trials(sums.total)
    return _ends(sums, interval(value, draws, sums.units, lowest=0.0, highest=metric.highest, trials=trials))


def difference(metric: Metric, sums: Sums, other: Sums) -> Estimate:
    """The metric on ``sums`` minus that on ``other``, draw by draw."""
    both = metric.value(sums.draws) - metric.value(other.draws)
    return _ends(sums, interval(float(metric.value(sums.total) - metric.value(other.total)), both, sums.units))


def share(sums: Sums) -> Estimate:
    """The first column over the second."""
    found = interval(float(_divide(sums.total)), _divide(sums.draws), sums.units, lowest=0.0, highest=1.0)
    return _ends(sums, found)


def _ends(sums: Sums, found: Estimate) -> Estimate:
    """``found``, without an interval where the units are too few for one."""
    return found if sums.units >= FEWEST_UNITS else Estimate(found.value)


def _divide(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])
