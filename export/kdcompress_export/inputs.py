"""What the exporter must know of each kind of input, in one place: recordings, images of lines, sentences.

Runtime only: no torch, no onnx. Everything else in this room asks here, and asks nothing about tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import BundleError, ManifestError
from kdcompress_runtime.images import read_image, to_columns
from kdcompress_runtime.input_kinds import KINDS, axes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from kdcompress_export.error_rates import Counted
    from kdcompress_runtime.bundle import InputSpec
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.model import CtcModel
    from kdcompress_runtime.source_text import SourceTable

    Units = NDArray[Any]
    """One input without the batch axis: ``(units,)`` or ``(units, F)``."""

PROBE_SEEDS = (11, 12)


class Inputs(ABC):
    """Inputs of one model."""

    item: ClassVar[str]
    """What an input is called in messages."""
    counted: ClassVar[Counted] = "words"
    """Errors of what decide whether a smaller file is worse. Words, as everywhere; characters where inputs hold two or
    three words each, often numbers: a dev set then has too few words to tell anything."""
    manifest_kind: ClassVar[str]
    """``kind`` of the entries of a manifest that fit."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    @property
    def dtype(self) -> str:
        """Of the graph's input."""
        return KINDS[self.spec.kind].dtype

    @property
    def units(self) -> str:
        """Name of its second axis: what an input is long in."""
        return KINDS[self.spec.kind].units

    @property
    def can_stream(self) -> bool:
        """Whether there are models that take them piece by piece."""
        return KINDS[self.spec.kind].streams

    @property
    def items(self) -> str:
        """Plural of ``item``."""
        return f"{self.item}s"

    @property
    def trailing(self) -> tuple[int, ...]:
        """Sizes of the axes behind the units."""
        return tuple(int(size) for size in axes_of(self.spec)[1:])

    @property
    def frame_shift_ms(self) -> float:
        """Time between output frames; where input is no sound, a unit of it counts as a second."""
        return 1000.0 * self.spec.units_per_frame / self.spec.frames_per_unit

    @property
    @abstractmethod
    def long(self) -> int:
        """Units of the long input that is timed."""

    @property
    @abstractmethod
    def long_words(self) -> str:
        """The same in words."""

    @property
    @abstractmethod
    def proof_lengths(self) -> tuple[int, ...]:
        """Units of the inputs on which a graph is compared with its origin, the shortest first."""

    @abstractmethod
    def synthetic(self, units: int, seed: int) -> Units:
        """Make up an input, the same on every machine: ``(units, ...)``, for want of a real one."""

    @abstractmethod
    def probe(self) -> list[Units]:
        """Inputs that are the same on every machine, for verification without data."""

    @abstractmethod
    def asked(self, entry: ManifestEntry) -> tuple[Any, ...]:
        """Read an entry as ``Recognizer.recognize`` takes it: its arguments."""

    @abstractmethod
    def read(self, entry: ManifestEntry) -> Units:
        """Read an entry as the graph takes it, ``(units, ...)``."""

    def faint(self) -> Units | None:
        """Return an input that shows a wrong normalisation, where norms inside a model would hide it."""
        return None

    def read_all(self, entries: Iterable[ManifestEntry]) -> Iterator[Units]:
        """Read entries one at a time.

        Raises:
            ManifestError: an entry is of another kind.
            AudioError, ImageError, SourceTextError: it cannot be read.
        """
        for entry in entries:
            yield self.read(self.checked(entry))

    def checked(self, entry: ManifestEntry) -> ManifestEntry:
        """Return an entry of the right kind.

        Raises:
            ManifestError: it is of another one.
        """
        if entry.kind != self.manifest_kind:
            raise ManifestError(
                f"item {entry.id} is of kind {entry.kind}, and the model takes {self.items}; give a manifest of those"
            )
        return entry


def identity(entry: ManifestEntry) -> str:
    """What tells the content of an entry from that of others: its file, or its sentence."""
    if entry.kind == Sentences.manifest_kind:
        return " ".join(entry.input.split())
    return str(Path(entry.input).resolve())


