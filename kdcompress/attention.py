"""Attention over whole inputs: blocks that the Oracle Teacher and full-context encoders share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Layer-normed queries, multi-head attention, dropout."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor, padded: Tensor) -> Tensor:
        """``(N, T, C)`` attends to ``(N, U, C)``; ``padded (N, U)`` is True where a key is left out."""
        attended, _ = self.attention(self.norm(queries), keys, keys, key_padding_mask=padded, need_weights=False)
        dropped: Tensor = self.dropout(attended)
        return dropped


class FeedForward(nn.Sequential):
    """Layer norm, four times the width, ReLU, back."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )


class AttentionBlock(nn.Module):
    """Pre-norm: self-attention over everything that is there, feed-forward (Vaswani et al., arXiv 1706.03762)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, frames: Tensor, padded: Tensor) -> Tensor:
        """``(N, T, C)`` to the same shape; ``padded (N, T)`` is True where nothing is."""
        frames = frames + self.attention(frames, frames, padded)
        mapped: Tensor = frames + self.feed_forward(frames)
        return mapped


def sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions ``(length, width)``, float32 (Vaswani et al., arXiv 1706.03762)."""
    positions = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(positions * rates), torch.cos(positions * rates)], dim=2).flatten(1)[:, :width]
