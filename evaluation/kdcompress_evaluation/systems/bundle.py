"""Bundles of kdcompress, folders or zips, streaming or whole, each with its own decoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from kdcompress_evaluation.systems.base import Item, Recognised, Word, no_stream
from kdcompress_evaluation.tasks import AUDIO, IMAGE, TEXT
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_runtime.archive import read_file
from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, Bundle
from kdcompress_runtime.endpoint import EndpointRules
from kdcompress_runtime.errors import BundleError, OptionsError
from kdcompress_runtime.input_kinds import KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.recognizer import Recognizer
    from kdcompress_runtime.result import Result
    from kdcompress_runtime.stream import Stream

INPUT_KINDS = {"pcm": AUDIO, "image": IMAGE, "tokens": TEXT}
"""Kinds of input of ``bundle.json``, and what a manifest calls them."""


def matches(path: Path) -> bool:
    """Whether ``bundle.json`` lies there, in a folder or a ``.zip``."""
    if path.is_dir():
        return (path / METADATA_FILE).is_file()
    try:
        read_file(path, METADATA_FILE)
    except BundleError:
        return False
    return True


def describe(path: Path, precisions: str) -> list[VariantInfo]:
    """List the precisions of a bundle.

    Raises:
        BundleError: it cannot be used, does not hold the precision, or its input cannot be fed.
    """
    bundle = Bundle.open(path)
    # Hashes of what is not read otherwise until the model is loaded: a damaged file shows before the first utterance.
    content = {name: bundle.read(name) for name in bundle.metadata.files}
    head = read_file(path, METADATA_FILE)
    version = json.loads(head).get("format_version")
    return [_describe(bundle, precision, content, head, version) for precision in _precisions(bundle, precisions)]


def load(info: VariantInfo, decoding: Decoding) -> BundleSystem:
    """Load a bundle at one precision.

    Raises:
        KdcompressError: the bundle, the decoder or the language model cannot be used.
    """
    return BundleSystem(decoding.open(Path(info.bundle_path), info.precision))


class BundleSystem:
    """A bundle as a system under test."""

    def __init__(self, recognizer: Recognizer) -> None:
        metadata = recognizer.metadata
        self.recognizer = recognizer
        self.input_kind = INPUT_KINDS[metadata.input.kind]
        self.sample_rate = metadata.input.sample_rate
        self.form = form_of(metadata)
        self.chunk_seconds = recognizer.chunk_frames * metadata.frame_shift_ms / 1000 if metadata.streaming else None

    def recognize(self, item: Item) -> Recognised:
        """See ``System``."""
        return _recognised(self.recognizer.recognize(item.value(self.form), self.sample_rate))

    def open_stream(self, *, endpoints: bool = False) -> BundleStream:
        """See ``System``."""
        if self.chunk_seconds is None:
            raise OptionsError(no_stream())
        stream = self.recognizer.create_stream(endpoint=EndpointRules() if endpoints else None)
        return BundleStream(stream, self.recognizer.metadata)


class BundleStream:
    """A stream of the runtime."""

    def __init__(self, stream: Stream, metadata: BundleMetadata) -> None:
        self._stream, self._rate = stream, metadata.input.sample_rate or 0
        self._frame_seconds = metadata.frame_shift_ms / 1000

    def accept(self, samples: NDArray[np.float32]) -> None:
        """See ``LiveStream``."""
        self._stream.accept_waveform(samples, self._rate)

    def partial(self) -> str:
        """See ``LiveStream``."""
        return self._stream.partial_result().text

    def finish(self) -> Recognised:
        """See ``LiveStream``."""
        self._stream.input_finished()
        return _recognised(self._stream.result())

    def endpoint(self) -> float | None:
        """See ``LiveStream``."""
        while self._stream.is_endpoint():
            if self._stream.endpoint_rule != "initial":
                return self._stream.frames_decoded * self._frame_seconds
            self._stream.reset()
        return None


def form_of(metadata: BundleMetadata) -> int | None:
    """Of what a bundle is fed; see ``System.form``."""
    return metadata.input.sample_rate or metadata.input.channels


def source_files(metadata: BundleMetadata) -> list[str]:
    """Files without which a bundle of its kind cannot read its input."""
    return list(KINDS[metadata.input.kind].files)


def _recognised(result: Result) -> Recognised:
    words = tuple(Word(word.text, word.begin, word.end) for word in result.words)
    return Recognised(result.text, float(result.log_prob), words)


def _precisions(bundle: Bundle, wanted: str) -> list[str]:
    """Names of the precisions to evaluate."""
    if wanted == "all":
        return [model.precision for model in bundle.metadata.models]
    try:
        return [bundle.metadata.model_file(None if wanted == "default" else wanted).precision]
    except BundleError as error:
        raise BundleError(f"{bundle.path}: {error}; leave the bundle out, or ask for default or all") from error


def _describe(
    bundle: Bundle, precision: str, content: dict[str, bytes], head: bytes, version: int | None
) -> VariantInfo:
    meta = bundle.metadata
    file = meta.model_file(precision).file
    hashes = {**meta.files, METADATA_FILE: hashlib.sha256(head).hexdigest()}
    settings = meta.decoder_settings
    needed = [
        file,
        TOKENS_FILE,
        *source_files(meta),
        *filter(None, (settings.lm, settings.lexicon) if settings else ()),
    ]
    return VariantInfo(
        name=f"{meta.name}-{precision}",
        kind="bundle",
        anchor=False,
        task=meta.task,
        input_kind=INPUT_KINDS[meta.input.kind],
        bundle_name=meta.name,
        bundle_path=str(bundle.path),
        precision=precision,
        engine=f"onnxruntime {onnxruntime.__version__}",
        format_version=version,
        files=dict(sorted(hashes.items())),
        model_file=file,
        model_sha256=meta.files[file],
        tokens_sha256=meta.files[TOKENS_FILE],
        geometry_sha256=_geometry(meta),
        size_bytes=len(head) + sum(len(content[name]) for name in needed),
        parameters=meta.parameters,
        sample_rate=meta.input.sample_rate,
        lookahead_ms=meta.lookahead_frames * meta.frame_shift_ms if meta.streaming else None,
        chunk_ms=meta.chunk_frames * meta.frame_shift_ms if meta.streaming else None,
        provenance=dict(meta.provenance),
        measured=dict(meta.measured),
    )


def _geometry(metadata: BundleMetadata) -> str:
    """Hash of the metadata without names, hashes of models and records of the past."""
    settings = metadata.decoder_settings
    needed = (settings.lm, settings.lexicon) if settings is not None else ()
    decoding = {name: metadata.files[name] for name in needed if name is not None}
    bare = replace(metadata, name="", measured={}, provenance={}, files=decoding, models=(), default_precision="")
    return hashlib.sha256(json.dumps(asdict(bare), sort_keys=True).encode()).hexdigest()
