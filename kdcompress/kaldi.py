"""What Kaldi's log-mel features are made of: constants, window, filters. numpy alone, for torch and for graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREEMPHASIS = 0.97
LOG_FLOOR = 1.1920928955078125e-07  # float32 epsilon, Kaldi's floor


def povey_window(length: int) -> NDArray[np.float64]:
    """Kaldi's default window, ``(length,)``; zero at both ends."""
    window: NDArray[np.float64] = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    return window


def mel_weights(
    sample_rate: int, num_mel_bins: int, fft_size: int, *, low_freq: float, high_freq: float
) -> NDArray[np.float64]:
    """Kaldi's triangular mel filters, ``(num_mel_bins, fft_size / 2)``.

    Args:
        sample_rate: Hz.
        num_mel_bins: filters.
        fft_size: points of the DFT.
        low_freq: lower edge, Hz.
        high_freq: upper edge, Hz; zero or negative counts from half the rate.
    """
    top = high_freq if high_freq > 0 else sample_rate / 2 + high_freq
    low, high = _mel(np.array([low_freq, top]))
    edges = np.linspace(low, high, num_mel_bins + 2)
    bins = _mel(np.arange(fft_size // 2) * sample_rate / fft_size)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return weights


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
