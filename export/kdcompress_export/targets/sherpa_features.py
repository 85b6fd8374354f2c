"""The features that sherpa-onnx feeds, in numpy: Kaldi's povey log-mel, 25/10 ms, ``snip_edges=False``, no dither.

For proofs and probes. ``kaldi-native-fbank``, which sherpa-onnx uses, is the judge in the tests.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kdcompress.kaldi import LOG_FLOOR as LEAST_ENERGY
from kdcompress.kaldi import PREEMPHASIS, mel_weights, povey_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_export.streams import Samples

WINDOW_MS, SHIFT_MS = 25.0, 10.0
LOW_FREQ, HIGH_FREQ = 20.0, -400.0
"""Hz; a negative upper edge counts from half the rate."""
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
    frames *= povey_window(window)
    size = 1 << math.ceil(math.log2(window))
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    filters = mel_weights(sample_rate, num_mel_bins, size, low_freq=LOW_FREQ, high_freq=HIGH_FREQ)
    energies = power[:, : size // 2] @ filters.T
    features: NDArray[np.float32] = np.log(np.maximum(energies, LEAST_ENERGY)).astype(np.float32)
    return features


def _tail_of_window() -> float:
    """Nats by which noise is weaker where silence ends 7.5 ms before the window does: in the one before the first."""
    energy = povey_window(1000) ** 2
    return float(np.log(energy[-300:].sum() / energy.sum()))


TAIL_OF_WINDOW = _tail_of_window()
