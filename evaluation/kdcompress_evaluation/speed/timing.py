"""One variant on one recording, one call after the other; and where the time of a chunk goes."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.speed.record import PartTimes, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcompress_evaluation.engines import Engine, RecognizerEngine
    from kdcompress_evaluation.inputs import Value

_DECODING = ("init_state", "advance", "best", "stable_count")


def time_once(engine: Engine, samples: Value) -> Timing:
    """Recognise an input whole, then in chunks, where it can be fed so.

    Only full chunks count, and none for a model that takes whole recordings: it computes nothing before the end, and
    everything then.
    """
    start = perf_counter()
    engine.whole(samples)
    whole = perf_counter() - start
    feed = engine.feed()
    if feed is None:
        return Timing((whole,), (), (whole,))
    piece = engine.piece or len(samples) or 1
    chunks = []
    for begin in range(0, len(samples), piece):
        part = samples[begin : begin + piece]
        start = perf_counter()
        feed.chunk(part)
        taken = perf_counter() - start
        if engine.piece is not None and len(part) == piece:
            chunks.append(taken)
    start = perf_counter()
    feed.finish()
    return Timing((whole,), tuple(chunks), (perf_counter() - start,))


def together(rounds: Sequence[Timing]) -> Timing:
    """Several rounds over one recording as one."""
    return Timing(
        tuple(seconds for one in rounds for seconds in one.whole),
        tuple(seconds for one in rounds for seconds in one.chunks),
        tuple(seconds for one in rounds for seconds in one.finals),
    )


def time_parts(engine: RecognizerEngine, recordings: Sequence[Value]) -> PartTimes:
    """Time the model and the decoder inside each chunk (each input, where the model does not stream).

    Args:
        engine: opened for this alone: clocks stay in it.
        recordings: inputs as the engine reads them; the first one is run once more before, untimed.
    """
    recognizer = engine.recognizer
    # The stream gets both from its recogniser, and nobody else needs to look inside; so there is no public way.
    graph = _Clocked(recognizer._model, ("step",))  # noqa: SLF001
    decoder = _Clocked(recognizer._decoder, _DECODING)  # noqa: SLF001
    recognizer._model, recognizer._decoder = graph, decoder  # type: ignore[assignment] # noqa: SLF001
    recognizer._answers._model = graph  # type: ignore[attr-defined] # noqa: SLF001
    rows: list[tuple[float, float, float]] = []
    for number, samples in enumerate([recordings[0], *recordings] if recordings else ()):
        for step in _steps(engine, samples):
            graph.seconds = decoder.seconds = 0.0
            start = perf_counter()
            step()
            if number:
                rows.append((perf_counter() - start, graph.seconds, decoder.seconds))
    return PartTimes(*(tuple(row[column] for row in rows) for column in range(3)))


def _steps(engine: Engine, value: Value) -> Iterator[Callable[[], object]]:
    """What there is to do with an input, one step after the other: its full chunks, or all of it at once."""
    feed = engine.feed()
    if feed is None or engine.piece is None:
        yield partial(engine.whole, value)
        return
    for begin in range(0, len(value) - engine.piece + 1, engine.piece):
        yield partial(feed.chunk, value[begin : begin + engine.piece])


class _Clocked:
    """Stands for an object and adds up the seconds that some of its methods take."""

    def __init__(self, inner: Any, methods: Sequence[str]) -> None:  # noqa: ANN401
        self._inner = inner
        self._methods = frozenset(methods)
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found

        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            start = perf_counter()
            try:
                return found(*args, **kwargs)
            finally:
                self.seconds += perf_counter() - start

        return timed
