"""The bundle: a folder or one ``.zip`` with ``bundle.json``, ``tokens.txt`` and the ONNX files it names.

This module owns the format. Training and export import it downwards, so blank id, vocabulary, frame rate
and state shapes are written down once. ``docs/bundle.md`` describes the format for people.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from kdcompress_runtime.archive import is_plain_name, read_file
from kdcompress_runtime.decoder_settings import DecoderSettings
from kdcompress_runtime.errors import BundleCorruptError, BundleError, BundleVersionError, OptionsError
from kdcompress_runtime.input_kinds import KINDS, SOURCE_TOKENS_FILE, wrong_input
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress_runtime.source_text import SourceTable

FORMAT_VERSION = 4
READABLE_VERSIONS = (1, 2, 3, 4)
"""Version 1 had neither ``streaming`` nor ``input.min_units``; it is read as streaming, one unit at least. Version 2
had no ``decoder``; it is read as saying nothing about it. Version 3 knew no input but ``pcm``."""
_BROUGHT = {
    2: ("streaming", "input.min_units"),
    3: ("decoder",),
    4: ("input.height", "input.channels", "input.frames_per_unit"),
}
"""Fields that came with a version."""
_LATER_FIELDS = {
    version: tuple(name for later, names in _BROUGHT.items() if later > version for name in names)
    for version in READABLE_VERSIONS
}
"""Fields that a version did not have yet."""
_ONLY_KIND, _SINCE_KINDS = "pcm", 4
"""What every input was, and the version that brought others."""
METADATA_FILE = "bundle.json"
TOKENS_FILE = "tokens.txt"
CHECKSUM = "checksum"
"""Field of ``bundle.json`` with its own SHA-256, taken while the field held ``_UNSET``."""
BATCH_AXIS = "N"
"""Marks the batch axis in a shape."""
INTEGER_DTYPES = ("int32", "int64")
STATE_DTYPES = ("float16", "float32", "float64", *INTEGER_DTYPES)
"""What a state can be made of."""
_UNSET = "0" * 64
_MOST_STATE_VALUES = 2**28


@dataclass(frozen=True)
class StateSpec:
    """One tensor that ``step`` takes and returns."""

    name: str
    """Input name in the graph; the output is called ``next_<name>``."""
    shape: tuple[int | str, ...]
    """Integers, and ``"N"`` once, where the batch stands."""
    dtype: str = "float32"
    """numpy name of the dtype."""
    initial: float = 0.0
    """Value that fills the tensor at the start of a stream."""


@dataclass(frozen=True)
class InputSpec:
    """What the graph takes besides its states."""

    kind: str
    """``pcm``: float32 samples in [-1, 1], shape ``(N, samples)``. ``image``: uint8 columns of pixels from left to
    right, each from top to bottom with its channels together, ``(N, columns, height * channels)``. ``tokens``: int64
    ids of ``source_tokens.txt``, ``(N, tokens)``."""
    name: str
    """Input name in the graph."""
    units_per_frame: int
    """Input units (samples, columns, tokens) for one output frame. A streaming ``step`` takes a multiple of it; for a
    model that takes whole inputs it is nominal, the graph decides how many frames come out."""
    sample_rate: int | None = None
    """Hz, for ``pcm``."""
    min_units: int = 1
    """Fewest input units that the graph takes; a shorter recording or text is padded with zeros, a narrower image with
    its last column."""
    height: int | None = None
    """Pixels of a column, for ``image``: 8 to 256."""
    channels: int | None = None
    """1 (grey) or 3 (red, green, blue), for ``image``."""
    frames_per_unit: int = 1
    """Output frames for one input unit, for ``tokens``: 1 to 16; ``units_per_frame`` is 1 where it is above 1."""


@dataclass(frozen=True)
class ModelFile:
    """One ONNX file of the bundle."""

    precision: str
    """``float32``, ``int8``..."""
    file: str
    """Name inside the bundle."""


@dataclass(frozen=True)
class BundleMetadata:
    """The content of ``bundle.json``; everything a runtime must know and nothing it must guess."""

    name: str
    """Short name for tables."""
    task: str
    """``speech``, ``scene_text`` or ``translation``."""
    input: InputSpec
    """Geometry of the input."""
    states: tuple[StateSpec, ...]
    """In the order of the graph's inputs."""
    frame_shift_ms: float
    """Time between output frames. Where the input is no audio, one unit of it counts as a second."""
    subsampling_factor: int
    """Frontend frames for one output frame."""
    lookahead_frames: int
    """Output lags the input by this many frames; a caller drops the first and pads the tail."""
    chunk_frames: int
    """Frames a streaming ``step`` advances by default."""
    models: tuple[ModelFile, ...]
    """At least one."""
    default_precision: str
    """Precision that is loaded when none is asked for."""
    parameters: int
    """Number of trained parameters."""
    blank_id: int
    """Id of the CTC blank; the same as in ``tokens.txt``."""
    streaming: bool = True
    """False: the model takes a whole input in one step. It has no states and no look-ahead, and frame t stands
    at ``t * frame_shift_ms``."""
    decoder: dict[str, Any] = field(default_factory=dict)
    """How to decode, as tuned (``DecoderSettings.to_json``); empty where nobody tuned it."""
    frontend: dict[str, Any] = field(default_factory=dict)
    """Parameters of the frontend inside the graph, for information."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What export proved: parity, error rates with intervals, sizes, speed, and on which CPU."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Recipe, teacher, data fingerprints, versions, licence."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every file of the bundle except ``bundle.json``."""
    format_version: int = FORMAT_VERSION
    """Version of this format."""

    @property
    def decoder_settings(self) -> DecoderSettings | None:
        """The field ``decoder``; None where it is empty.

        Raises:
            OptionsError: it was put together wrongly; what was read from a file was checked.
        """
        return DecoderSettings.from_json(self.decoder)

    def model_file(self, precision: str | None = None) -> ModelFile:
        """Return the model of ``precision``, or the default one.

        Raises:
            BundleError: the bundle holds no such precision.
        """
        wanted = precision or self.default_precision
        for model in self.models:
            if model.precision == wanted:
                return model
        held = ", ".join(model.precision for model in self.models)
        raise BundleError(f"the bundle holds no {wanted} model; it holds: {held}")

    def dumps(self) -> str:
        """Return the content of ``bundle.json``, its checksum among the fields."""
        text = json.dumps({**asdict(self), CHECKSUM: _UNSET}, indent=2, ensure_ascii=False) + "\n"
        start = text.rindex(_UNSET)
        return text[:start] + sha256(text.encode()) + text[start + len(_UNSET) :]

    @classmethod
    def loads(cls, content: str, source: str = METADATA_FILE) -> BundleMetadata:
        """Parse and check the content of ``bundle.json``; an older version is returned as the current one.

        Raises:
            BundleVersionError: written in a format version that is not readable.
            BundleCorruptError: it has a checksum, and was changed since.
            BundleError: not JSON, a field is missing, unknown or of the wrong kind.
        """
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{source}: not valid JSON ({error}); export the bundle again") from error
        if not isinstance(row, dict):
            raise BundleError(f"{source}: expected a JSON object; export the bundle again")
        version = row.get("format_version")
        if not _is_integer(version) or version not in READABLE_VERSIONS:
            raise BundleVersionError(
                f"{source}: bundle format {version!r}, this runtime reads {', '.join(map(str, READABLE_VERSIONS))}; "
                "export the bundle again with this version, or install the kdcompress that wrote it"
            )
        if version != 1 and CHECKSUM in row:
            _check_checksum(content, row.pop(CHECKSUM), source)
        try:
            _refuse_later_fields(row, version)
            metadata = cls(
                **{
                    **row,
                    "format_version": FORMAT_VERSION,
                    "input": InputSpec(**row["input"]),
                    "states": tuple(StateSpec(**{**s, "shape": tuple(s["shape"])}) for s in row["states"]),
                    "models": tuple(ModelFile(**m) for m in row["models"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{source}: missing, unknown or malformed field ({error}); export the bundle again"
            ) from error
        _check(metadata, source)
        return metadata


def _refuse_later_fields(row: dict[str, Any], version: int) -> None:
    """A runtime of that version would not have followed these, so such a file cannot mean them."""
    present = {*row, *(f"input.{name}" for name in row["input"])}
    later = [name for name in _LATER_FIELDS[version] if name in present]
    if version < _SINCE_KINDS and row["input"]["kind"] != _ONLY_KIND and row["input"]["kind"] in KINDS:
        later.append(f"input.kind {row['input']['kind']!r}")
    if later:
        raise ValueError(f"{', '.join(later)} in format {version}")


def _check_checksum(content: str, expected: object, source: str) -> None:
    """Compare the text of ``bundle.json`` with the checksum inside it."""
    found = expected if isinstance(expected, str) and len(expected) == len(_UNSET) else None
    before, _, after = content.rpartition(found or _UNSET)
    if found is None or sha256((before + _UNSET + after).encode()) != found:
        raise BundleCorruptError(
            f"{source}: its SHA-256 is not the {CHECKSUM} it records; the file was changed or damaged: "
            f"copy or export the bundle again (who edits it on purpose removes the field {CHECKSUM!r})"
        )


def _check(metadata: BundleMetadata, source: str) -> None:
    """Refuse metadata that no runtime could follow."""
    problems = [*_wrong_kinds(metadata)]
    if not problems:
        problems = [*wrong_input(metadata), *_wrong_numbers(metadata)]
        problems += [*_wrong_streaming(metadata), *_wrong_states(metadata)]
        problems += [*_wrong_files(metadata), *_wrong_decoder(metadata)]
    if problems:
        raise BundleError(f"{source}: {'; '.join(problems)}; export the bundle again")


def _wrong_kinds(metadata: BundleMetadata) -> Iterator[str]:
    kinds = {"name": str, "task": str, "default_precision": str, "streaming": bool}
    kinds |= {"decoder": dict, "files": dict, "measured": dict, "provenance": dict}
    for name, kind in kinds.items():
        if not isinstance(getattr(metadata, name), kind):
            yield f"{name} must be a {kind.__name__}"
    texts = [metadata.input.kind, metadata.input.name]
    if isinstance(metadata.files, dict):
        texts += [*metadata.files, *metadata.files.values()]
    texts += [text for model in metadata.models for text in (model.precision, model.file)]
    texts += [text for state in metadata.states for text in (state.name, state.dtype)]
    for text in texts:
        if not isinstance(text, str):
            yield f"expected a text, found {text!r}"


def _wrong_numbers(metadata: BundleMetadata) -> Iterator[str]:
    frames = 10**6  # far beyond any model, and far below what would exhaust memory
    rows: dict[str, tuple[int | None, int, int | None]] = {
        "subsampling_factor": (metadata.subsampling_factor, 1, frames),
        "lookahead_frames": (metadata.lookahead_frames, 0, frames),
        "chunk_frames": (metadata.chunk_frames, 1, frames),
        "parameters": (metadata.parameters, 0, None),
        "blank_id": (metadata.blank_id, 0, None),
        "units_per_frame": (metadata.input.units_per_frame, 1, frames),
        "min_units": (metadata.input.min_units, 1, frames),
    }
    for name, (value, least, most) in rows.items():
        if not _is_integer(value) or value < least:
            yield f"{name} must be an integer of at least {least}, found {value!r}"
        elif most is not None and value > most:
            yield f"{name} must be an integer of at most {most}, found {value!r}"
    shift = metadata.frame_shift_ms
    if isinstance(shift, bool) or not isinstance(shift, (int, float)) or not 0 < shift < frames:
        yield f"frame_shift_ms must be milliseconds above 0, found {shift!r}"


def _wrong_streaming(metadata: BundleMetadata) -> Iterator[str]:
    units, least = metadata.input.units_per_frame, metadata.input.min_units
    if not metadata.streaming and metadata.states:
        yield "a model that takes whole inputs (streaming false) has no states"
    if not metadata.streaming and metadata.lookahead_frames != 0:
        yield "a model that takes whole inputs (streaming false) has lookahead_frames 0"
    if metadata.streaming and _is_integer(least) and _is_integer(units) and least > units:
        yield f"min_units is {least}, but a streaming step may be one frame, {units} units"


def _wrong_states(metadata: BundleMetadata) -> Iterator[str]:
    for state in metadata.states:
        sizes = [size for size in state.shape if size != BATCH_AXIS]
        if len(sizes) != len(state.shape) - 1:
            yield f"state {state.name} needs one {BATCH_AXIS!r} in its shape"
        if not all(_is_integer(size) and 0 <= size < 2**31 for size in sizes):
            yield f"state {state.name} has sizes that are not integers: {list(state.shape)}"
        elif math.prod(size for size in sizes if _is_integer(size)) > _MOST_STATE_VALUES:
            yield f"state {state.name} is larger than any model needs: {list(state.shape)}"
        if state.dtype not in STATE_DTYPES:
            yield f"state {state.name} is {state.dtype!r}; known are {', '.join(STATE_DTYPES)}"
        if isinstance(state.initial, bool) or not isinstance(state.initial, (int, float)):
            yield f"state {state.name} needs a number as initial value, found {state.initial!r}"
        elif state.dtype in INTEGER_DTYPES and not (abs(state.initial) < 2**31 and state.initial == int(state.initial)):
            yield f"state {state.name} is {state.dtype} and cannot begin at {state.initial!r}"


def _wrong_files(metadata: BundleMetadata) -> Iterator[str]:
    if not metadata.models:
        yield "no model file is named"
    for file in [*metadata.files, *(model.file for model in metadata.models)]:
        if not is_plain_name(file):
            yield f"file name {file!r} leaves the bundle"
    for model in metadata.models:
        if model.file not in metadata.files:
            yield f"{model.file} has no SHA-256"
    if TOKENS_FILE not in metadata.files:
        yield f"{TOKENS_FILE} has no SHA-256"


def _wrong_decoder(metadata: BundleMetadata) -> Iterator[str]:
    try:
        settings = metadata.decoder_settings
    except OptionsError as error:
        yield str(error)
        return
    for name in ("lm", "lexicon"):
        file = None if settings is None else getattr(settings, name)
        if file is not None and file not in metadata.files:
            yield f"decoder {name} {file!r} has no SHA-256"


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Every read is checked against the recorded SHA-256."""

    path: Path
    """Folder or ``.zip``."""
    metadata: BundleMetadata
    """Parsed ``bundle.json``."""
    vocabulary: Vocabulary
    """Parsed ``tokens.txt``."""
    source_table: SourceTable | None = None
    """Parsed ``source_tokens.txt``, where the input is ``tokens``."""

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle folder or ``.zip`` and read what is small; models are read by ``read``.

        Raises:
            BundleNotFoundError: the path or one of the files is missing.
            BundleCorruptError: ``tokens.txt`` or ``source_tokens.txt`` does not have the recorded hash.
            BundleVersionError, BundleError: see ``BundleMetadata.loads``.
        """
        path = Path(path)
        source = f"{path}/{METADATA_FILE}"
        metadata = BundleMetadata.loads(_decode(read_file(path, METADATA_FILE), source), source=source)
        raw = _checked(path, TOKENS_FILE, metadata.files[TOKENS_FILE])
        vocabulary = Vocabulary.loads(_decode(raw, f"{path}/{TOKENS_FILE}"), source=f"{path}/{TOKENS_FILE}")
        if vocabulary.blank_id != metadata.blank_id:
            raise BundleError(
                f"{source}: blank_id is {metadata.blank_id}, but {TOKENS_FILE} says {vocabulary.blank_id}"
            )
        return cls(path, metadata, vocabulary, _source_table(path, metadata))

    def read(self, file: str) -> bytes:
        """Return the content of one file after checking its hash.

        Raises:
            BundleNotFoundError: the file is missing.
            BundleCorruptError: the content is not what was exported.
            BundleError: ``bundle.json`` does not name the file.
        """
        if file not in self.metadata.files:
            raise BundleError(f"{self.path}/{METADATA_FILE} does not name {file!r}")
        return _checked(self.path, file, self.metadata.files[file])

    def size(self, precision: str | None = None) -> int:
        """Bytes to ship for one precision: its model, what feeding and decoding need, and ``bundle.json``."""
        settings = self.metadata.decoder_settings
        extra = (settings.lm, settings.lexicon) if settings is not None else ()
        needed = (*KINDS[self.metadata.input.kind].files, *filter(None, extra))
        names = (self.metadata.model_file(precision).file, TOKENS_FILE, METADATA_FILE, *needed)
        return sum(len(read_file(self.path, name)) for name in names)


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def _source_table(path: Path, metadata: BundleMetadata) -> SourceTable | None:
    if SOURCE_TOKENS_FILE not in KINDS[metadata.input.kind].files:
        return None
    from kdcompress_runtime.source_text import SourceTable  # bundles of audio do not pay for it

    source = f"{path}/{SOURCE_TOKENS_FILE}"
    raw = _checked(path, SOURCE_TOKENS_FILE, metadata.files[SOURCE_TOKENS_FILE])
    return SourceTable.loads(_decode(raw, source), source=source)


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{source}: not UTF-8 text; export the bundle again") from error


def _checked(path: Path, file: str, expected: str) -> bytes:
    content = read_file(path, file)
    found = sha256(content)
    if found != expected:
        raise BundleCorruptError(
            f"{path}/{file}: SHA-256 is {found[:12]}…, bundle.json records {str(expected)[:12]}…; "
            "the file was changed or damaged: copy or export the bundle again"
        )
    return content


FIELD_NAMES = tuple(f.name for f in fields(BundleMetadata))
"""Fields of ``bundle.json``, in order."""
