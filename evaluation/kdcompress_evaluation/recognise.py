"""Recognise manifests with every variant and keep one row an utterance."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_evaluation.derive import rows_path
from kdcompress_evaluation.rows import Row, open_rows
from kdcompress_evaluation.summary import SCHEMA, ManifestInfo
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import AudioError, KdcompressError, ManifestError, MissingDependencyError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.variants import VariantInfo
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.recognizer import Recognizer


@dataclass(frozen=True)
class _Audio:
    """One utterance at the sample rates that are needed, or why there is none."""

    samples: Mapping[int, NDArray[Any]]
    duration: float | None
    error: str | None


def plan_manifest(name: str, path: Path) -> ManifestInfo:
    """Read a manifest once from end to end, before anything is recognised.

    Raises:
        ManifestError: it is missing or empty, a line is broken, or two lines share an id.
    """
    seen: set[str] = set()
    for entry in read_manifest(path):
        if entry.id in seen:
            raise ManifestError(
                f"{path}: the id {entry.id!r} appears twice; give every line its own `id` (rows are kept by id)"
            )
        seen.add(entry.id)
    return ManifestInfo(name=name, path=str(path), fingerprint=manifest_fingerprint(path), utterances=len(seen))


def load_recognizers(variants: Sequence[VariantInfo], decoding: Decoding) -> dict[str, Recognizer]:
    """Load every variant.

    Raises:
        KdcompressError: a bundle cannot be used.
    """
    return {variant.name: decoding.open(Path(variant.bundle_path), variant.precision) for variant in variants}


def row_identity(variant: VariantInfo, manifest: ManifestInfo, decoder: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides a row's content; rows of another identity are never mixed in."""
    return {
        "schema": SCHEMA,
        "variant": variant.name,
        "model_sha256": variant.model_sha256,
        "tokens_sha256": variant.tokens_sha256,
        "geometry_sha256": variant.geometry_sha256,
        "manifest": manifest.name,
        "manifest_fingerprint": manifest.fingerprint,
        "decoder": dict(decoder),
        "onnxruntime": onnxruntime.__version__,
    }


def recognise_manifest(
    output: Path,
    manifest: ManifestInfo,
    variants: Sequence[VariantInfo],
    recognizers: Mapping[str, Recognizer],
    *,
    decoder: Mapping[str, Any],
    on_progress: Callable[[int, int], None],
) -> None:
    """Append the rows that are missing; each utterance is read once and given to every variant in turn.

    An utterance that fails (missing, empty or damaged audio; a model that breaks on it) becomes a row with
    ``error`` and the run goes on.

    Raises:
        MissingDependencyError: audio cannot be read at all here.
    """
    with ExitStack() as stack:
        writers = {
            variant.name: stack.enter_context(
                open_rows(rows_path(output, variant.name, manifest.name), row_identity(variant, manifest, decoder))
            )
            for variant in variants
        }
        on_progress(0, manifest.utterances)
        for number, entry in enumerate(read_manifest(manifest.path), start=1):
            waiting = [name for name, writer in writers.items() if entry.id not in writer.done]
            if waiting:
                audio = _read(entry, {_rate(recognizers[name]) for name in waiting})
                for name in waiting:
                    writers[name].add(_recognise(recognizers[name], entry, audio))
            on_progress(number, manifest.utterances)


def _read(entry: ManifestEntry, rates: set[int]) -> _Audio:
    try:
        samples = {rate: read_audio(entry.input, sample_rate=rate)[0] for rate in rates}
    except MissingDependencyError:
        raise
    except (AudioError, OSError) as error:
        return _Audio({}, entry.duration, str(error))
    rate = next(iter(samples))
    return _Audio(samples, len(samples[rate]) / rate, None)


def _recognise(recognizer: Recognizer, entry: ManifestEntry, audio: _Audio) -> Row:
    row = Row(
        id=entry.id,
        reference=entry.text,
        duration=audio.duration,
        error=audio.error,
        speaker=entry.speaker,
        extra=dict(entry.extra),
    )
    if audio.error is not None:
        return row
    rate = _rate(recognizer)
    start = perf_counter()
    try:
        result = recognizer.recognize(audio.samples[rate], rate)
    except MissingDependencyError:
        raise
    except KdcompressError as error:
        return replace(row, seconds=perf_counter() - start, error=str(error))
    seconds = perf_counter() - start
    return replace(row, hypothesis=result.text, seconds=seconds, log_prob=float(result.log_prob))


def _rate(recognizer: Recognizer) -> int:
    return recognizer.metadata.input.sample_rate or 0
