"""A shuffled order that is computed place by place: no list of all items, whatever their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 4
"""Each changes both halves of a number."""
FEW = 1024
"""So many places are sorted by random numbers, which is quicker, and gives every order of a handful of items."""
_STEP, _ONE, _ALL = np.uint64(0x9E3779B97F4A7C15), np.uint64(1), np.uint64(64)


class Permutation:
    """A pseudo-random order of ``range(size)`` that follows from ``key``; memory and start do not grow with ``size``.

    A Feistel network over the next power of two, walked on where it leaves the range (Black and Rogaway, "Ciphers with
    Arbitrary Finite Domains", 2002). Integers alone: the same on every machine.

    Args:
        size: how many places there are, at least one.
        key: numbers from 0; another key is another order.
    """

    def __init__(self, size: int, *key: int) -> None:
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._low, self._high = np.uint64(bits // 2), np.uint64(bits - bits // 2)
        self._keys = np.random.SeedSequence(key).generate_state(2 * ROUNDS, np.uint64)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what stands at ``places``, each of ``range(size)``: int64 of the same shape."""
        if self.size <= FEW:
            random = _mixed(self._keys[0] + _STEP * np.arange(self.size, dtype=np.uint64))
            return np.argsort(random, kind="stable")[places]
        found = self._encrypt(places.astype(np.uint64))
        while (outside := found >= self.size).any():
            found[outside] = self._encrypt(found[outside])
        return found.astype(np.int64)

    def _encrypt(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers >> self._low, numbers & ((_ONE << self._low) - _ONE)
        for one, other in self._keys.reshape(ROUNDS, 2):
            left = left ^ (_mixed(right + one) >> (_ALL - self._high))
            right = right ^ (_mixed(left + other) >> (_ALL - self._low))
        return (left << self._low) | right


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over the high bits, with the factors of SplitMix64 (Steele et al., 2014)."""
    numbers = numbers * np.uint64(0xBF58476D1CE4E5B9)
    return (numbers ^ (numbers >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
