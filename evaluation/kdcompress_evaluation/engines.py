"""A variant as something that can be timed: an input in, text out, whole; or, where it is audio, piece by piece.

Imported by processes that measure start-up time and memory, so nothing but the runtime is imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kdcompress_evaluation.inputs import read_input
from kdcompress_evaluation.tasks import AUDIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.inputs import Value
    from kdcompress_evaluation.systems import Item, LiveStream, System
    from kdcompress_runtime.recognizer import Recognizer
    from kdcompress_runtime.stream import Stream

THREADS = 1
"""Of onnxruntime, as everything is opened here; spinning is off."""


class Feed(Protocol):
    """One recording on its way through an engine."""

    def chunk(self, samples: NDArray[Any]) -> str:
        """Take samples, compute as far as they reach, and return the text so far."""

    def finish(self) -> str:
        """Say that no more comes, and return the final text."""


class Engine(Protocol):
    """An opened variant."""

    @property
    def rate(self) -> int:
        """Hz of the samples that it takes; 0: no audio."""

    @property
    def form(self) -> int | None:
        """Of what it is fed; see ``inputs.read_input``."""

    def read(self, source: str) -> Value:
        """Read an input in that form."""

    @property
    def piece(self) -> int | None:
        """Samples of a chunk; ``None`` when it takes whole recordings."""

    def whole(self, value: Value) -> str:
        """Recognise an input."""

    def feed(self) -> Feed | None:
        """Begin a recording that comes in pieces; ``None`` when it cannot be fed so."""


class RecognizerEngine:
    """A bundle in this project's runtime. It can be fed in pieces even where it computes at the end only."""

    def __init__(self, recognizer: Recognizer, kind: str = AUDIO) -> None:
        self.recognizer = recognizer
        metadata = recognizer.metadata
        self._kind = kind
        self.form = metadata.input.sample_rate or metadata.input.channels
        self.rate = metadata.input.sample_rate or 0
        self.piece = recognizer.chunk_frames * metadata.input.units_per_frame if metadata.streaming else None

    def read(self, source: str) -> Value:
        """Read an input in the bundle's form."""
        return read_input(self._kind, source, self.form)

    def whole(self, value: Value) -> str:
        """Recognise an input."""
        return self.recognizer.recognize(value, self.rate or None).text

    def feed(self) -> Feed | None:
        """Open a stream; images and sentences are taken whole."""
        return _RecognizerFeed(self.recognizer.create_stream(), self.rate) if self._kind == AUDIO else None


class _RecognizerFeed:
    def __init__(self, stream: Stream, rate: int) -> None:
        self._stream, self._rate = stream, rate

    def chunk(self, samples: NDArray[Any]) -> str:
        self._stream.accept_waveform(samples, self._rate)
        return self._stream.partial_result().text

    def finish(self) -> str:
        self._stream.input_finished()
        return self._stream.result().text


class SystemEngine:
    """Any other system under test."""

    def __init__(self, system: System, item: Callable[[Value], Item]) -> None:
        self._system, self._item, self.form = system, item, system.form
        self.rate = system.sample_rate or 0
        seconds = system.chunk_seconds
        self.piece = None if seconds is None else max(round(seconds * self.rate), 1)

    def read(self, source: str) -> Value:
        """Read an input in the system's form."""
        return read_input(self._system.input_kind, source, self.form)

    def whole(self, value: Value) -> str:
        """Recognise an input."""
        return self._system.recognize(self._item(value)).text

    def feed(self) -> Feed | None:
        """Open a stream, where there is one."""
        return None if self.piece is None else _SystemFeed(self._system.open_stream())


class _SystemFeed:
    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream

    def chunk(self, samples: NDArray[Any]) -> str:
        self._stream.accept(samples)
        return self._stream.partial()

    def finish(self) -> str:
        return self._stream.finish().text


def open_engine(variant: Mapping[str, Any], decoding: Decoding) -> Engine:
    """Open a variant with one thread and no spinning.

    Args:
        variant: a ``VariantInfo`` as JSON.
        decoding: how bundles decode.

    Raises:
        KdcompressError: it cannot be opened.
    """
    if variant["kind"] == "bundle":
        recognizer = decoding.open(Path(variant["bundle_path"]), variant["precision"])
        return RecognizerEngine(recognizer, variant["input_kind"])
    from kdcompress_evaluation.records import from_json
    from kdcompress_evaluation.systems import Item, open_system
    from kdcompress_evaluation.variants import VariantInfo

    system = open_system(from_json(VariantInfo, dict(variant)), decoding)
    return SystemEngine(system, lambda value: Item.holding(system.input_kind, value, system.form))
