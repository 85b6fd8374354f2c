"""Waveform -> log-mel, as a torch module that is exported together with the student.

Kaldi's povey filterbank (25/10 ms, as sherpa-onnx feeds its models): DC removal, pre-emphasis, window, DFT, power,
mel, log. ``kaldi-native-fbank`` is the judge in the tests. Training computes it with an FFT; ``step``, which is
exported, as a few matrix products (``split_dft``). It streams: the samples that the next window overlaps are its
only state.

The windows are Kaldi's to the sample (``snip_edges=False``), and come as soon as the last sample of one is there:
one frame late. So what is trained here can be fed Kaldi's features elsewhere, delayed by ``late_features``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from kdcompress.kaldi import LOG_FLOOR, PREEMPHASIS, mel_weights, povey_window
from kdcompress.network import Frontend
from kdcompress.settings import Settings
from kdcompress.split_dft import split_dft
from kdcompress_runtime.bundle import BATCH_AXIS, InputSpec, StateSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress.recipe import AugmentConfig

TAIL_STATE = "frontend_tail"


class LogMelConfig(Settings):
    """Kaldi's povey log-mel filterbank; it becomes part of the exported graph."""

    task: ClassVar[Literal["speech"]] = "speech"
    measure: ClassVar[str] = "s"
    longest: ClassVar[float] = 30.0
    counted_by: ClassVar[tuple[str, ...]] = ()
    augments: ClassVar[frozenset[str]] = frozenset({"lead_in_s", "speed", "gain_db", "noise", "spec"})

    kind: Literal["log_mel"] = "log_mel"
    """The frontend for speech."""
    sample_rate: int = Field(default=16000, ge=4000, le=48000)
    """Hz that the model hears; audio of another rate is resampled."""
    num_mel_bins: int = Field(default=80, ge=8, le=128)
    """Feature size; 40 suits 8 kHz."""
    frame_shift_ms: float = Field(default=10.0, ge=5, le=20)
    """Time between feature frames."""
    window_ms: float = Field(default=25.0, ge=10, le=50)
    """Length of the analysis window."""
    low_freq: float = Field(default=20.0, ge=0)
    """Lower edge of the lowest filter in Hz."""
    high_freq: float = -400.0
    """Upper edge of the highest filter in Hz; zero or negative counts from half the sample rate."""

    @model_validator(mode="after")
    def _check(self) -> LogMelConfig:
        top = self.high_freq if self.high_freq > 0 else self.sample_rate / 2 + self.high_freq
        if not self.low_freq < top <= self.sample_rate / 2:
            raise ValueError(f"the filters run from {self.low_freq} to {top} Hz; that is empty or above half the rate")
        return self

    @property
    def hop(self) -> int:
        """Samples between feature frames."""
        return round(self.sample_rate * self.frame_shift_ms / 1000)

    @property
    def units_per_second(self) -> int:
        """Input units (samples) in a second."""
        return self.sample_rate

    def grown(self, augment: AugmentConfig, units: int) -> int:
        """Return the most samples that a recording of ``units`` samples becomes."""
        return augment.stretched(units, self.units_per_second)

    def exact_shift(self) -> Fraction:
        """Return the seconds between feature frames: whole samples, so 11,025 Hz have no 10 ms."""
        return Fraction(self.hop, self.sample_rate)


