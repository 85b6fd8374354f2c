"""Chunks as a microphone delivers them: each when its last sample has been heard.

Between two chunks the process sleeps, caches are taken by others and clocks go down; timed one after the other, a
chunk looks up to three times as fast as it is in an app.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.speed.record import Pacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kdcompress_evaluation.engines import Engine


def pace(
    engine: Engine,
    samples: NDArray[Any],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    cpu: Callable[[], float] = time.process_time,
) -> Pacing:
    """Feed the full chunks of a recording in real time.

    A chunk that comes while the one before is still computed waits, as it would in an app; its own computing is what
    counts here.

    Args:
        engine: opened and warm.
        samples: at the engine's rate.
        clock: seconds that go on while the process sleeps.
        sleep: for so many seconds.
        cpu: seconds of computing of this process.

    Returns:
        No chunks when the engine takes whole recordings, or the recording is shorter than a chunk.
    """
    piece, feed = engine.piece, engine.feed()
    if piece is None or feed is None or len(samples) < piece:
        return Pacing((), 0.0, 0.0)
    taken = []
    begin, cpu_begin = clock(), cpu()
    for number in range(len(samples) // piece):
        arrival = begin + (number + 1) * piece / engine.rate
        wait = arrival - clock()
        if wait > 0:
            sleep(wait)
        start = clock()
        feed.chunk(samples[number * piece : (number + 1) * piece])
        taken.append(clock() - start)
    return Pacing(tuple(taken), cpu() - cpu_begin, clock() - begin)
