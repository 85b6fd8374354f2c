"""Speed of several models side by side: interleaved, one thread, medians. Runtime only: no torch, no onnx."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_export.inputs import Recordings, inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from kdcompress_runtime.model import CtcModel

WHOLE_SECONDS = Recordings.LONG_SECONDS
_WHOLE_ROUNDS = 15
_CHUNK_ROUNDS = 150
_BURST = 10


@dataclass(frozen=True)
class Milliseconds:
    """Times of one call."""

    p50: float
    """Median, in ms."""
    p95: float
    """95th percentile, in ms."""
    cpu: float
    """Median CPU time of the calling thread, in ms. One thread computes, so this is what a call costs when nobody
    takes the core away; ratios are taken of it, because on a busy machine long calls are preempted and short ones not.
    """


def cpu_name() -> str:
    """The CPU's model name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, burst: int = 1) -> dict[str, Milliseconds]:
    """Time each call ``rounds`` times, taking turns, so that a busy moment slows them all alike.

    A turn is ``burst`` timed calls after one that is not: it brings back the weights that the others pushed out
    of the caches, as a stream that runs alone would find them.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(-(-rounds // burst)):
        for name, call in calls.items():
            call()
            for _ in range(burst):
                start, cpu = time.perf_counter(), time.thread_time()
                call()
                taken[name].append((time.perf_counter() - start, time.thread_time() - cpu))
    return {name: _summary(1000 * np.array(values, dtype=np.float64)) for name, values in taken.items()}


def _summary(values: NDArray[np.float64]) -> Milliseconds:
    """Columns wall time and CPU time, in ms."""
    wall, cpu = values.T
    return Milliseconds(float(np.median(wall)), float(np.percentile(wall, 95)), float(np.median(cpu)))


def time_whole(models: Mapping[str, CtcModel], rounds: int = _WHOLE_ROUNDS) -> dict[str, Milliseconds]:
    """Time one step over a long input for each model: ``Inputs.long``, 10 s of audio."""
    some = next(iter(models.values()))
    return time_steps(models, round(inputs_of(some).long / some.metadata.input.units_per_frame), rounds)


def time_steps(models: Mapping[str, CtcModel], frames: int, rounds: int = _CHUNK_ROUNDS) -> dict[str, Milliseconds]:
    """Time one step of ``frames`` frames for each model; see ``model_step``."""
    return interleaved({name: model_step(model, frames) for name, model in models.items()}, rounds, _BURST)


def model_step(model: CtcModel, frames: int) -> Callable[[], object]:
    """Return a call that steps one stream by ``frames`` frames of something made up.

    A model that takes whole inputs is given as many units, or the fewest that it takes.
    """
    source = model.metadata.input
    inputs = inputs_of(model).synthetic(max(frames * source.units_per_frame, source.min_units), seed=0)[None]
    states = model.init_states()
    return lambda: model.step(inputs, states)
