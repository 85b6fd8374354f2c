"""Counts of n-grams. Each n-gram is known by its index, and by the n-grams that begin and end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BOS_ID = 1


@dataclass
class Grams:
    """Distinct n-grams of one length, n >= 1; all arrays are (count,)."""

    context: NDArray[np.int32]
    """Index of its first n - 1 words among the n-grams of that length; 0 for unigrams."""
    word: NDArray[np.int32]
    """Its last word."""
    lower: NDArray[np.int32]
    """Index of its last n - 1 words among the n-grams of that length; 0 for unigrams."""
    count: NDArray[np.int64]
    """How often it stands in the text; ``<s>`` alone never does."""
    adjusted: NDArray[np.int64]
    """What smoothing counts: different words before it; or how often it stands there, when it begins with ``<s>`` or
    is of the longest kind."""

    def __len__(self) -> int:
        return len(self.word)


def count_grams(
    ids: NDArray[np.int32], types: int, order: int, on_order: Callable[[int], None] | None = None
) -> list[Grams]:
    """Count the n-grams of every length up to ``order``; none goes over the start of a sentence.

    Args:
        ids: sentences one after the other, each between ``<s>`` (id 1) and ``</s>`` (2); (length,).
        types: different words.
        order: longest length.
        on_order: called with each length that was counted.
    """
    starts = np.flatnonzero(ids == BOS_ID)
    offset = np.arange(len(ids), dtype=np.int32)
    offset -= np.repeat(starts, np.diff(starts, append=len(ids))).astype(np.int32)
    count = np.bincount(ids, minlength=types)
    count[BOS_ID] = 0
    nothing = np.zeros(types, np.int32)
    grams = [Grams(nothing, np.arange(types, dtype=np.int32), nothing, count, count)]
    ending = ids  # index of the n-gram that ends at each place of the text
    begins = np.arange(types) == BOS_ID
    for length in range(2, order + 1):
        if on_order:
            on_order(length - 1)
        places = np.flatnonzero(offset >= length - 1)
        ending, following = _longer(ending, ids, places, types)
        grams[-1].adjusted = np.where(begins, grams[-1].count, np.bincount(following.lower, minlength=len(grams[-1])))
        begins = begins[following.context]
        grams.append(following)
    if on_order:
        on_order(order)
    return grams


def _longer(
    ending: NDArray[np.int32], ids: NDArray[np.int32], places: NDArray[np.int64], types: int
) -> tuple[NDArray[np.int32], Grams]:
    """Count n-grams that end at ``places``, from those one shorter that end at every place."""
    keys = ending[places - 1].astype(np.int64) * types + ids[places]
    _, first, inverse, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    del keys
    at = places[first]
    longer = np.full(len(ids), -1, np.int32)
    longer[places] = inverse.reshape(-1)
    return longer, Grams(ending[at - 1], ids[at], ending[at], count, count)


def spelled(grams: list[Grams], length: int, indices: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Words of n-grams of one length; (count,) -> (count, length), oldest first."""
    words = np.empty((len(indices), length), np.int32)
    for column in range(length, 0, -1):
        words[:, column - 1] = grams[column - 1].word[indices]
        indices = grams[column - 1].context[indices]
    return words