class LogMel(Frontend):
    """Log-mel features of raw PCM.

    ``step`` maps samples ``(N, k * hop)`` float32 in [-1, 1] to features ``(N, k, num_mel_bins)`` float32.
    """

    povey: Tensor
    mel: Tensor
    offset_weight: Tensor
    align_weight: Tensor
    first_weight: Tensor
    second_weight: Tensor
    mel_weight: Tensor
    rows: Tensor

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
        # Whole hops, and one sample before them for the pre-emphasis.
        self.tail = math.ceil(self.past / self.hop) * self.hop + 1
        self.fft_size = 1 << math.ceil(math.log2(self.window))
        self._make_buffers()
        self.feature_dim = config.num_mel_bins
        self.units_per_feature = self.hop

    def _make_buffers(self) -> None:
        hops = (self.tail - 1) // self.hop + 1
        start = hops * self.hop - self.hop - self.past
        window, inside = np.zeros(hops * self.hop), np.zeros(hops * self.hop)
        window[start : start + self.window] = povey_window(self.window)
        inside[start : start + self.window] = (1 - PREEMPHASIS) / self.window
        split = split_dft(window, self.fft_size, self.hop)
        mel = mel_of(self.config, self.fft_size)
        offset = inside.reshape(hops, self.hop).T * split.offset_scale
        buffers = {
            "povey": povey_window(self.window),
            "mel": mel.T,
            "offset_weight": offset,
            "align_weight": np.eye(hops)[None],
            "first_weight": split.first,
            "second_weight": split.second[:, :, None],
            "mel_weight": (mel[:, split.bins] * (split.bins >= 0))[:, :, None],
        }
        for name, value in buffers.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)
        self.register_buffer("rows", torch.from_numpy(split.rows), persistent=False)
        self.radix = split.radix

    def input_spec(self, subsampling_factor: int) -> InputSpec:
        """Describe the graph's input where one output frame takes ``subsampling_factor`` features."""
        return InputSpec("pcm", "pcm", self.hop * subsampling_factor, self.config.sample_rate)

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Return the one state: the samples that the next windows still need."""
        return (StateSpec(TAIL_STATE, (BATCH_AXIS, self.tail)),)

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn samples ``(N, k * hop)`` into features ``(N, k, F)`` and the next states.

        Graphs have no FFT that is worth its name: matrix products take its place.
        """
        samples = torch.cat([states[TAIL_STATE], inputs], dim=1)
        batch, plain = samples.shape[0], samples[:, 1:]
        emphasised = (plain - PREEMPHASIS * samples[:, :-1]).reshape(batch, -1, self.hop).transpose(1, 2)
        sums = (plain.reshape(batch, -1, self.hop) @ self.offset_weight).transpose(1, 2)
        offset = F.conv1d(F.pad(sums, (self.align_weight.shape[2] - 1, 0)), self.align_weight)
        rows = torch.cat([emphasised, offset], dim=1).index_select(1, self.rows)
        inner = F.conv1d(rows, self.first_weight, groups=self.radix)
        outer = F.conv1d(inner.reshape(batch, 2 * self.radix, -1), self.second_weight)
        real, imaginary = (outer * outer).reshape(batch, inner.shape[1], -1).chunk(2, dim=1)
        mel = F.conv1d(real + imaginary, self.mel_weight)
        return torch.log(mel.clamp(min=LOG_FLOOR)).transpose(1, 2), {TAIL_STATE: samples[:, -self.tail :]}

    def forward(self, inputs: Tensor) -> Tensor:
        """Whole inputs ``(N, k * hop)`` to features ``(N, k, F)``, in float32 whatever the precision around it."""
        with torch.autocast(inputs.device.type, enabled=False):
            samples = F.pad(inputs.float(), (self.past, 0))
            frames = samples.unfold(1, self.window, self.hop)
            frames = frames - frames.mean(dim=2, keepdim=True)
            # Kaldi repeats the first sample to its left; the window is zero there.
            emphasised = F.pad(frames[:, :, 1:] - PREEMPHASIS * frames[:, :, :-1], (1, 0)) * self.povey
            spectrum = torch.fft.rfft(emphasised, n=self.fft_size)[..., : self.fft_size // 2]
            return torch.log(((spectrum.real.square() + spectrum.imag.square()) @ self.mel).clamp(min=LOG_FLOOR))


def folded_matrices(config: LogMelConfig, window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """DFT with everything linear folded in ``(2B, window)``, and mel weights ``(M, B)``; B = FFT bins in use."""
    fft_size = 1 << math.ceil(math.log2(window))
    mel = mel_of(config, fft_size)
    used = np.flatnonzero(mel.any(axis=0))
    mel = mel[:, used[0] : used[-1] + 1]
    angle = 2 * np.pi * np.outer(np.arange(used[0], used[-1] + 1), np.arange(window)) / fft_size
    remove_dc = np.eye(window) - 1.0 / window
    preemphasis = np.eye(window) - PREEMPHASIS * np.eye(window, k=-1)
    preemphasis[0, 0] = 1 - PREEMPHASIS  # Kaldi repeats the first sample to its left
    linear = povey_window(window)[:, None] * (preemphasis @ remove_dc)
    spectrum = np.concatenate([np.cos(angle), -np.sin(angle)]) @ linear
    return spectrum.astype(np.float32), mel.astype(np.float32)


def mel_of(config: LogMelConfig, fft_size: int) -> NDArray[np.float64]:
    """Mel filters of the recipe's frontend, ``(num_mel_bins, fft_size / 2)``."""
    edges = {"low_freq": config.low_freq, "high_freq": config.high_freq}
    return mel_weights(config.sample_rate, config.num_mel_bins, fft_size, **edges)
