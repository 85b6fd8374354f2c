"""Depthwise-separable convolution student with explicit caches: the family that int8 serves best."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcompress.layers import SeparableConvBlock, Subsampling
from kdcompress.students.base import Encoded, Student, spread
from kdcompress_runtime.bundle import BATCH_AXIS, StateSpec

if TYPE_CHECKING:
    from kdcompress.model_settings import SeparableConvConfig
    from kdcompress.network import Frontend


class SeparableConvStudent(Student):
    """Subsampling convolution, ``depth`` separable blocks, linear head (after QuartzNet, arXiv 1910.10261).

    The look-ahead is spread evenly over the blocks. Inside a block that looks ``right`` frames ahead the
    residual waits as long as the convolution does, so every layer is causal in computation and the whole
    network lags its input by ``lookahead_frames``.
    """

    def __init__(self, config: SeparableConvConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        size = config.resolved()
        self.lookahead_frames = config.lookahead_frames
        self.subsampling = Subsampling(frontend.feature_dim, size.width, config.subsampling_factor)
        self.blocks = nn.ModuleList(
            SeparableConvBlock(size.width, size.kernel, right, config.expansion, config.dropout)
            for right in spread(config.lookahead_frames, size.depth)
        )
        self.head = nn.Conv1d(size.width, num_tokens, 1)

    def encoder_state_specs(self) -> tuple[StateSpec, ...]:
        """Return the features that the subsampling overlaps, and ``kernel - 1`` frames for each block."""
        channels = self.head.in_channels
        overlap = StateSpec("subsampling_cache", (BATCH_AXIS, self.frontend.feature_dim, self.subsampling_factor))
        kernels = [block.kernel for block in self.blocks if isinstance(block, SeparableConvBlock)]
        return (
            overlap,
            *(StateSpec(f"block{i}_cache", (BATCH_AXIS, channels, k - 1)) for i, k in enumerate(kernels)),
        )

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Every block is as wide as the head's input."""
        return (self.head.in_channels,) * len(self.blocks)

    @property
    def hidden_lags(self) -> tuple[int, ...]:
        """The look-ahead of a block and of those before it."""
        return tuple(itertools.accumulate(b.right for b in self.blocks if isinstance(b, SeparableConvBlock)))

    def encode(self, features: Tensor, states: dict[str, Tensor]) -> Encoded:
        """See ``Student.encode``."""
        normalised = self.feature_norm(features).transpose(1, 2)
        padded = torch.cat([states["subsampling_cache"], normalised], dim=2)
        following = {"subsampling_cache": padded[..., -self.subsampling_factor :]}
        frames = self.subsampling(padded)
        hidden = []
        for index, block in enumerate(self.blocks):
            name = f"block{index}_cache"
            padded = torch.cat([states[name], frames], dim=2)
            following[name] = padded[..., -states[name].shape[2] :]
            frames = block(padded)
            hidden.append(frames.transpose(1, 2))
        log_probs = self.head(frames).transpose(1, 2).log_softmax(dim=2)
        return Encoded(log_probs, following, tuple(hidden))
