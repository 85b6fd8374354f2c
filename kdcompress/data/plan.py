"""Which items are the batch of a step: a function of seed and step, with memory for one pool of batches."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kdcompress.data.shuffle import Permutation

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUCKET_BATCHES = 16
"""Items of this many batches are sorted by length together: little padding, still a good shuffle."""
_KEPT_POOLS = 4


class Plan(Protocol):
    """Numbers of the copies in the batch of any step; copy ``i * streams + k`` is item i for stream k."""

    batches: int
    """In an epoch; every epoch has as many."""
    smallest: int
    """Copies in the smallest batch."""

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Copies of the whole batch of ``step``, over all processes."""


class PoolPlan:
    """Batches of as many items each.

    An epoch is a shuffled order of all copies. What fills no batch is left out before anything is sorted; after it,
    that would always be the longest items. The order is cut into pools of sixteen batches, each sorted by length, cut
    into batches, and these are shuffled.

    Args:
        lengths: of all items, in input units.
        size: copies in a batch; all of them, if there are fewer.
        streams: copies of each item.
        seed: another one is another order.
    """

    def __init__(self, lengths: NDArray[np.uint32], size: int, *, streams: int, seed: int) -> None:
        self._lengths, self._streams, self._seed = lengths, streams, seed
        self._copies = len(lengths) * streams
        self.smallest = min(size, self._copies)
        self.batches = self._copies // self.smallest
        self._pool = lru_cache(_KEPT_POOLS)(self._make_pool)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Copies of the whole batch of ``step``."""
        epoch, index = divmod(step, self.batches)
        pool, place = divmod(index, BUCKET_BATCHES)
        copies: NDArray[np.int64] = self._pool(epoch, pool)[place]
        return copies

    def _make_pool(self, epoch: int, pool: int) -> NDArray[np.int64]:
        """Copies in the batches of one pool, ``(batches, size)``."""
        first, last = pool * BUCKET_BATCHES, min((pool + 1) * BUCKET_BATCHES, self.batches)
        copies = Permutation(self._copies, self._seed, epoch)(np.arange(first * self.smallest, last * self.smallest))
        lengths = np.asarray(self._lengths[copies // self._streams])
        batches = copies[np.argsort(lengths, kind="stable")].reshape(-1, self.smallest)
        order = Permutation(len(batches), self._seed, epoch, pool)(np.arange(len(batches)))
        return batches[order]
