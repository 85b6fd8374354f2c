"""Networks that look at the whole input: a stem for what the features are, and blocks over frames.

Teachers are made of it, and students of inputs that come whole: lines of text, sentences. The stem follows from the
input: one convolution over time, 2-D convolutions over bins and time (rows and columns of an image), or an embedding of
ids whose states are upsampled. Blocks are convolutions, attention, both, or recurrent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.attention import AttentionBlock, sinusoids
from kdcompress.layers import BothWays, FeatureMaps, SeparableConvBlock, Subsampling, frame_mask, two_factors
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.model_settings import ConventionalConfig, EncoderConfig, FullContextConfig
    from kdcompress.network import Frontend


class FullContextEncoder(nn.Module):
    """A stem and ``depth`` blocks that look both ways; frames after the end of an item are kept at zero."""

    def __init__(self, config: EncoderConfig, frontend: Frontend, subsampling_factor: int) -> None:
        super().__init__()
        self.subsampling = _stem(config, frontend, subsampling_factor)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))

    def forward(self, normalised: Tensor, frame_lens: Tensor) -> tuple[Tensor, ...]:
        """Features ``(N, T * factor, F)`` to frames ``(N, T, C)`` after each block."""
        hidden = self.subsampling(normalised, frame_lens)
        mask = frame_mask(frame_lens, hidden.shape[2])
        encoded = []
        for block in self.blocks:
            hidden = block(hidden, mask, frame_lens)
            encoded.append(hidden.transpose(1, 2))
        return tuple(encoded)


class FullContextNetwork(CtcNetwork):
    """Full-context encoder and a linear head."""

    def __init__(self, config: ConventionalConfig | FullContextConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        self.encoder = FullContextEncoder(config.encoder, frontend, config.subsampling_factor)
        self.head = nn.Linear(config.encoder.width, num_tokens)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Every block is as wide as the head's input."""
        return (self.head.in_features,) * len(self.encoder.blocks)

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:  # noqa: ARG002
        """See ``CtcNetwork.outputs``; labels are not looked at."""
        hidden = self.encoder(self.feature_norm(features), frame_lens)
        return Outputs(self.head(hidden[-1]).float().log_softmax(dim=2), hidden)


def _stem(config: EncoderConfig, frontend: Frontend, factor: int) -> nn.Module:
    if frontend.symbols is not None:
        return TokenStem(config, frontend.symbols, frontend.features_per_unit)
    if config.channels:
        return MapsStem(config, frontend.feature_dim, factor)
    return TimeStem(frontend.feature_dim, config.width, factor)


