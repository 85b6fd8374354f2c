"""Building blocks that students and teachers share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class FeatureNorm(nn.Module):
    """Global mean and variance of the training features, fixed before training starts.

    Per-utterance normalisation is impossible when streaming, so the statistics live in the graph.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("inverse_std", torch.ones(feature_dim))
        self.mean: Tensor
        self.inverse_std: Tensor

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Fix mean and standard deviation, each ``(F,)``."""
        self.mean.copy_(mean)
        self.inverse_std.copy_(1.0 / std.clamp(min=1e-3))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(N, T, F)``."""
        return (features - self.mean) * self.inverse_std


class Subsampling(nn.Module):
    """Features -> frames: one convolution of stride ``factor`` that overlaps its neighbours by half."""

    def __init__(self, feature_dim: int, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv1d(feature_dim, channels, kernel_size=2 * factor, stride=factor, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, F, factor * (T + 1))``, cache of ``factor`` features in front, to ``(N, C, T)``."""
        frames: Tensor = F.relu(self.norm(self.conv(features)))
        return frames


class SeparableConvBlock(nn.Module):
    """Depthwise convolution over time, two pointwise convolutions, residual (QuartzNet, arXiv 1910.10261).

    ReLU and batch norm only: both disappear into int8 convolutions. ``right`` frames of the kernel look ahead.
    The caller pads: with a cache when streaming, with zeros when the whole input is at hand.
    """

    def __init__(self, channels: int, kernel: int, right: int, expansion: float, dropout: float) -> None:
        super().__init__()
        self.kernel, self.right = kernel, right
        self.depthwise = nn.Conv1d(channels, channels, kernel, groups=channels, bias=False)
        self.depthwise_norm = nn.BatchNorm1d(channels)
        inner = round(expansion * channels)
        self.expand = nn.Conv1d(channels, inner, 1)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Conv1d(inner, channels, 1, bias=False)
        self.project_norm = nn.BatchNorm1d(channels)

    def forward(self, padded: Tensor) -> Tensor:
        """Map ``(N, C, kernel - 1 + T)`` to ``(N, C, T)``; output t is about input ``t + kernel - 1 - right``."""
        hidden = self.depthwise_norm(self.depthwise(padded))
        hidden = self.dropout(F.relu(self.expand(hidden)))
        hidden = self.project_norm(self.project(hidden))
        mapped: Tensor = without_context(padded, self.kernel, self.right) + hidden
        return mapped

    def whole(self, frames: Tensor) -> Tensor:
        """Map a whole input ``(N, C, T)`` to ``(N, C, T)``, zeros on both sides, nothing delayed."""
        mapped: Tensor = self(F.pad(frames, (self.kernel - 1 - self.right, self.right)))
        return mapped


class FeatureMaps(nn.Module):
    """Convolution of 3 bins by a few features, batch norm, ReLU: ``(N, C, F, T)`` maps over bins and time.

    ``stride`` divides the time axis, ``bin_stride`` the bins. Each step overlaps what was before it by
    ``overlap`` columns, which the caller puts in front: from a cache when streaming, zeros otherwise.
    """

    def __init__(self, inputs: int, channels: int, *, stride: int, bin_stride: int = 1) -> None:
        super().__init__()
        kernel = max(3, stride + 1)
        self.overlap = kernel - stride
        self.conv = nn.Conv2d(inputs, channels, (3, kernel), (bin_stride, stride), padding=(1, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, padded: Tensor) -> Tensor:
        """Map ``(N, C, F, overlap + stride * T)`` to ``(N, C', F / bin_stride rounded up, T)``."""
        maps: Tensor = F.relu(self.norm(self.conv(padded)))
        return maps


class DenseConvBlock(nn.Module):
    """Convolution of every channel with every channel over time, batch norm, ReLU; residual where widths agree.

    Without residuals six of them need many hundred updates before they learn anything from CTC. ``right`` frames of
    the kernel look ahead. The caller pads, as for ``SeparableConvBlock``.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, right: int, dropout: float) -> None:
        super().__init__()
        self.kernel, self.right, self.residual = kernel, right, inputs == channels
        self.conv = nn.Conv1d(inputs, channels, kernel, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, padded: Tensor) -> Tensor:
        """Map ``(N, C, kernel - 1 + T)`` to ``(N, C', T)``; output t is about input ``t + kernel - 1 - right``."""
        hidden: Tensor = self.dropout(F.relu(self.norm(self.conv(padded))))
        return without_context(padded, self.kernel, self.right) + hidden if self.residual else hidden

    def whole(self, frames: Tensor) -> Tensor:
        """Map a whole input ``(N, C, T)`` to ``(N, C', T)``, zeros on both sides, nothing delayed."""
        mapped: Tensor = self(F.pad(frames, (self.kernel - 1 - self.right, self.right)))
        return mapped


class BothWays(nn.Module):
    """An LSTM from the start of each item and one from its end, side by side, then a layer norm.

    Without the norm CTC stays at "all blank" for hundreds of updates. Items are turned round by hand and not packed:
    on a CPU, training on packed sequences takes three times as long.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(inputs, cells, batch_first=True)
        self.homeward = nn.LSTM(inputs, cells, batch_first=True)
        self.norm = nn.LayerNorm(2 * cells)

    def forward(self, frames: Tensor, turned: Tensor) -> Tensor:
        """``(N, T, C)`` to ``(N, T, 2 * cells)``; ``turned (N, T)`` says which frame is at t in the other order."""
        onward, _ = self.onward(frames)
        back, _ = self.homeward(_reordered(frames, turned))
        normed: Tensor = self.norm(torch.cat([onward, _reordered(back, turned)], dim=2))
        return normed


def _reordered(frames: Tensor, order: Tensor) -> Tensor:
    return frames.gather(1, order[..., None].expand_as(frames))


def without_context(padded: Tensor, kernel: int, right: int) -> Tensor:
    """Cut ``(..., kernel - 1 + T)`` to the ``(..., T)`` in the middle of each window, ``right`` of them behind it.

    Bounds are constants: an exported graph computes no lengths.
    """
    return padded[..., kernel - 1 - right : -right if right else None]


def two_factors(number: int) -> tuple[int, int]:
    """Return the two factors of ``number`` that are closest to each other, the larger one first."""
    smaller = next(factor for factor in range(math.isqrt(number), 0, -1) if number % factor == 0)
    return number // smaller, smaller


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """True where a frame is inside its item; ``(N,)`` to ``(N, frames)``."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
