"""The features that sherpa-onnx feeds, in numpy: Kaldi's povey log-mel, 25/10 ms, ``snip_edges=False``, no dither.

For proofs and probes. ``kaldi-native-fbank``, which sherpa-onnx uses, is the judge in the tests.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_export.streams import Samples

WINDOW_MS, SHIFT_MS = 25.0, 10.0
LOW_FREQ, HIGH_FREQ = 20.0, -400.0
"""Hz; a negative upper edge counts from half the rate."""
PREEMPHASIS = 0.97
LEAST_ENERGY = float(np.finfo(np.float32).eps)
LOG_FLOOR = math.log(LEAST_ENERGY)
"""Every feature of digital silence."""


def kaldi_features(samples: Samples, sample_rate: int, num_mel_bins: int) -> NDArray[np.float32]:
    """Turn samples ``(n,)`` in [-1, 1] into features ``(round(n / hop), num_mel_bins)``; edges are mirrored."""
    hop, window = round(sample_rate * SHIFT_MS / 1000), round(sample_rate * WINDOW_MS / 1000)
    count = (len(samples) + hop // 2) // hop
    if not count:
        return np.zeros((0, num_mel_bins), dtype=np.float32)
    starts = np.arange(count) * hop + hop // 2 - window // 2
    places = (starts[:, None] + np.arange(window)) % (2 * len(samples))
    frames = samples.astype(np.float64)[np.where(places < len(samples), places, 2 * len(samples) - 1 - places)]
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= PREEMPHASIS * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames *= _povey(window)
    size = 1 << math.ceil(math.log2(window))
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    energies = power[:, : size // 2] @ _filters(sample_rate, num_mel_bins, size).T
    features: NDArray[np.float32] = np.log(np.maximum(energies, LEAST_ENERGY)).astype(np.float32)
    return features


def _povey(window: int) -> NDArray[np.float64]:
    shape: NDArray[np.float64] = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))) ** 0.85
    return shape


def _tail_of_window() -> float:
    """Nats by which noise is weaker where silence ends 7.5 ms before the window does: in the one before the first."""
    energy = _povey(1000) ** 2
    return float(np.log(energy[-300:].sum() / energy.sum()))


TAIL_OF_WINDOW = _tail_of_window()


def _filters(sample_rate: int, num_mel_bins: int, size: int) -> NDArray[np.float64]:
    """Triangles on Kaldi's mel scale, ``(num_mel_bins, size / 2)``."""
    low, high = _mel(np.array([LOW_FREQ, sample_rate / 2 + HIGH_FREQ]))
    edges = np.linspace(low, high, num_mel_bins + 2)
    bins = _mel(np.arange(size // 2) * sample_rate / size)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
