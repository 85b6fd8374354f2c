"""Batches of the next steps, read while the present one is computed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from kdcompress.data.batch import Batch

AHEAD = 2
"""Batches that each worker may be ahead; they wait in memory."""


class ByStep(Protocol):
    """Batches that are a function of the step, from whatever thread they are asked for."""

    def __getitem__(self, step: int, /) -> Batch:
        """Batch of a step."""


def read_ahead(batches: ByStep, steps: Iterable[int], workers: int) -> Iterator[Batch]:
    """Yield the batches of ``steps`` in their order, the same for any number of workers.

    Args:
        batches: what is read; an error in it comes when its batch is due.
        steps: updates.
        workers: threads that read, since decoding, resampling and mixing leave the interpreter free; 0 for none, each
            batch is then read when it is asked for.
    """
    if not workers:
        yield from (batches[step] for step in steps)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in steps:
            waiting.append(pool.submit(batches.__getitem__, step))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # whoever stops in the middle waits for what is being read, not for all that was to come
        pool.shutdown(cancel_futures=True)
