"""Real-time factor and streaming latency, one thread, variants interleaved so that ratios are fair.

Raw times are kept (``rows/speed.json``); ``summarise_speed`` derives the numbers of the report from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

# The JSON reader resolves these annotations when it runs, so they are imported for real.
from kdcompress_evaluation.footprint import Footprint  # noqa: TC001
from kdcompress_evaluation.machine import Machine  # noqa: TC001
from kdcompress_evaluation.summary import Memory, Speed
from kdcompress_runtime.audio import read_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.recognizer import Recognizer


@dataclass(frozen=True)
class TimedUtterance:
    """One utterance of the speed run."""

    manifest: str
    """Its manifest."""
    id: str
    """Its id."""
    path: str
    """Its audio."""
    duration: float
    """Seconds."""


@dataclass(frozen=True)
class RawSpeed:
    """Seconds of one variant."""

    whole: tuple[tuple[float, ...], ...]
    """Recognition of the whole utterance: rounds by utterances."""
    chunks: tuple[float, ...]
    """Every full chunk of every utterance and round; none for a model that takes whole recordings."""
    finals: tuple[float, ...]
    """From ``input_finished`` to the result, every utterance and round."""


@dataclass(frozen=True)
class SpeedRecord:
    """The content of ``rows/speed.json``."""

    identity: dict[str, Any]
    """What the times belong to; other ones are measured again."""
    machine: Machine
    """As it was when the measurement began."""
    utterances: tuple[TimedUtterance, ...]
    """In the order of ``RawSpeed.whole``."""
    variants: dict[str, RawSpeed]
    """By variant."""
    footprints: dict[str, Footprint]
    """By variant; those that could not be measured are missing."""
    notes: tuple[str, ...]
    """What could not be measured, and why."""


def pick_utterances(candidates: Sequence[TimedUtterance], limit: int) -> list[TimedUtterance]:
    """Take at most ``limit`` utterances, spread evenly over the candidates; the same ones every time."""
    if len(candidates) <= limit:
        return list(candidates)
    return [candidates[round(i)] for i in np.linspace(0, len(candidates) - 1, limit)]


def measure_speed(
    recognizers: Mapping[str, Recognizer],
    utterances: Sequence[TimedUtterance],
    rounds: int,
    on_progress: Callable[[int, int], None],
) -> dict[str, RawSpeed]:
    """Time every variant on every utterance in turn, ``rounds`` times, after one untimed pass as warm-up.

    Args:
        recognizers: by variant, each with one thread.
        utterances: read as they come; one is in memory at a time.
        rounds: repeats of each utterance.
        on_progress: called with (done, total) utterances.
    """
    names = list(recognizers)
    whole: dict[str, list[list[float]]] = {name: [[] for _ in range(rounds)] for name in names}
    chunks: dict[str, list[float]] = {name: [] for name in names}
    finals: dict[str, list[float]] = {name: [] for name in names}
    for number, utterance in enumerate(utterances):
        audio = {
            rate: read_audio(Path(utterance.path), sample_rate=rate)[0]
            for rate in {_rate(r) for r in recognizers.values()}
        }
        if not number:
            for recognizer in recognizers.values():
                _time_whole(recognizer, audio[_rate(recognizer)])
                _time_stream(recognizer, audio[_rate(recognizer)])
        for turn in range(rounds):
            # Another variant begins each time, so that none always follows the same neighbour.
            first = (number + turn) % len(names)
            for name in names[first:] + names[:first]:
                samples = audio[_rate(recognizers[name])]
                whole[name][turn].append(_time_whole(recognizers[name], samples))
                steps, final = _time_stream(recognizers[name], samples)
                chunks[name] += steps
                finals[name].append(final)
        on_progress(number + 1, len(utterances))
    return {
        name: RawSpeed(tuple(tuple(turn) for turn in whole[name]), tuple(chunks[name]), tuple(finals[name]))
        for name in names
    }


def summarise_speed(record: SpeedRecord, name: str, baseline: str) -> Speed | None:
    """Derive the numbers of one variant, or ``None`` when nothing was timed."""
    raw, against = record.variants.get(name), record.variants.get(baseline)
    if raw is None or not record.utterances:
        return None
    whole = np.array(raw.whole)
    durations = np.array([utterance.duration for utterance in record.utterances])
    typical = np.median(whole, axis=0)
    chunks = 1000 * np.array(raw.chunks) if raw.chunks else None
    speedup = None
    if against is not None and name != baseline:
        speedup = float(np.median(np.array(against.whole) / whole))
    return Speed(
        utterances=len(durations),
        rounds=len(whole),
        audio_seconds=float(durations.sum()),
        rtf_median=float(np.median(typical / durations)),
        rtf_total=float(typical.sum() / durations.sum()),
        speedup=speedup,
        chunks=len(raw.chunks),
        chunk_p50_ms=None if chunks is None else float(np.percentile(chunks, 50)),
        chunk_p95_ms=None if chunks is None else float(np.percentile(chunks, 95)),
        chunk_max_ms=None if chunks is None else float(chunks.max()),
        final_p95_ms=float(np.percentile(1000 * np.array(raw.finals), 95)),
    )


def summarise_memory(record: SpeedRecord, name: str) -> Memory | None:
    """Return the memory of one variant, or ``None`` when it could not be measured."""
    found = record.footprints.get(name)
    return None if found is None else Memory(imported=found.imported, peak=found.peak)


def _rate(recognizer: Recognizer) -> int:
    return recognizer.metadata.input.sample_rate or 0


def _time_whole(recognizer: Recognizer, samples: NDArray[np.float32]) -> float:
    start = perf_counter()
    recognizer.recognize(samples, _rate(recognizer))
    return perf_counter() - start


def _time_stream(recognizer: Recognizer, samples: NDArray[np.float32]) -> tuple[list[float], float]:
    """Feed chunk-sized pieces; returns the seconds of each full piece and of the final result.

    A model that takes whole recordings computes nothing before the end, so its pieces are not counted.
    """
    metadata = recognizer.metadata
    piece = metadata.chunk_frames * metadata.input.units_per_frame
    stream = recognizer.create_stream()
    steps = []
    for start in range(0, len(samples), piece):
        part = samples[start : start + piece]
        begin = perf_counter()
        stream.accept_waveform(part, _rate(recognizer))
        stream.partial_result()
        if metadata.streaming and len(part) == piece:
            steps.append(perf_counter() - begin)
    begin = perf_counter()
    stream.input_finished()
    stream.result()
    return steps, perf_counter() - begin
