"""Whether two systems differ: a paired permutation test, and Holm's correction for many of them.

Noreen, Computer-intensive methods for testing hypotheses, 1989 (approximate randomisation); Phipson and Smyth,
Permutation p-values should never be zero, 2010; Holm, A simple sequentially rejective multiple test procedure, 1979.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_EXACT_UNITS = 12
"""Up to so many units that differ, all swaps are tried."""
_CELLS = 2_000_000
"""Coins tossed at once."""
_TIE = 1e-12
"""Differences this close are equal: sums are taken in another order."""


def permutation_p(
    statistics: NDArray[np.float64], baseline: NDArray[np.float64],
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *, permutations: int = 2000, seed: Sequence[int] = (0,),
) -> float | None:  # fmt: skip
    """Two-sided p-value of the difference between two systems over the same units.

    Were the systems equally good, the two results of a unit might as well be swapped. Each permutation swaps them in
    about half of the units and computes both metrics anew, from sums. Units with equal statistics drop out: swapping
    them changes nothing. All swaps are tried where at most 12 units differ.

    Args:
        statistics: (N, K) of one system, a row a unit: an utterance, or a speaker (``group_sums``). The units of
            several manifests may follow each other.
        baseline: (N, K) of the other, same units.
        value: the metric, from sums (..., K) to (...): ``Metric.value``.
        permutations: random swaps R; the p-value is at least 1 / (1 + R).
        seed: of the random swaps.

    Returns:
        The share of swaps with a difference at least as large as the one found; 1 when no unit differs; ``None`` with
        fewer than two units, or where the metric has no value.
    """
    if len(statistics) < 2:
        return None
    ours, theirs = statistics.sum(axis=0), baseline.sum(axis=0)
    found = abs(float(value(ours)) - float(value(theirs)))
    if np.isnan(found):
        return None
    change = baseline - statistics
    change = change[change.any(axis=1)]
    exact = len(change) <= _EXACT_UNITS
    hits, swaps = 0, 0
    for swapped in _all_swaps(len(change)) if exact else _random_swaps(len(change), permutations, seed):
        moved = swapped @ change
        difference = np.abs(value(ours + moved) - value(theirs - moved))
        hits += int((difference >= found - _TIE).sum())
        swaps += len(swapped)
    return hits / swaps if exact else (1 + hits) / (1 + swaps)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values so that the chance of any false alarm among all of them stays what a single one promises.

    ``None`` stays ``None`` and does not count.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted


def _all_swaps(units: int) -> Iterator[NDArray[np.float64]]:
    """Every way to swap, in one (S, units) array of 0 and 1.

    Swapping all the others instead gives the same difference with the other sign, so one unit may stay.
    """
    ways = product((0.0, 1.0), repeat=max(0, units - 1))
    yield np.array([(0.0, *way)[:units] for way in ways])


def _random_swaps(units: int, permutations: int, seed: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    """Blocks (B, units) of 0 and 1, ``permutations`` rows in all."""
    generator = np.random.default_rng(list(seed))
    block = max(1, _CELLS // units)
    for start in range(0, permutations, block):
        size = (min(block, permutations - start), units)
        yield generator.integers(0, 2, size=size, dtype=np.int8).astype(np.float64)
