"""Batches by their seconds: as many items as fit, and the batch of a step still follows from seed and step alone.

All items, sorted by length, are cut into buckets once and for all; each holds items of many batches, and all of its
batches are of one size: as many of its longest item as fit. So every epoch has the same number of batches, and which
items are in the batch of a step takes two shuffled orders, one of all batches and one of the items of a bucket.
"""

from __future__ import annotations

import tempfile
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.data.shuffle import Permutation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

LEAST_BATCHES = 4
"""In a bucket: with fewer, an item would meet the same others in every epoch."""
_BINS = 1 << 16
_CHUNK = 1 << 16


class Bucket(NamedTuple):
    """Neighbours in length."""

    first: int
    """Rank of its longest item, the longest of all being 0."""
    items: int
    size: int
    """Copies in each of its batches."""
    batches: int


class BucketPlan:
    """Batches of at most ``budget`` input units, padding included.

    Buckets begin at the longest item, and hold as many batches as there are buckets, roughly: shuffling and padding get
    the same share. What fills no batch is left out in the last bucket, of short items, others in every epoch. An item
    that is longer than the budget is a batch of its own.

    Args:
        lengths: of all items, in input units.
        budget: input units of a batch, over all processes.
        longest: the most input units that items of such a length can become.
        streams: copies of each item.
        seed: another one is another order.
    """

    def __init__(
        self,
        lengths: NDArray[np.uint32],
        budget: int,
        *,
        longest: Callable[[int], int],
        streams: int,
        seed: int,
    ) -> None:
        self._streams, self._seed = streams, seed
        self._order, starts, longest_in = _by_length(lengths)
        ranked = _Ranked(len(lengths), starts, [longest(int(length)) for length in longest_in])
        self.buckets = list(_cut(ranked, budget, streams, _batches_about(lengths, budget, longest, streams)))
        self._ends = np.cumsum([bucket.batches for bucket in self.buckets])
        self.batches = int(self._ends[-1])
        self.smallest = min(bucket.size for bucket in self.buckets)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Copies of the whole batch of ``step``, over all processes; copy ``i * streams + k`` is item i, stream k."""
        epoch, index = divmod(step, self.batches)
        place = int(Permutation(self.batches, self._seed, epoch)(np.array([index]))[0])
        number = int(np.searchsorted(self._ends, place, side="right"))
        bucket = self.buckets[number]
        start = (place - int(self._ends[number]) + bucket.batches) * bucket.size
        shuffled = Permutation(bucket.items * self._streams, self._seed, epoch, number)
        copies = shuffled(np.arange(start, start + bucket.size))
        items = self._order[bucket.first + copies // self._streams].astype(np.int64)
        return np.asarray(items * self._streams + copies % self._streams)


class _Ranked:
    """How long the items of a rank can become: the bound of the bin that they are sorted into."""

    def __init__(self, items: int, starts: NDArray[np.int64], bounds: list[int]) -> None:
        self.items, self._starts, self._bounds = items, starts, bounds

    def longest(self, rank: int) -> int:
        """Input units that no item of this rank, or of a later one, exceeds."""
        return self._bounds[int(np.searchsorted(self._starts, rank, side="right")) - 1]


def _cut(ranked: _Ranked, budget: int, streams: int, batches: int) -> Iterator[Bucket]:
    """Buckets from the longest item to the shortest; ``batches`` is about how many there will be in all."""
    first, each = 0, max(LEAST_BATCHES, isqrt(batches))
    while (left := ranked.items - first) > 0:
        size = max(1, budget // max(1, ranked.longest(first)))
        items = size * -(-each // streams)  # whole batches of the copies of whole items
        if left < 2 * items:
            items = left
        size = min(size, items * streams)
        yield Bucket(first, items, size, items * streams // size)
        first += items


def _batches_about(lengths: NDArray[np.uint32], budget: int, longest: Callable[[int], int], streams: int) -> int:
    total = sum(int(lengths[start : start + _CHUNK].sum(dtype=np.int64)) for start in range(0, len(lengths), _CHUNK))
    return longest(-(-total // len(lengths))) * len(lengths) * streams // budget


def _by_length(lengths: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint32]]:
    """Sort by length, longest first, in bins that are fine enough; a counting sort, for any number of items.

    Returns:
        Items by rank, ``(items,)`` in a mapped file; the rank at which each bin begins; the longest length in each bin.
    """
    pieces = range(0, len(lengths), _CHUNK)
    top = max(int(lengths[start : start + _CHUNK].max()) for start in pieces) + 1
    bins = min(_BINS, top)

    def binned(start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        piece = np.asarray(lengths[start : start + _CHUNK]).astype(np.int64)
        return bins - 1 - piece * bins // top, piece

    counts, longest = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for start in pieces:
        numbers, piece = binned(start)
        counts += np.bincount(numbers, minlength=bins)
        np.maximum.at(longest, numbers, piece)
    starts = np.cumsum(counts) - counts
    with tempfile.TemporaryFile(prefix="kdcompress-order-") as file:
        order = np.memmap(file, dtype=np.uint32, mode="w+", shape=(len(lengths),))
    free = starts.copy()
    for start in pieces:
        numbers, _ = binned(start)
        by_bin = np.argsort(numbers, kind="stable")
        sorted_numbers = numbers[by_bin]
        within = np.arange(len(numbers)) - np.searchsorted(sorted_numbers, sorted_numbers)
        order[free[sorted_numbers] + within] = start + by_bin
        free += np.bincount(numbers, minlength=bins)
    used = counts > 0
    return order, starts[used], longest[used].astype(np.uint32)
