"""What stands behind the end of a recording: faint noise, so that a model says what it has heard but not said yet.

CTC models speak late: a student that looks ahead has its tokens out some tenths of a second after their sound. Audio
that ends with the last word would lose it. Digital silence is no remedy: no recording has it, and models that never
heard it may say anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import BundleMetadata

TAIL_SECONDS = 0.4
"""Enough for the students that were measured (``benchmarks/bench_endpoint.py``)."""
MAX_TAIL_SECONDS = 10.0
AMPLITUDE = 5.5e-4
"""Of evenly distributed noise: -70 dBFS, the floor of a quiet recording."""
_FACTOR, _STEP = np.uint32(1664525), np.uint32(1013904223)


def faint_noise(count: int) -> NDArray[np.float32]:
    """The first ``count`` samples of one fixed noise, shape ``(count,)``: the same everywhere, in JavaScript, too."""
    # A linear congruential generator, closed form: x_n = f^n + s (1 + f + ... + f^(n-1)), modulo 2^32.
    powers = np.multiply.accumulate(np.full(count, _FACTOR, dtype=np.uint32), dtype=np.uint32)
    ones = np.ones(min(count, 1), dtype=np.uint32)
    sums = np.add.accumulate(np.concatenate([ones, powers[:-1]]), dtype=np.uint32)
    drawn = (powers + _STEP * sums) >> np.uint32(8)
    noise: NDArray[np.float32] = ((drawn.astype(np.float64) / 2**23 - 1) * AMPLITUDE).astype(np.float32)
    return noise


def tail_frames(metadata: BundleMetadata, seconds: float) -> int:
    """Frames of a tail; none for models that take whole recordings, which have heard all before they speak."""
    return math.ceil(seconds * 1000 / metadata.frame_shift_ms) if metadata.streaming else 0
