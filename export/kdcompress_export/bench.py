"""How fast and how large a bundle is on this machine. Runtime only: no torch, no onnx."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_export.inputs import Inputs, Recordings, inputs_of
from kdcompress_export.timing import Milliseconds, cpu_name, time_steps, time_whole
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
    """From the path to the first answer: read, check, load, one chunk (a tenth of the long input where there are
    no chunks); median."""
    whole_ms: Milliseconds
    """One step over a long input."""
    whole_real_time_factor: float | None
    """Median time over audio time for that; None where the input is no audio."""
    chunks: tuple[ChunkTime, ...]
    """By chunk size; empty for a model that takes whole inputs."""


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
    """False: the model takes whole inputs, and there are no chunks."""
    long: str
    """What a long input is: ``10 s``, a number of columns, of source tokens."""
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
            the model takes whole inputs.
        whole_rounds: times that a long input is run.
        chunk_rounds: times that each chunk is run.

    Raises:
        BundleError, ModelError: the bundle cannot be loaded.
        OptionsError: a number is below 1; ``chunk_frames`` for a model that takes whole inputs.
    """
    opened = Bundle.open(bundle)
    metadata = opened.metadata
    sizes = _chunk_sizes(metadata, chunk_frames)
    if min([whole_rounds, chunk_rounds, *sizes]) < 1:
        raise OptionsError("chunk_frames and rounds must be at least 1")
    loads = {file.precision: _cold_load_ms(bundle, file.precision) for file in metadata.models}
    models = {file.precision: CtcModel.from_bundle(opened, file.precision) for file in metadata.models}
    whole, fed = time_whole(models, whole_rounds), inputs_of(next(iter(models.values())))
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
        long=fed.long_words,
        default_precision=metadata.default_precision,
        precisions=tuple(
            PrecisionBench(
                precision=name,
                size_bytes=opened.size(name),
                cold_load_ms=loads[name],
                whole_ms=whole[name],
                whole_real_time_factor=_real_time_factor(whole[name], fed),
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
        raise OptionsError("the model takes whole inputs, so there are no chunks to time; leave chunk_frames out")
    return []


def _real_time_factor(time: Milliseconds, fed: Inputs) -> float | None:
    return time.p50 / (1000 * fed.LONG_SECONDS) if isinstance(fed, Recordings) else None


def _cold_load_ms(bundle: Path, precision: str) -> float:
    first, taken = CtcModel.from_bundle(Bundle.open(bundle), precision), []
    fed, metadata = inputs_of(first), first.metadata
    units = metadata.chunk_frames * metadata.input.units_per_frame if metadata.streaming else math.ceil(fed.long / 10)
    inputs = fed.synthetic(max(units, metadata.input.min_units), seed=0)[None]
    for _ in range(_LOADS):
        start = time.perf_counter()
        model = CtcModel.from_bundle(Bundle.open(bundle), precision)
        model.step(inputs, model.init_states())
        taken.append((time.perf_counter() - start) * 1000)
    return float(np.median(taken))
