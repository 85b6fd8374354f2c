"""From chunks of audio to events: partial results as they change, final ones at endpoints and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.resample import check_rate
from kdcompress_runtime.samples import check_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from kdcompress_runtime.result import Result
    from kdcompress_runtime.stream import Stream

PIECE_SECONDS = 1.0
"""Longer chunks are decoded in pieces of this length, so that events come on the way and nothing has to wait."""


@dataclass(frozen=True)
class Event:
    """News of a stream."""

    kind: str
    """``partial``: the utterance goes on; ``final``: it has ended."""
    result: Result
    """What is recognised of the utterance; times count from the start of the stream."""
    rule: str | None = None
    """Of a final event: the rule of ``EndpointRules`` that ended the utterance; None: the end of the audio."""

    @property
    def is_final(self) -> bool:
        """Whether the utterance has ended."""
        return self.kind == "final"


class EventSource:
    """Feeds one stream and tells what is new.

    A partial event comes when tokens, or how many of them are stable, have changed. Utterances without a token (long
    silences) give no event; only the last of a stream that has given no final event at all is told though empty.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._told: tuple[tuple[str, ...], int] = ((), 0)
        self._any_final = False

    def pieces(self, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[Any]]:
        """Cut a chunk for ``feed``.

        Raises:
            AudioError, OptionsError: see ``Stream.accept_waveform``; nothing of the chunk was taken.
        """
        check_rate(sample_rate)
        check_samples(samples)
        step = max(1, int(PIECE_SECONDS * sample_rate))
        for start in range(0, max(len(samples), 1), step):
            yield samples[start : start + step]

    def feed(self, samples: NDArray[Any], sample_rate: int) -> list[Event]:
        """Decode more audio.

        Raises:
            AudioError, OptionsError, MissingDependencyError, ModelError: see ``Stream.accept_waveform``.
        """
        self._stream.accept_waveform(samples, sample_rate)
        events = self._endpoints()
        partial = self._stream.partial_result()
        if (partial.tokens, partial.stable_tokens) != self._told:
            self._told = (partial.tokens, partial.stable_tokens)
            events.append(Event("partial", partial))
        return events

    def finish(self) -> list[Event]:
        """Decode the tail.

        Raises:
            OptionsError, ModelError: see ``Stream.input_finished``.
        """
        self._stream.input_finished()
        events = self._endpoints()
        last = self._stream.result()
        if last.tokens or not self._any_final:
            self._any_final = True
            events.append(Event("final", last))
        return events

    def _endpoints(self) -> list[Event]:
        events = []
        while (rule := self._stream.endpoint_rule) is not None:
            result = self._stream.result()
            if result.tokens:
                self._any_final = True
                events.append(Event("final", result, rule))
            self._told = ((), 0)
            self._stream.reset()
        return events


def iterate(source: EventSource, chunks: Iterable[NDArray[Any]], sample_rate: int) -> Iterator[Event]:
    """Pull chunks and yield their events; see ``Recognizer.stream``."""
    for chunk in chunks:
        for piece in source.pieces(chunk, sample_rate):
            yield from source.feed(piece, sample_rate)
    yield from source.finish()
