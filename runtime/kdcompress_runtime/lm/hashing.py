"""The hash table behind ``NgramModel``: keys of n-grams, and open addressing with linear probing, many at once.

The compiled search reads the same tables, so keys and probing are part of the format of packed models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_START = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def key_of(ids: Sequence[int]) -> int:
    """Key of one n-gram of two words or more; ``ids`` oldest first. Never 0, which marks an empty slot."""
    value = (_START + len(ids)) & _MASK
    for word in reversed(ids):
        value = (value * _START + word + 1) & _MASK
        value = ((value ^ (value >> 30)) * _FIRST) & _MASK
        value = ((value ^ (value >> 27)) * _SECOND) & _MASK
        value ^= value >> 31
    return value or 1


def keys_of(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Keys of n-grams; ``ids`` is (count, n), oldest word first; returns (count,)."""
    count, length = ids.shape
    value = np.full(count, (_START + length) & _MASK, np.uint64)
    for column in range(length - 1, -1, -1):
        value *= np.uint64(_START)
        value += ids[:, column].astype(np.uint64) + np.uint64(1)
        value ^= value >> np.uint64(30)
        value *= np.uint64(_FIRST)
        value ^= value >> np.uint64(27)
        value *= np.uint64(_SECOND)
        value ^= value >> np.uint64(31)
    value[value == 0] = 1
    return value


def table_size(count: int) -> int:
    """Slots for ``count`` keys: the smallest power of two that is at most half full."""
    return 1 << max(1, (2 * count - 1).bit_length() if count else 1)


def slots_of(keys: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """Slot of each of the distinct ``keys`` in a table of ``size`` slots, as linear probing would place them."""
    home = (keys & np.uint64(size - 1)).astype(np.int64)
    order = np.argsort(home, kind="stable")
    steps = np.arange(len(keys), dtype=np.int64)
    # in order of their homes, a key takes its home or the slot after the key before it, whichever is later
    placed = np.maximum.accumulate(home[order] - steps) + steps if len(keys) else steps
    beyond = np.flatnonzero(placed >= size)
    if beyond.size:
        occupied = np.zeros(size, bool)
        occupied[placed[: beyond[0]]] = True
        placed[beyond] = np.flatnonzero(~occupied)[: beyond.size]
    slots = np.empty(len(keys), np.int64)
    slots[order] = placed
    return slots
