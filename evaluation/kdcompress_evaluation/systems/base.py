"""What every system under test offers, whatever it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kdcompress_evaluation.inputs import facts_of, read_input
from kdcompress_evaluation.tasks import AUDIO
from kdcompress_runtime.audio import read_audio

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from kdcompress_evaluation.inputs import Value
    from kdcompress_runtime.manifest import ManifestEntry


@dataclass(frozen=True)
class Word:
    """A word with its place."""

    text: str
    """Its letters."""
    begin: float
    """Seconds of audio; columns of an image; source tokens."""
    end: float
    """The same."""


@dataclass(frozen=True)
class Recognised:
    """What a system answers."""

    text: str
    """Raw."""
    log_prob: float | None = None
    """Of the text, natural logarithm, where the system says so."""
    words: tuple[Word, ...] = ()
    """With times, where the system says so."""


@dataclass
class Item:
    """One line of a manifest, without its reference; what it names is read when it is first asked for."""

    manifest: str
    """Name of the manifest."""
    index: int
    """Position in it."""
    id: str
    """Its id."""
    kind: str
    """``audio``, ``image`` or ``text``."""
    input: str
    """Path of the recording or image, or the source sentence."""
    duration: float | None = None
    """Seconds as the manifest says, if it does."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the line."""
    _audio: dict[int | None, tuple[NDArray[np.float32], int]] = field(default_factory=dict, repr=False)
    _values: dict[int | None, Value] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, manifest: str, index: int, entry: ManifestEntry) -> Item:
        """Take over a line of a manifest."""
        return cls(manifest, index, entry.id, entry.kind, entry.input, entry.duration, dict(entry.extra))

    @classmethod
    def holding(cls, kind: str, value: Value, form: int | None) -> Item:
        """An item whose input is read already, for timing."""
        held = {form: (value, form or 0)} if kind == AUDIO else {}
        return cls("", 0, "", kind, value if isinstance(value, str) else "", _audio=held, _values={form: value})

    def audio(self, sample_rate: int | None) -> tuple[NDArray[np.float32], int]:
        """Samples, float32, shape ``(n,)``, at ``sample_rate`` (``None``: that of the file), and their rate in Hz.

        Raises:
            AudioError: missing, unreadable or empty.
            MissingDependencyError: audio cannot be read here.
        """
        if sample_rate not in self._audio:
            self._audio[sample_rate] = read_audio(self.input, sample_rate=sample_rate)
        return self._audio[sample_rate]

    def value(self, form: int | None) -> Value:
        """What a system is fed; see ``inputs.read_input`` for ``form`` and for what is raised."""
        if form not in self._values:
            self._values[form] = self.audio(form)[0] if self.kind == AUDIO else read_input(self.kind, self.input, form)
        return self._values[form]

    def facts(self, form: int | None) -> dict[str, float]:
        """What the input says about itself; see ``inputs.facts_of``."""
        return facts_of(self.kind, self.value(form))


class LiveStream(Protocol):
    """One recording on its way through a system."""

    def accept(self, samples: NDArray[np.float32]) -> None:
        """Take samples at the system's rate, shape ``(n,)``, and decode as far as they reach."""

    def partial(self) -> str:
        """Text so far."""

    def finish(self) -> Recognised:
        """No more samples come: decode to the end."""

    def endpoint(self) -> float | None:
        """Seconds of audio at which the utterance ended by the default rules; ``None``: it goes on.

        An end before anything was said does not count: the rules begin anew.
        """


class System(Protocol):
    """A loaded system. One thread at a time."""

    input_kind: str
    """``audio``, ``image``, ``text`` or ``any``."""
    sample_rate: int | None
    """Hz of the samples that streams take; ``None``: no audio."""
    form: int | None
    """Of what it is fed, as ``inputs.read_input`` takes it: Hz of audio, channels of an image; ``None``: any."""
    chunk_seconds: float | None
    """Audio of one streaming step; ``None``: it does not stream."""

    def recognize(self, item: Item) -> Recognised:
        """Recognise an item whole.

        Raises:
            AudioError, OSError: the input cannot be read.
            KdcompressError: the system cannot recognise it.
        """

    def open_stream(self, *, endpoints: bool = False) -> LiveStream:
        """Begin a recording, with the default endpoint rules if asked for.

        Raises:
            OptionsError: the system does not stream.
        """


def no_stream() -> str:
    """What is said to who asks a system for a stream that has none."""
    return "this system takes whole inputs and does not stream; use recognize()"
