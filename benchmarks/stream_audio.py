"""Recordings with silences, for the benchmarks of streaming."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.pauses import FRAME_SECONDS, levels, room_noise, speech_bounds
from kdcompress_runtime import read_audio, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

__all__ = ["quietest", "recordings", "room_noise", "speech_bounds"]


def recordings(manifest: Path, rate: int, count: int) -> list[tuple[str, Samples]]:
    """The first ``count`` recordings of a manifest with their texts, at ``rate`` Hz."""
    chosen = list(islice(read_manifest(manifest), count))
    return [(" ".join(entry.text.split()), read_audio(entry.input, rate)[0]) for entry in chosen]


def quietest(samples: Samples, rate: int, begin: float, end: float) -> int:
    """The sample at which 50 ms are quietest between two times: a place for a pause."""
    found = levels(samples, rate)
    first, last = round(begin / FRAME_SECONDS), max(round(end / FRAME_SECONDS), round(begin / FRAME_SECONDS) + 6)
    window = np.convolve(10 ** (found[first:last] / 10), np.ones(5), mode="valid")
    return round((first + int(window.argmin()) + 2.5) * FRAME_SECONDS * rate)
