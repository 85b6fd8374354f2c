"""What the training loop trains and what teachers answer with: one interface for every CTC network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import FeatureNorm

if TYPE_CHECKING:
    from kdcompress_runtime.bundle import InputSpec, StateSpec


class Frontend(nn.Module, ABC):
    """Raw inputs -> features. Speech has ``LogMel``; images and token sequences get theirs the same way."""

    feature_dim: int
    """Size of the last axis of the features."""
    units_per_feature: int
    """Input units (samples) for one feature frame."""
    features_per_unit: int = 1
    """Feature frames for one input unit, where there are several: source tokens, whose states are upsampled."""
    symbols: int | None = None
    """Number of ids, where a feature is the id of a symbol ``(N, T, 1)``; None where features are measured."""
    late_features: int = 0
    """Feature frames by which a feature comes later than the part of the input that it is about."""

    @abstractmethod
    def input_spec(self, subsampling_factor: int) -> InputSpec:
        """Describe the graph's input in the bundle."""

    @abstractmethod
    def state_specs(self) -> tuple[StateSpec, ...]:
        """Name the states that ``step`` carries."""

    @abstractmethod
    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn a piece of input into features ``(N, T, F)`` and the next states."""

    def noise_like(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Features ``(N, T, F)`` that say nothing: Gaussian noise with the mean and deviation of each bin."""
        noise = torch.randn(features.shape, generator=generator).to(features)
        return features.mean(dim=(0, 1)) + features.std(dim=(0, 1)) * noise


class Outputs(NamedTuple):
    """What a network says about a batch, and how it got there."""

    log_probs: Tensor
    """``(N, T, V)`` float32."""
    hidden: tuple[Tensor, ...] = ()
    """Output of each block, ``(N, T, D)``, in the time of ``log_probs``."""


class CtcNetwork(nn.Module, ABC):
    """A frontend, and frames of log-probabilities from its features.

    Output frames come at ``subsampling_factor`` features each. A network may lag its input by
    ``lookahead_frames``; ``features`` pads for it and ``forward`` removes the lag, so callers see none.
    """

    lookahead_frames: int = 0

    def __init__(self, frontend: Frontend, subsampling_factor: int) -> None:
        super().__init__()
        self.frontend = frontend
        self.feature_norm = FeatureNorm(frontend.feature_dim)
        self.subsampling_factor = subsampling_factor

    @property
    def units_per_frame(self) -> int:
        """Input units (samples) for one output frame; for ``features_per_unit`` of them where a frontend upsamples."""
        return self.frontend.units_per_feature * self.subsampling_factor

    def frame_lens(self, input_lens: Tensor) -> Tensor:
        """Output frames for each input length; an incomplete last frame counts."""
        return (input_lens * self.frontend.features_per_unit + self.units_per_frame - 1) // self.units_per_frame

    @torch.no_grad()
    def features(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, T', F)`` of inputs padded to whole frames plus the look-ahead; no gradient."""
        short = -inputs.shape[1] % self.units_per_frame
        within = (0, 0) * (inputs.ndim - 2)  # axes behind time are as they are
        padded = F.pad(inputs, (*within, 0, short + self.lookahead_frames * self.units_per_frame))
        features: Tensor = self.frontend(padded)
        return features

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Width of each block in ``Outputs.hidden``; a network that shows no blocks has none."""
        return ()

    @abstractmethod
    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:
        """Answer for the frames of ``features`` without the look-ahead.

        Args:
            features: ``(N, (T + lookahead_frames) * subsampling_factor, F)``, not normalised.
            frame_lens: valid output frames, ``(N,)`` int64.
            labels: reference ids, ``(N, U)`` int64. Only an Oracle Teacher looks at them.
            label_lens: valid labels, ``(N,)`` int64.
        """

    def forward(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """Return log-probabilities ``(N, T, V)`` float32; arguments as for ``outputs``."""
        return self.outputs(features, frame_lens, labels, label_lens).log_probs