class Recordings(Inputs):
    """Mono audio at the model's rate, float32 ``(samples,)`` in [-1, 1]."""

    item, manifest_kind = "recording", "audio"
    LONG_SECONDS: ClassVar[float] = 10.0
    PROBE_SECONDS: ClassVar[float] = 5.0

    @property
    def rate(self) -> int:
        """Hz."""
        return self.spec.sample_rate or 16000

    @property
    def frame_shift_ms(self) -> float:
        """See ``Inputs.frame_shift_ms``."""
        return 1000.0 * self.spec.units_per_frame / self.rate

    @property
    def long(self) -> int:
        """See ``Inputs.long``."""
        return round(self.LONG_SECONDS * self.rate)

    @property
    def long_words(self) -> str:
        """See ``Inputs.long_words``."""
        return f"{self.LONG_SECONDS:.0f} s"

    @property
    def proof_lengths(self) -> tuple[int, ...]:
        """See ``Inputs.proof_lengths``."""
        return tuple(sorted({max(self.spec.min_units, round(seconds * self.rate)) for seconds in (0.0, 1.0, 10.0)}))

    def synthetic(self, units: int, seed: int) -> Units:
        """Noise like speech: a second more, cut from its middle, since its start may lie between two syllables."""
        samples = speech_like_noise(1.0 + units / self.rate, self.rate, seed)
        return samples[self.rate // 4 : self.rate // 4 + units]

    def probe(self) -> list[Units]:
        """See ``Inputs.probe``."""
        return [speech_like_noise(self.PROBE_SECONDS, self.rate, seed) for seed in PROBE_SEEDS]

    def faint(self) -> Units | None:
        """Noise 60 dB quieter."""
        units = max(self.spec.min_units, self.rate)
        return (1e-3 * self.synthetic(units, len(PROBE_SEEDS))).astype(np.float32)

    def asked(self, entry: ManifestEntry) -> tuple[Any, ...]:
        """Samples and their rate."""
        return read_audio(self.checked(entry).input)

    def read(self, entry: ManifestEntry) -> Units:
        """Samples at the model's rate."""
        return read_audio(entry.input, self.rate)[0]


class Images(Inputs):
    """Columns of images of text lines, uint8 ``(columns, height * channels)``."""

    item, manifest_kind, counted = "image", "image", "characters"
    LONG_WIDTH: ClassVar[int] = 12
    """Of the line that is timed, in heights: a line of some thirty letters."""

    @property
    def height(self) -> int:
        """Pixels of a column."""
        return self.spec.height or 1

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.spec.channels or 1

    @property
    def long(self) -> int:
        """See ``Inputs.long``."""
        return self.LONG_WIDTH * self.height

    @property
    def long_words(self) -> str:
        """See ``Inputs.long_words``."""
        return f"{self.long} columns"

    @property
    def proof_lengths(self) -> tuple[int, ...]:
        """One column, lengths that fill no frame, a long line."""
        return tuple(sorted({1, 3, 2 * self.height + 1, self.long + self.spec.units_per_frame - 1}))

    def synthetic(self, units: int, seed: int) -> Units:
        """Dark strokes on bright ground, with the noise of a scanner."""
        rng = np.random.default_rng(seed)
        rows, wide = -(-self.height // 4), -(-units // 3)
        strokes = rng.random((wide, rows)) < 0.3
        ink = strokes.repeat(3, axis=0).repeat(4, axis=1)[:units, : self.height, None]
        ground = rng.uniform(180, 250, self.channels)
        shade = np.where(ink, 0.25, 1.0) * ground + rng.normal(0, 6, (units, self.height, self.channels))
        pixels: Units = np.clip(shade, 0, 255).astype(np.uint8).reshape(units, -1)
        return pixels

    def probe(self) -> list[Units]:
        """See ``Inputs.probe``."""
        return [self.synthetic(self.long, seed) for seed in PROBE_SEEDS]

    def asked(self, entry: ManifestEntry) -> tuple[Any, ...]:
        """Pixels ``(height, width, channels)``."""
        return (read_image(self.checked(entry).input, self.channels),)

    def read(self, entry: ManifestEntry) -> Units:
        """Columns at the model's height."""
        return to_columns(read_image(entry.input, self.channels), self.height, self.channels)


class Sentences(Inputs):
    """Ids of source tokens, int64 ``(tokens,)``."""

    item, manifest_kind = "sentence", "text"
    LONG: ClassVar[int] = 24

    def __init__(self, spec: InputSpec, table: SourceTable | None = None) -> None:
        super().__init__(spec)
        self._table = table

    @property
    def table(self) -> SourceTable:
        """Source table.

        Raises:
            BundleError: there is none.
        """
        if self._table is None:
            raise BundleError("the model reads source tokens, and their table is missing; export the bundle again")
        return self._table

    @property
    def long(self) -> int:
        """See ``Inputs.long``."""
        return self.LONG

    @property
    def long_words(self) -> str:
        """See ``Inputs.long_words``."""
        return f"{self.LONG} source tokens"

    @property
    def proof_lengths(self) -> tuple[int, ...]:
        """One token, odd and even numbers of them, a text far longer than a sentence."""
        return (1, 2, 7, self.LONG, 151)

    def synthetic(self, units: int, seed: int) -> Units:
        """Tokens at random."""
        return np.random.default_rng(seed).integers(0, len(self.table), units, dtype=np.int64)

    def probe(self) -> list[Units]:
        """See ``Inputs.probe``."""
        return [self.synthetic(self.LONG, seed) for seed in PROBE_SEEDS]

    def asked(self, entry: ManifestEntry) -> tuple[Any, ...]:
        """The sentence."""
        return (self.checked(entry).input,)

    def read(self, entry: ManifestEntry) -> Units:
        """Ids of the sentence's tokens."""
        return self.table.encode(entry.input, where=f"item {entry.id}")


_KINDS: dict[str, type[Inputs]] = {"pcm": Recordings, "image": Images}


def inputs_for(spec: InputSpec, table: SourceTable | None = None) -> Inputs:
    """Return the inputs that a graph takes.

    Args:
        spec: of its input.
        table: source table, to read or make up ``tokens``.

    Raises:
        BundleError: of a kind that this version does not know.
    """
    if spec.kind == "tokens":
        return Sentences(spec, table)
    if spec.kind not in _KINDS:
        raise BundleError(f"inputs of kind {spec.kind!r} are unknown here; export the bundle again with this version")
    return _KINDS[spec.kind](spec)


def inputs_of(model: CtcModel) -> Inputs:
    """Return the inputs that a loaded model takes; see ``inputs_for``."""
    return inputs_for(model.metadata.input, model.source_table)
