"""A variant against the baseline: paired differences, tests, and what changed utterance by utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.sampling import add_up, share
from kdcompress_evaluation.scoring import ErrorCounts
from kdcompress_evaluation.significance import permutation_p
from kdcompress_evaluation.summary import Comparison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.metrics import Metric
    from kdcompress_evaluation.sampling import Sums, Units

_TIE = 1e-9
"""Costs this close are the same."""
_SHIFTED = ("substitutions", "deletions", "insertions")


def not_worse(metric: Metric, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2): whether each utterance costs at most what it costs the baseline, and 1."""
    worse = metric.costs(ours) > metric.costs(theirs) + _TIE
    return np.stack([1.0 - worse, np.ones(len(worse))], axis=1)


def compare(
    metric: Metric,
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    sums: Sums,
    words: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Comparison:
    """Count utterances that are better and worse.

    Args:
        metric: decides.
        ours: its statistics by manifest, (N, K).
        theirs: those of the baseline.
        sums: of ``not_worse``.
        words: summed word counts (4,), ours and the baseline's.
    """
    change = np.concatenate([metric.costs(a) - metric.costs(b) for a, b in zip(ours, theirs, strict=True)])
    better, worse = int((change < -_TIE).sum()), int((change > _TIE).sum())
    mine, other = (ErrorCounts.of(counts) for counts in words)
    return Comparison(
        better=better,
        same=len(change) - better - worse,
        worse=worse,
        not_worse=share(sums),
        shift={
            kind: (getattr(mine, kind) - getattr(other, kind)) / mine.reference if mine.reference else 0.0
            for kind in _SHIFTED
        },
    )


def p_value(
    metric: Metric,
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    units: Units,
    *,
    permutations: int,
    seed: int,
) -> float | None:
    """Paired permutation test over the units of all manifests; ``None``: too few units, or no value.

    Args:
        metric: tested.
        ours: its statistics by manifest, (N, K).
        theirs: those of the baseline.
        units: swapped as wholes; a speaker of several manifests is one unit.
        permutations: random swaps.
        seed: of the swaps.
    """
    codes = np.concatenate(units.codes)
    both = [add_up(np.concatenate(one), codes) for one in (ours, theirs)]
    return permutation_p(both[0], both[1], metric.value, permutations=permutations, seed=[seed])
