"""A VGG-style CTC teacher (Simonyan and Zisserman, arXiv 1409.1556): 3x3 convolutions over bins and time.

In an ensemble it hears differently from a network that mixes all bins in its first layer. Small enough for a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import DenseConvBlock, FeatureMaps, frame_mask, two_factors
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.model_settings import VggConfig
    from kdcompress.network import Frontend


class VggTeacher(CtcNetwork):
    """2-D convolutions with max-pooling over bins, dense full-context convolutions over time, linear head."""

    def __init__(self, config: VggConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        strides = (*two_factors(config.subsampling_factor), *[1] * (len(config.channels) - 2))
        self.maps = nn.ModuleList(
            FeatureMaps(before, channels, stride=stride)
            for before, channels, stride in zip((1, *config.channels), config.channels, strides, strict=False)
        )
        bins = frontend.feature_dim
        for _ in config.channels:
            bins = -(-bins // 2)
        self.blocks = nn.ModuleList(
            DenseConvBlock(width, config.width, config.kernel, config.kernel // 2, config.dropout)
            for width in (config.channels[-1] * bins, *[config.width] * (config.depth - 1))
        )
        self.head = nn.Linear(config.width, num_tokens)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """The convolutions over time, each as wide as the head's input."""
        return (self.head.in_features,) * len(self.blocks)

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:  # noqa: ARG002
        """See ``CtcNetwork.outputs``; labels are not looked at."""
        maps = self._masked(self.feature_norm(features).transpose(1, 2)[:, None], frame_lens, self.subsampling_factor)
        left = self.subsampling_factor
        for layer in self.maps:
            if isinstance(layer, FeatureMaps):
                left //= layer.conv.stride[1]
                before = (layer.overlap + 1) // 2
                maps = layer(F.pad(maps, (before, layer.overlap - before)))
                maps = self._masked(F.max_pool2d(maps, (2, 1), ceil_mode=True), frame_lens, left)
        frames, hidden = maps.flatten(1, 2), []
        for block in self.blocks:
            if isinstance(block, DenseConvBlock):
                frames = self._masked(block.whole(frames), frame_lens)
                hidden.append(frames.transpose(1, 2))
        return Outputs(self.head(hidden[-1]).float().log_softmax(dim=2), tuple(hidden))

    def _masked(self, maps: Tensor, frame_lens: Tensor, columns: int = 1) -> Tensor:
        """Zero what lies after an item's end; there are ``columns`` on the last axis for one frame."""
        inside = frame_mask(frame_lens * columns, maps.shape[-1])
        return maps * inside.view(maps.shape[0], *[1] * (maps.ndim - 2), -1)
