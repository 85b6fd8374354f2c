"""The parts of a conformer block that streams: feed-forward, banded self-attention, gated convolution.

After Gulati et al. (arXiv 2005.08100), with three changes. Attention is a sliding window with a learned bias for each
offset, so that nothing depends on how the input is cut or on how long it is. Feed-forward parts use ReLU, which costs
nothing beside int8 matrix products. Every product with weights is over the last axis, as dynamic int8 wants them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_MASKED = -1e4
"""Added to a score, it leaves a weight of exactly zero; finite, so that no arithmetic turns it into NaN."""
GROUP = 8
"""Queries that share a gathered band of keys. Any number gives the same result; this one is fast for 8 and 250."""


class Stacking(nn.Module):
    """Features -> frames: a linear map of ``factor`` features and as many before them, ReLU, layer norm.

    What ``layers.Subsampling`` computes as a convolution, as a matrix product.
    """

    def __init__(self, feature_dim: int, width: int, factor: int) -> None:
        super().__init__()
        self.stacked = factor * feature_dim
        self.project = nn.Linear(2 * self.stacked, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, T * factor, F)`` and the stack before, ``(N, 1, factor * F)``, to frames and the last stack."""
        stacks = torch.cat([before, features.reshape(features.shape[0], -1, self.stacked)], dim=1)
        pairs = torch.cat([stacks[:, :-1], stacks[:, 1:]], dim=2)
        return self.norm(F.relu(self.project(pairs))), stacks[:, -1:]


