"""What may be fed: mono samples as float in [-1, 1] or int16. Everything else is refused in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK = 1 << 18
"""Samples looked at, converted and resampled at a time, so that hours cost no extra memory."""
_INT16_SCALE = np.float32(1 / 32768)
_FLOAT_LIMIT = 8.0
"""No resampler or gain brings audio in [-1, 1] this far; int16 values passed as float do."""


def blocks(samples: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of at most ``BLOCK`` samples."""
    for start in range(0, len(samples), BLOCK):
        yield samples[start : start + BLOCK]


def check_samples(samples: NDArray[Any]) -> None:
    """Refuse what is not mono audio.

    Raises:
        AudioError: not an array of shape ``(n,)``, of another dtype, not finite, or far beyond [-1, 1].
    """
    if not isinstance(samples, np.ndarray):
        raise AudioError(
            f"samples must be a numpy array, found {type(samples).__name__}; "
            "wrap them: numpy.asarray(samples, dtype=numpy.float32)"
        )
    if samples.ndim != 1:
        raise AudioError(
            f"samples must be mono, shape (n,), found {samples.shape}; pass one channel "
            "(samples[:, 0]) or the average of all (samples.mean(axis=1)), one recording at a time"
        )
    if samples.dtype.type not in (np.float32, np.float64, np.int16):
        raise AudioError(
            f"samples must be float32 or float64 in [-1, 1], or int16, found {samples.dtype}; convert them"
        )
    if samples.dtype.kind != "f":
        return
    for block in blocks(samples):
        # NaN and infinity come through; a chunk is small, so what counts is how few calls numpy gets.
        loudest = max(float(block.max()), -float(block.min()))
        if not math.isfinite(loudest):
            raise AudioError("samples hold NaN or infinity; clean the audio before feeding it")
        if loudest > _FLOAT_LIMIT:
            raise AudioError(
                f"float samples must be in [-1, 1], found a value of {loudest:g}; "
                "pass int16 audio as int16, or divide it by 32768"
            )


def to_float32(samples: NDArray[Any]) -> NDArray[np.float32]:
    """float32 in [-1, 1], contiguous; int16 is divided by 32768."""
    converted = np.ascontiguousarray(samples, dtype=np.float32)
    return converted * _INT16_SCALE if samples.dtype.kind == "i" else converted
