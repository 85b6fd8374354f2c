"""Waveform -> log-mel, as a torch module that is exported together with the student.

Kaldi's povey filterbank (25/10 ms, as sherpa-onnx feeds its models): DC removal, pre-emphasis, window and
DFT are linear, so they fold into one convolution; then power, mel, log. ``kaldi-native-fbank`` is the judge
in the tests. It streams: the samples that the next window overlaps are its only state.

The windows are Kaldi's to the sample (``snip_edges=False``), and come as soon as the last sample of one is there:
one frame late. So what is trained here can be fed Kaldi's features elsewhere, delayed by ``late_features``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from kdcompress.network import Frontend
from kdcompress_runtime.bundle import BATCH_AXIS, InputSpec, StateSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress.recipe import LogMelConfig

PREEMPHASIS = 0.97
LOG_FLOOR = 1.1920928955078125e-07  # float32 epsilon, Kaldi's floor
TAIL_STATE = "frontend_tail"


class LogMel(Frontend):
    """Log-mel features of raw PCM.

    ``step`` maps samples ``(N, k * hop)`` float32 in [-1, 1] to features ``(N, k, num_mel_bins)`` float32.
    """

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        rate = config.sample_rate
        self.hop = config.hop
        self.window = round(rate * config.window_ms / 1000)
        # Kaldi centres window t on (t + 1/2) hops; it is complete this many hops after the one it is named for.
        after = self.window - self.window // 2 - (self.hop - self.hop // 2)
        self.late_features = math.ceil(after / self.hop)
        self.past = self.window - self.hop + self.late_features * self.hop - after
        spectrum, mel = folded_matrices(config, self.window)
        self.register_buffer("spectrum_weight", torch.from_numpy(spectrum)[:, None, :], persistent=False)
        self.register_buffer("mel_weight", torch.from_numpy(mel)[:, :, None], persistent=False)
        self.spectrum_weight: Tensor
        self.mel_weight: Tensor
        self.feature_dim = config.num_mel_bins
        self.units_per_feature = self.hop

    def input_spec(self, subsampling_factor: int) -> InputSpec:
        """Describe the graph's input where one output frame takes ``subsampling_factor`` features."""
        return InputSpec("pcm", "pcm", self.hop * subsampling_factor, self.config.sample_rate)

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Return the one state: the samples that the next windows still need."""
        return (StateSpec(TAIL_STATE, (BATCH_AXIS, self.past)),)

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn samples ``(N, k * hop)`` into features ``(N, k, F)`` and the next states."""
        samples = torch.cat([states[TAIL_STATE], inputs], dim=1)
        return self._features(samples), {TAIL_STATE: samples[:, -self.past :]}

    def forward(self, inputs: Tensor) -> Tensor:
        """Whole inputs ``(N, k * hop)`` to features ``(N, k, F)``, in float32 whatever the precision around it."""
        with torch.autocast(inputs.device.type, enabled=False):
            return self._features(F.pad(inputs.float(), (self.past, 0)))

    def _features(self, samples: Tensor) -> Tensor:
        real, imaginary = F.conv1d(samples[:, None, :], self.spectrum_weight, stride=self.hop).chunk(2, dim=1)
        power = real * real + imaginary * imaginary
        mel = F.conv1d(power, self.mel_weight)
        return torch.log(mel.clamp(min=LOG_FLOOR)).transpose(1, 2)


def folded_matrices(config: LogMelConfig, window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """DFT with everything linear folded in ``(2B, window)``, and mel weights ``(M, B)``; B = FFT bins in use."""
    fft_size = 1 << math.ceil(math.log2(window))
    mel = mel_weights(config, fft_size)
    used = np.flatnonzero(mel.any(axis=0))
    mel = mel[:, used[0] : used[-1] + 1]
    angle = 2 * np.pi * np.outer(np.arange(used[0], used[-1] + 1), np.arange(window)) / fft_size
    positions = np.arange(window)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * positions / (window - 1))) ** 0.85
    remove_dc = np.eye(window) - 1.0 / window
    preemphasis = np.eye(window) - PREEMPHASIS * np.eye(window, k=-1)
    preemphasis[0, 0] = 1 - PREEMPHASIS  # Kaldi repeats the first sample to its left
    linear = povey[:, None] * (preemphasis @ remove_dc)
    spectrum = np.concatenate([np.cos(angle), -np.sin(angle)]) @ linear
    return spectrum.astype(np.float32), mel.astype(np.float32)


def mel_weights(config: LogMelConfig, fft_size: int) -> NDArray[np.float64]:
    """Kaldi's triangular mel filters, ``(num_mel_bins, fft_size / 2)``; a negative top counts from Nyquist."""
    nyquist = config.sample_rate / 2
    top = config.high_freq if config.high_freq > 0 else nyquist + config.high_freq
    low, high = _mel(np.array([config.low_freq, top]))
    edges = np.linspace(low, high, config.num_mel_bins + 2)
    bins = _mel(np.arange(fft_size // 2) * config.sample_rate / fft_size)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return weights


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