class FeedForward(nn.Module):
    """Half a step of a feed-forward network, without the residual."""

    def __init__(self, width: int, expansion: float, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        inner = round(expansion * width)
        self.expand = nn.Linear(width, inner)
        self.project = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():  # the half of the macaron, in the weights and not in the graph
            self.project.weight.mul_(0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(N, T, D)`` to ``(N, T, D)``."""
        inner = self.dropout(F.relu(self.expand(self.norm(frames))))
        mapped: Tensor = self.dropout(self.project(inner))
        return mapped


class Band(NamedTuple):
    """Which keys the queries of a step see; the same for every block."""

    queries: Tensor
    """Frames of the step in groups of ``GROUP``, ``(G * GROUP,)`` int64; the last frame is repeated."""
    keys: Tensor
    """For each group, the cache and the step from the first frame it may see on, ``(G * (left + GROUP),)`` int64."""
    start: Tensor
    """Zero, or ``_MASKED`` for keys before the start of the stream, ``(N, 1, G, 1, left + GROUP)`` float32."""


def band(frames: int, left: int, seen: Tensor) -> Band:
    """Lay out a step of ``frames`` frames after ``seen`` ``(N,)`` frames of the stream, counted up to ``left``."""
    first = torch.arange(0, frames, GROUP, device=seen.device)[:, None]
    within = torch.arange(left + GROUP, device=seen.device)
    queries = (first + within[:GROUP]).clamp(max=frames - 1)
    slots = first + within
    before_start = slots[None] + seen[:, None, None] < left
    start = torch.where(before_start, _MASKED, 0.0)[:, None, :, None, :]
    return Band(queries.flatten(), slots.clamp(max=left + frames - 1).flatten(), start)


class BandedAttention(nn.Module):
    """Self-attention of each frame to itself and ``left`` frames before it, without the residual.

    A bias is learned for each head and offset; it is the only thing that knows about positions.
    """

    def __init__(self, width: int, heads: int, left: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.left = heads, left
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.offset_bias = nn.Parameter(torch.zeros(heads, left + 1))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():  # the scale of the scores, in the weights and not in the graph
            self.query_key_value.weight[:width].mul_((width // heads) ** -0.5)
        offsets = torch.arange(GROUP)[:, None] + left - torch.arange(left + GROUP)[None, :]
        self.register_buffer("offsets", offsets.clamp(0, left), persistent=False)
        self.register_buffer("outside", torch.where((offsets < 0) | (offsets > left), _MASKED, 0.0), persistent=False)
        self.offsets: Tensor
        self.outside: Tensor

    def forward(self, frames: Tensor, cache: Tensor, seen: Band) -> tuple[Tensor, Tensor]:
        """Map ``(N, T, D)`` and the keys and values before, ``(N, 2 H, left, D / H)``, to frames and the next cache."""
        batch, length, width = frames.shape
        head_width = width // self.heads
        mixed = self.query_key_value(self.norm(frames))
        mixed = mixed.reshape(batch, length, 3 * self.heads, head_width).transpose(1, 2)
        query, new = torch.split(mixed, [self.heads, 2 * self.heads], dim=1)
        known = torch.cat([cache, new], dim=2)
        key, value = torch.split(known, self.heads, dim=1)
        shape = (batch, self.heads, -1, self.left + GROUP, head_width)
        query = query.index_select(2, seen.queries).reshape(batch, self.heads, -1, GROUP, head_width)
        key = key.index_select(2, seen.keys).reshape(shape)
        value = value.index_select(2, seen.keys).reshape(shape)
        bias = self.offset_bias[:, self.offsets] + self.outside
        scores = query @ key.transpose(3, 4) + bias[:, None] + seen.start
        heard = (scores.softmax(dim=4) @ value).reshape(batch, self.heads, -1, head_width)
        heard = heard[:, :, :length].transpose(1, 2).reshape(batch, length, width)
        return self.dropout(self.project(heard)), known[:, :, length:]


class GatedConvolution(nn.Module):
    """Gated linear unit, depthwise convolution that looks ``right`` frames ahead, SiLU, without the residual."""

    def __init__(self, width: int, kernel: int, right: int, dropout: float) -> None:
        super().__init__()
        self.kernel, self.right = kernel, right
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width, bias=False)
        self.depthwise_norm = nn.BatchNorm1d(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, T, D)`` and the gated frames before it ``(N, D, kernel - 1)`` to ``(N, T, D)`` and the next.

        Output t is about frame ``t - right`` of the step.
        """
        value, gate = self.expand(self.norm(frames)).chunk(2, dim=2)
        gated = (value * gate.sigmoid()).transpose(1, 2)
        padded = torch.cat([cache, gated], dim=2)
        mixed = F.silu(self.depthwise_norm(self.depthwise(padded))).transpose(1, 2)
        return self.dropout(self.project(mixed)), padded[..., frames.shape[1] :]


class ConformerBlock(nn.Module):
    """Half a feed-forward step, attention, convolution, the other half; its output is ``right`` frames late.

    Only the convolution looks ahead. The residual beside it waits as long as the convolution does. Nothing is
    normalised at the end of a block: every part does so at its start, and onnxruntime is slow at it there.
    """

    def __init__(
        self, width: int, *, heads: int, left: int, kernel: int, right: int, expansion: float, dropout: float
    ) -> None:
        super().__init__()
        self.right = right
        self.before = FeedForward(width, expansion, dropout)
        self.attention = BandedAttention(width, heads, left, dropout)
        self.convolution = GatedConvolution(width, kernel, right, dropout)
        self.after = FeedForward(width, expansion, dropout)

    def forward(self, frames: Tensor, states: dict[str, Tensor], seen: Band) -> tuple[Tensor, dict[str, Tensor]]:
        """Map ``(N, T, D)`` to ``(N, T, D)`` and the next states.

        Args:
            frames: the step.
            states: ``attention`` ``(N, 2 H, left, D / H)``, ``convolution`` ``(N, D, kernel - 1)`` and, where the
                block looks ahead, ``residual`` ``(N, right, D)``.
            seen: of ``band``.
        """
        following = {}
        frames = frames + self.before(frames)
        attended, following["attention"] = self.attention(frames, states["attention"], seen)
        frames = frames + attended
        convolved, following["convolution"] = self.convolution(frames, states["convolution"])
        if self.right:
            length = frames.shape[1]
            waiting = torch.cat([states["residual"], frames], dim=1)
            frames, following["residual"] = waiting[:, :length], waiting[:, length:]
        frames = frames + convolved
        return frames + self.after(frames), following
