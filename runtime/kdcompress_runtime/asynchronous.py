"""Events for programs that run an asyncio loop. Imported when first needed: asyncio is not free."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable

    from numpy.typing import NDArray

    from kdcompress_runtime.events import Event, EventSource

_T = TypeVar("_T")


async def iterate(source: EventSource, chunks: AsyncIterable[NDArray[Any]], sample_rate: int) -> AsyncIterator[Event]:
    """Pull chunks and yield their events; see ``Recognizer.stream_async``."""
    async for chunk in chunks:
        for piece in source.pieces(chunk, sample_rate):
            for event in await _in_thread(source.feed, piece, sample_rate):
                yield event
    for event in await _in_thread(source.finish):
        yield event


async def _in_thread(work: Callable[..., _T], *arguments: Any) -> _T:  # noqa: ANN401 - any work's arguments
    """Run ``work`` in a thread; when the task is cancelled, the thread ends first.

    A thread cannot be stopped, and a piece of audio takes it milliseconds; without the wait it would go on using the
    stream and the caller's buffer after the task is gone.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        # Nobody asks for its outcome any more; asked here, so that the loop does not report it as forgotten.
        if not running.cancelled():
            running.exception()
        raise
