"""Student of standard, dense convolutions with explicit caches: 2-D over bins and time, then 1-D over time.

The plain network of which knowledge distillation papers on speech often speak when they say "CNN"; beside the
separable family it shows what a loss or a teacher is worth on another architecture.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import DenseConvBlock, FeatureMaps, two_factors
from kdcompress.students.base import Encoded, Student, spread
from kdcompress_runtime.bundle import BATCH_AXIS, StateSpec

if TYPE_CHECKING:
    from kdcompress.model_settings import CnnConfig
    from kdcompress.network import Frontend


class CnnStudent(Student):
    """Two convolutions over bins and time, which subsample both; ``depth`` convolutions over time, linear head.

    Batch norm and ReLU after each; the convolutions over time are residual. The look-ahead is spread evenly over the
    convolutions over time; those over bins look back only.
    """

    def __init__(self, config: CnnConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        self.lookahead_frames = config.lookahead_frames
        first, second = two_factors(config.subsampling_factor)
        self.first_maps = FeatureMaps(1, config.channels, stride=first, bin_stride=2)
        self.second_maps = FeatureMaps(config.channels, config.channels, stride=second, bin_stride=2)
        self.first_bins = -(-frontend.feature_dim // 2)
        # A kernel over all bins that are left, not a reshape: int8 stays int8, and no size is read in the graph.
        self.join = nn.Conv2d(config.channels, config.width, (-(-self.first_bins // 2), 1), bias=False)
        self.join_norm = nn.BatchNorm2d(config.width)
        self.blocks = nn.ModuleList(
            DenseConvBlock(config.width, config.width, config.kernel, right, config.dropout)
            for right in spread(config.lookahead_frames, config.depth)
        )
        self.head = nn.Conv1d(config.width, num_tokens, 1)

    def encoder_state_specs(self) -> tuple[StateSpec, ...]:
        """Return what each convolution overlaps: features, maps, and ``kernel - 1`` frames for each block."""
        first, second = self.first_maps, self.second_maps
        kernels = [block.kernel for block in self.blocks if isinstance(block, DenseConvBlock)]
        return (
            StateSpec("features_cache", (BATCH_AXIS, 1, self.frontend.feature_dim, first.overlap)),
            StateSpec("maps_cache", (BATCH_AXIS, second.conv.in_channels, self.first_bins, second.overlap)),
            *(StateSpec(f"block{i}_cache", (BATCH_AXIS, self.head.in_channels, k - 1)) for i, k in enumerate(kernels)),
        )

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """The convolutions over time, each as wide as the head's input."""
        return (self.head.in_channels,) * len(self.blocks)

    @property
    def hidden_lags(self) -> tuple[int, ...]:
        """The look-ahead of a block and of those before it."""
        return tuple(itertools.accumulate(b.right for b in self.blocks if isinstance(b, DenseConvBlock)))

    def encode(self, features: Tensor, states: dict[str, Tensor]) -> Encoded:
        """See ``Student.encode``."""
        following: dict[str, Tensor] = {}

        def with_cache(name: str, new: Tensor, overlap: int) -> Tensor:
            padded = torch.cat([states[name], new], dim=-1)
            following[name] = padded[..., padded.shape[-1] - overlap :]
            return padded

        normalised = self.feature_norm(features).transpose(1, 2)[:, None]
        maps = self.first_maps(with_cache("features_cache", normalised, self.first_maps.overlap))
        maps = self.second_maps(with_cache("maps_cache", maps, self.second_maps.overlap))
        frames = F.relu(self.join_norm(self.join(maps))).squeeze(2)
        hidden = []
        for index, block in enumerate(self.blocks):
            if isinstance(block, DenseConvBlock):
                frames = block(with_cache(f"block{index}_cache", frames, block.kernel - 1))
                hidden.append(frames.transpose(1, 2))
        log_probs = self.head(frames).transpose(1, 2).log_softmax(dim=2)
        return Encoded(log_probs, following, tuple(hidden))
