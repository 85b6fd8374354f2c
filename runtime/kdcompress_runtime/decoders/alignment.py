"""Exact CTC score and best alignment of a given token sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def align(
    log_probs: NDArray[np.float32] | NDArray[np.float64], token_ids: Sequence[int], blank_id: int
) -> tuple[float, tuple[int, ...]]:
    """Score ``token_ids`` by the CTC forward pass and find where each token begins.

    Args:
        log_probs: natural-log probabilities, shape ``(T, C)``.
        token_ids: U ids without blanks.
        blank_id: column of the blank.

    Returns:
        The log-sum over all alignments, and the first frame of each token in the best one. ``-inf`` and no
        frames when T frames cannot hold the tokens.
    """
    total, frames, _ = spans(log_probs, token_ids, blank_id)
    return total, frames


def spans(
    log_probs: NDArray[np.float32] | NDArray[np.float64], token_ids: Sequence[int], blank_id: int
) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    """As ``align``, and for each token the frame after the last one that holds it in the best alignment."""
    if not len(log_probs):
        return (-np.inf if token_ids else 0.0), (), ()
    labels = np.full(2 * len(token_ids) + 1, blank_id)
    labels[1::2] = token_ids
    skip = np.zeros(len(labels), dtype=bool)  # a token may follow another one directly when they differ
    skip[3::2] = labels[3::2] != labels[1:-2:2]
    emitted = log_probs.astype(np.float64)[:, labels]

    total = np.full(len(labels), -np.inf)
    total[:2] = emitted[0, :2]
    best = total.copy()
    came_from = np.zeros(emitted.shape, dtype=np.int8)
    for frame in range(1, len(emitted)):
        steps = np.stack(_arrivals(best, skip))
        came_from[frame] = steps.argmax(axis=0)
        best = steps.max(axis=0) + emitted[frame]
        total = np.logaddexp.reduce(_arrivals(total, skip)) + emitted[frame]
    log_prob = float(np.logaddexp.reduce(total[-2:]))
    if log_prob == -np.inf:
        return log_prob, (), ()
    return log_prob, *_trace(came_from, len(labels) - 1 - int(len(best) > 1 and best[-2] > best[-1]))


def _arrivals(scores: NDArray[np.float64], skip: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Scores of arriving in each position by staying, by one step, and by skipping a blank."""
    one, two = np.full((2, len(scores)), -np.inf)
    one[1:] = scores[:-1]
    two[2:] = np.where(skip[2:], scores[:-2], -np.inf)
    return [scores, one, two]


def _trace(came_from: NDArray[np.int8], position: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First frame of each token, and the one after its last, on the best path that ends in ``position``."""
    first: dict[int, int] = {}
    end: dict[int, int] = {}
    for frame in range(len(came_from) - 1, -1, -1):
        if position % 2:
            first[position] = frame
            end.setdefault(position, frame + 1)
        position -= int(came_from[frame, position])
    return tuple(first[place] for place in sorted(first)), tuple(end[place] for place in sorted(end))
