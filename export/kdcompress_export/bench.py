"""How fast and how large a bundle is on this machine. Runtime only: no torch, no onnx."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_export.streams import synthetic
from kdcompress_export.timing import WHOLE_SECONDS, Milliseconds, cpu_name, time_steps, time_whole
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcompress_runtime.bundle import BundleMetadata

_LOADS = 3


@dataclass(frozen=True)
class ChunkTime:
    """Steps of one size."""

    frames: int
    """Output frames a step."""
    audio_ms: float
    """Audio a step, in ms."""
    step_ms: Milliseconds
    """Time of a step."""
    real_time_factor: float
    """Median time over audio time."""


@dataclass(frozen=True)
class PrecisionBench:
    """One model of the bundle."""

    precision: str
    """``float32``, ``int8``..."""
    size_bytes: int
    """Model, ``tokens.txt`` and ``bundle.json``."""
    cold_load_ms: float
    """From the path to the first answer: read, check, load, one chunk (1 s where there are no chunks); median."""
    whole_ms: Milliseconds
    """One step over 10 s of audio."""
    whole_real_time_factor: float
    """Median time over audio time for 10 s at once."""
    chunks: tuple[ChunkTime, ...]
    """By chunk size; empty for a model that takes whole recordings."""


@dataclass(frozen=True)
class BenchReport:
    """A bundle on a machine; precisions took turns, one thread, spinning off."""

    bundle: str
    """Path."""
    name: str
    """Name of the model."""
    parameters: int
    """Trained parameters."""
    cpu: str
    """Model name of the CPU."""
    onnxruntime: str
    """Version."""
    threads: int
    """Threads of onnxruntime."""
    streaming: bool
    """False: the model takes whole recordings, and there are no chunks."""
    default_precision: str
    """Precision that apps load."""
    precisions: tuple[PrecisionBench, ...]
    """One a model file."""

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def bench_bundle(
    bundle: Path, *, chunk_frames: Sequence[int] | None = None, whole_rounds: int = 15, chunk_rounds: int = 150
) -> BenchReport:
    """Measure every precision of a bundle.

    Args:
        bundle: folder or ``.zip``.
        chunk_frames: step sizes to time; a quarter, one and four times the bundle's own when left out. None where
            the model takes whole recordings.
        whole_rounds: times that 10 s are run.
        chunk_rounds: times that each chunk is run.

    Raises:
        BundleError, ModelError: the bundle cannot be loaded.
        OptionsError: a number is below 1; ``chunk_frames`` for a model that takes whole recordings.
    """
    opened = Bundle.open(bundle)
    metadata = opened.metadata
    sizes = _chunk_sizes(metadata, chunk_frames)
    if min([whole_rounds, chunk_rounds, *sizes]) < 1:
        raise OptionsError("chunk_frames and rounds must be at least 1")
    loads = {file.precision: _cold_load_ms(bundle, file.precision) for file in metadata.models}
    models = {file.precision: CtcModel.from_bundle(opened, file.precision) for file in metadata.models}
    whole = time_whole(models, whole_rounds)
    chunks = {frames: time_steps(models, frames, chunk_rounds) for frames in sizes}
    shift = metadata.frame_shift_ms
    return BenchReport(
        bundle=str(bundle),
        name=metadata.name,
        parameters=metadata.parameters,
        cpu=cpu_name(),
        onnxruntime=onnxruntime.__version__,
        threads=1,
        streaming=metadata.streaming,
        default_precision=metadata.default_precision,
        precisions=tuple(
            PrecisionBench(
                precision=name,
                size_bytes=opened.size(name),
                cold_load_ms=loads[name],
                whole_ms=whole[name],
                whole_real_time_factor=whole[name].p50 / (1000 * WHOLE_SECONDS),
                chunks=tuple(
                    ChunkTime(frames, frames * shift, times[name], times[name].p50 / (frames * shift))
                    for frames, times in chunks.items()
                ),
            )
            for name in models
        ),
    )


def _chunk_sizes(metadata: BundleMetadata, wanted: Sequence[int] | None) -> list[int]:
    """Frames of the steps to time."""
    usual = (max(1, metadata.chunk_frames // 4), metadata.chunk_frames, 4 * metadata.chunk_frames)
    if metadata.streaming:
        return sorted(set(wanted or usual))
    if wanted:
        raise OptionsError("the model takes whole recordings, so there are no chunks to time; leave chunk_frames out")
    return []


def _cold_load_ms(bundle: Path, precision: str) -> float:
    metadata, taken = Bundle.open(bundle).metadata, []
    frames = metadata.chunk_frames if metadata.streaming else math.ceil(1000 / metadata.frame_shift_ms)
    inputs = synthetic(metadata.input, max(frames * metadata.input.units_per_frame, metadata.input.min_units), seed=0)
    for _ in range(_LOADS):
        start = time.perf_counter()
        model = CtcModel.from_bundle(Bundle.open(bundle), precision)
        model.step(inputs, model.init_states())
        taken.append((time.perf_counter() - start) * 1000)
    return float(np.median(taken))
