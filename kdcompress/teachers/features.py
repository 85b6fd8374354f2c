"""Features that foreign models are fed, computed plainly with numpy: the judge of the graph's frontend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress.frontend import mel_of
from kdcompress.kaldi import LOG_FLOOR, PREEMPHASIS, povey_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress.frontend import LogMelConfig

NEMO_GUARD = 2.0**-24
"""What NeMo adds before the logarithm."""
DEVIATION_GUARD = 1e-5
"""What NeMo adds to a standard deviation."""
INT16_SCALE = 32768.0


@dataclass(frozen=True)
class Recipe:
    """How features are computed. All times are whole samples."""

    kind: str
    """``kaldi``, ``kaldi_int16`` or ``nemo``."""
    mel: LogMelConfig
    """Rate, filters, window, shift."""
    normalize: str = "none"
    """``none``, ``per_feature`` or ``all_features``: over all frames of a recording."""
    snip_edges: bool = False
    """Kaldi: leave out windows that reach beyond the recording."""

    @property
    def window(self) -> int:
        """Samples of a window."""
        return round(self.mel.sample_rate * self.mel.window_ms / 1000)

    @property
    def hop(self) -> int:
        """Samples between windows."""
        return self.mel.hop

    @property
    def fft_size(self) -> int:
        """Smallest power of two that holds a window."""
        return 1 << math.ceil(math.log2(self.window))

    @property
    def before(self) -> int:
        """Samples that the first window reaches back before the recording."""
        if self.kind == "nemo":
            return self.fft_size // 2 - (self.fft_size - self.window) // 2
        return 0 if self.snip_edges else self.window // 2 - self.hop // 2

    @property
    def after(self) -> int:
        """Samples by which a recording is continued at its end."""
        if self.kind == "nemo":
            return self.window - self.before  # a last window over the end, which is dropped or not complete
        return 0 if self.snip_edges else self.window - self.hop // 2 - self.before

    def frames(self, samples: int) -> int:
        """Feature frames of a recording."""
        if self.kind == "nemo":
            return samples // self.hop
        if self.snip_edges:
            return max(0, 1 + (samples - self.window) // self.hop)
        return (samples + self.hop // 2) // self.hop

    def samples(self, frames: int) -> int:
        """Fewest samples that give ``frames`` feature frames, and that the edges can be mirrored from."""
        if self.kind == "nemo":
            return max(frames * self.hop, 2)
        if self.snip_edges:
            return self.window + (frames - 1) * self.hop
        return max(frames * self.hop - self.hop // 2, self.before, self.after)


def compute(recipe: Recipe, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features ``(N, T, F)`` float32 of samples ``(N, n)`` float32 in [-1, 1], computed in float64."""
    one = _nemo if recipe.kind == "nemo" else _kaldi
    found: NDArray[np.float32] = np.stack([one(recipe, row.astype(np.float64)) for row in samples]).astype(np.float32)
    return found


def _kaldi(recipe: Recipe, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = samples * (INT16_SCALE if recipe.kind == "kaldi_int16" else 1.0)
    starts = np.arange(recipe.frames(len(samples))) * recipe.hop - recipe.before
    places = starts[:, None] + np.arange(recipe.window)
    places = np.where(places < 0, -places - 1, places)
    places = np.where(places >= len(samples), 2 * len(samples) - 1 - places, places)
    frames = scaled[places]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - PREEMPHASIS * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * povey_window(recipe.window), recipe.fft_size)) ** 2
    mel = power[:, : recipe.fft_size // 2] @ mel_of(recipe.mel, recipe.fft_size).T
    return np.asarray(np.log(np.maximum(mel, LOG_FLOOR)))


def _nemo(recipe: Recipe, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    emphasized = np.concatenate([samples[:1], samples[1:] - PREEMPHASIS * samples[:-1]])
    half, count = recipe.fft_size // 2, recipe.frames(len(samples))
    padded = np.pad(emphasized, (half, half))
    places = np.arange(count)[:, None] * recipe.hop + np.arange(recipe.fft_size)
    left = (recipe.fft_size - recipe.window) // 2
    window = np.zeros(recipe.fft_size)
    window[left : left + recipe.window] = np.hanning(recipe.window)
    power = np.abs(np.fft.rfft(padded[places] * window)) ** 2
    features = np.log(power @ slaney_weights(recipe.mel, recipe.fft_size).T + NEMO_GUARD)
    if recipe.normalize == "none":
        return np.asarray(features)
    axis = 0 if recipe.normalize == "per_feature" else None
    mean, deviation = features.mean(axis=axis), features.std(axis=axis, ddof=1)
    return np.asarray((features - mean) / (deviation + DEVIATION_GUARD))


def slaney_weights(config: LogMelConfig, fft_size: int) -> NDArray[np.float64]:
    """Triangular filters on Slaney's mel scale, each of area one, from 0 Hz to half the rate: as librosa has them.

    Shape ``(num_mel_bins, fft_size / 2 + 1)``.
    """
    nyquist = config.sample_rate / 2
    hertz = np.linspace(0.0, nyquist, fft_size // 2 + 1)
    edges = _slaney_hertz(np.linspace(0.0, _slaney_mel(nyquist), config.num_mel_bins + 2))
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None])


_LINEAR_STEP, _LOG_START, _LOG_START_MEL, _LOG_STEP = 200.0 / 3.0, 1000.0, 15.0, math.log(6.4) / 27.0


def _slaney_mel(hertz: float) -> float:
    if hertz < _LOG_START:
        return hertz / _LINEAR_STEP
    return _LOG_START_MEL + math.log(hertz / _LOG_START) / _LOG_STEP


def _slaney_hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _LOG_START * np.exp(_LOG_STEP * (mels - _LOG_START_MEL))
    return np.asarray(np.where(mels < _LOG_START_MEL, mels * _LINEAR_STEP, above))