class TimeStem(Subsampling):
    """One convolution over time of a whole input."""

    def forward(self, normalised: Tensor, frame_lens: Tensor | None = None) -> Tensor:
        """Features ``(N, T * factor, F)`` to frames ``(N, C, T)``; without ``frame_lens`` as ``Subsampling``."""
        if frame_lens is None:
            return super().forward(normalised)
        mask = frame_mask(frame_lens, normalised.shape[1] // self.factor)[:, None, :]
        inside = mask.repeat_interleave(self.factor, dim=2)
        return super().forward(F.pad(normalised.transpose(1, 2) * inside, (self.factor, 0))) * mask


class MapsStem(nn.Module):
    """2-D convolutions over bins and time, each of which halves the bins; then one over all bins that are left.

    The first two divide time by ``factor`` together. For lines of text the bins are the rows of the image (the
    convolutions of CRNN, Shi et al., arXiv 1507.05717, with strides in the place of pooling).
    """

    def __init__(self, config: EncoderConfig, feature_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        strides = (*two_factors(factor), *[1] * (len(config.channels) - 2))
        self.maps = nn.ModuleList(
            FeatureMaps(before, channels, stride=stride, bin_stride=2)
            for before, channels, stride in zip((1, *config.channels), config.channels, strides, strict=False)
        )
        bins = feature_dim
        for _ in config.channels:
            bins = -(-bins // 2)
        self.join = nn.Conv2d(config.channels[-1], config.width, (bins, 1), bias=False)
        self.norm = nn.BatchNorm2d(config.width)

    def forward(self, normalised: Tensor, frame_lens: Tensor) -> Tensor:
        """Features ``(N, T * factor, F)`` to frames ``(N, C, T)``."""
        left = self.factor
        maps = _masked(normalised.transpose(1, 2)[:, None], frame_lens, left)
        for layer in self.maps:
            if isinstance(layer, FeatureMaps):
                left //= layer.conv.stride[1]
                before = (layer.overlap + 1) // 2
                maps = _masked(layer(F.pad(maps, (before, layer.overlap - before))), frame_lens, left)
        frames = F.relu(self.norm(self.join(maps))).squeeze(2)
        return _masked(frames, frame_lens, 1)


class TokenStem(nn.Module):
    """Embedding of ids, blocks of attention over tokens, and each state split into ``upsampling`` frames.

    The split is that of Libovicky and Helcl (arXiv 1811.04719): one linear layer to ``upsampling`` times the width.
    """

    def __init__(self, config: EncoderConfig, symbols: int, upsampling: int) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.embedding = nn.Embedding(symbols, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.scale = config.width**0.5
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            AttentionBlock(config.width, config.heads, config.dropout) for _ in range(config.token_depth)
        )
        self.spread = nn.Linear(config.width, upsampling * config.width)

    def forward(self, features: Tensor, frame_lens: Tensor) -> Tensor:
        """Ids ``(N, S * upsampling, 1)`` to frames ``(N, C, S * upsampling)``."""
        ids = features[:, :: self.upsampling, 0].long()
        mask = frame_mask(frame_lens // self.upsampling, ids.shape[1])
        tokens = self.embedding(ids) * self.scale
        tokens = self.dropout(tokens + sinusoids(tokens.shape[1], tokens.shape[2]).to(tokens))
        for block in self.blocks:
            tokens = block(tokens, ~mask)
        frames = self.spread(tokens).unflatten(2, (self.upsampling, -1)).flatten(1, 2)
        frames = frames + sinusoids(frames.shape[1], frames.shape[2]).to(frames)
        return _masked(frames.transpose(1, 2), frame_lens, 1)


def _block(config: EncoderConfig) -> nn.Module:
    match config.block:
        case "attention":
            return WholeAttention(config)
        case "both":
            return ConvAttention(config)
        case "recurrent":
            return WholeRecurrent(config)
    return WholeConv(config)


class WholeConv(SeparableConvBlock):
    """A separable convolution over a whole input."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config.width, config.kernel, config.kernel // 2, config.expansion, config.dropout)

    def forward(self, frames: Tensor, mask: Tensor | None = None, frame_lens: Tensor | None = None) -> Tensor:
        """Map ``(N, C, T)`` to the same shape; ``mask (N, T)`` is True inside. Without it as ``SeparableConvBlock``."""
        del frame_lens
        return super().forward(frames) if mask is None else self.whole(frames) * mask[:, None, :]


class WholeAttention(AttentionBlock):
    """Self-attention and feed-forward, channels first."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config.width, config.heads, config.dropout)

    def forward(self, frames: Tensor, mask: Tensor, frame_lens: Tensor | None = None) -> Tensor:
        """Map ``(N, C, T)`` to the same shape; ``mask (N, T)`` is True inside."""
        del frame_lens
        return super().forward(frames.transpose(1, 2), ~mask).transpose(1, 2) * mask[:, None, :]


class ConvAttention(nn.Module):
    """A separable convolution, then self-attention: neighbours first, then everything."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.conv, self.attention = WholeConv(config), WholeAttention(config)

    def forward(self, frames: Tensor, mask: Tensor, frame_lens: Tensor) -> Tensor:
        """Map ``(N, C, T)`` to the same shape; ``mask (N, T)`` is True inside."""
        mapped: Tensor = self.attention(self.conv(frames, mask, frame_lens), mask)
        return mapped


class WholeRecurrent(nn.Module):
    """An LSTM that reads both ways, channels first."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = BothWays(config.width, config.width // 2)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, frames: Tensor, mask: Tensor, frame_lens: Tensor) -> Tensor:
        """Map ``(N, C, T)`` to the same shape; ``mask (N, T)`` is True inside, for the first ``frame_lens``."""
        places = torch.arange(mask.shape[1], device=mask.device)[None]
        # Padding stays behind the item, where neither direction comes before it has read the item.
        turned = torch.where(mask, frame_lens[:, None] - 1 - places, places)
        read: Tensor = self.dropout(self.layer(frames.transpose(1, 2), turned))
        return read.transpose(1, 2) * mask[:, None, :]


def _masked(maps: Tensor, frame_lens: Tensor, columns: int) -> Tensor:
    """Zero what lies after an item's end; there are ``columns`` on the last axis for one frame."""
    inside = frame_mask(frame_lens * columns, maps.shape[-1])
    return maps * inside.view(maps.shape[0], *[1] * (maps.ndim - 2), -1)
