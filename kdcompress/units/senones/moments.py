"""What a tree is grown from: zeroth, first and second moments of frames, by phone in context and state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

SILENCE = "sil"
"""The context at the ends of an item and beside a long pause; its id is the number of phones."""
LEFT, CENTRE, RIGHT, STATE = range(4)
"""Columns of a context."""
FLOOR_SHARE = 0.01
"""Least variance of a Gaussian, as a share of the variance of all frames."""


@dataclass(frozen=True)
class Statistics:
    """Moments by context; memory grows with the contexts (K), not with the frames."""

    phones: tuple[str, ...]
    """Phone by id; silence is not among them."""
    states: int
    """Parts that each phone is divided into."""
    contexts: Ints
    """Left phone, phone, right phone, state; each once, sorted; ``(K, 4)``."""
    visits: Floats
    """How often each was met, ``(K,)``."""
    moments: Floats
    """Frames, sums and sums of squares of the D features, ``(K, 1 + 2 D)``."""

    @property
    def frames(self) -> Floats:
        """Frames of each context, ``(K,)``."""
        return self.moments[:, 0]

    @property
    def dim(self) -> int:
        """Features of a frame, D."""
        return (self.moments.shape[1] - 1) // 2

    @property
    def floor(self) -> Floats:
        """Least variance of each feature, ``(D,)``; positive."""
        _, scatter = mean_and_scatter(self.moments.sum(axis=0))
        share: Floats = FLOOR_SHARE * scatter / max(1.0, float(self.frames.sum()))
        return np.maximum(share, 1e-10)


def statistics_of(phones: Sequence[str], states: int, contexts: Ints, visits: Floats, moments: Floats) -> Statistics:
    """Add up rows of the same context; the order of the rows changes nothing, not even a rounding.

    Args:
        phones: phone by id.
        states: parts of a phone.
        contexts: ``(R, 4)``.
        visits: ``(R,)``.
        moments: ``(R, 1 + 2 D)``.
    """
    # the last key is the first to sort by; values come in only to give equal contexts one order
    order = np.lexsort((*moments.T[::-1], visits, *contexts.T[::-1]))
    contexts, visits, moments = contexts[order], visits[order], moments[order]
    new = np.ones(len(contexts), dtype=bool)
    new[1:] = (contexts[1:] != contexts[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    if not len(starts):
        return Statistics(tuple(phones), states, contexts, visits, moments)
    return Statistics(
        tuple(phones), states, contexts[starts], np.add.reduceat(visits, starts), np.add.reduceat(moments, starts)
    )


def mean_and_scatter(moments: Floats) -> tuple[Floats, Floats]:
    """Mean and sum of squared distances from it, both ``(..., D)``, of moments ``(..., 1 + 2 D)``."""
    dim = (moments.shape[-1] - 1) // 2
    sums, squares = moments[..., 1 : 1 + dim], moments[..., 1 + dim :]
    mean = sums / np.maximum(moments[..., :1], 1e-300)
    return mean, np.maximum(squares - sums * mean, 0.0)


def log_likelihood(moments: Floats, floor: Floats) -> Floats:
    """Log-likelihood of frames under the diagonal Gaussian that fits them best, in nats.

    Args:
        moments: ``(..., 1 + 2 D)``.
        floor: least variance, ``(D,)``.

    Returns:
        ``(...,)``; zero of no frames.
    """
    frames = moments[..., 0]
    _, scatter = mean_and_scatter(moments)
    variance = np.maximum(scatter / np.maximum(frames, 1e-300)[..., None], floor)
    logs = np.log(variance).sum(axis=-1) + len(floor) * math.log(2 * math.pi)
    found: Floats = -0.5 * (frames * logs + (scatter / variance).sum(axis=-1))
    return found


def likelihood_under(moments: Floats, model: Floats, floor: Floats) -> Floats:
    """Log-likelihood of frames under Gaussians that were fitted to others, in nats.

    Args:
        moments: of the frames, ``(..., 1 + 2 D)``.
        model: moments of the frames that each Gaussian was fitted to, ``(..., 1 + 2 D)``.
        floor: least variance, ``(D,)``.
    """
    dim = len(floor)
    mean, scatter = mean_and_scatter(model)
    variance = np.maximum(scatter / np.maximum(model[..., :1], 1e-300), floor)
    frames, sums, squares = moments[..., 0], moments[..., 1 : 1 + dim], moments[..., 1 + dim :]
    distance = squares - 2 * mean * sums + frames[..., None] * mean * mean
    logs = np.log(variance).sum(axis=-1) + dim * math.log(2 * math.pi)
    found: Floats = -0.5 * (frames * logs + (distance / variance).sum(axis=-1))
    return found


def summed(rows: Floats, groups: Ints, size: int) -> Floats:
    """Sum rows ``(R, W)`` by group ``(R,)``: ``(size, W)``."""
    order = np.argsort(groups, kind="stable")
    found = np.zeros((size, rows.shape[1]))
    if len(order):
        present, starts = np.unique(groups[order], return_index=True)
        found[present] = np.add.reduceat(rows[order], starts)
    return found
