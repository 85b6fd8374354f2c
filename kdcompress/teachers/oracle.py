"""Oracle Teacher (Yoon, Kim, Lee, Ahn, Kim; arXiv 2111.03664, TASLP 2023).

A teacher that sees the input *and* the reference text while training. Source frames (queries) attend to the
labels (keys, values); the CTC loss at the source's frame rate makes it find *when* each label is spoken, so it
is not enough to copy *which*. It has seen the answer: its own error rate is no recognition rate and is never
reported as one. ``teachers/leak.py`` tells copying from listening. The paper's architecture is not published
in full: this is the reconstruction of the project's notes, called by the paper's name for what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.attention import Attention, FeedForward, sinusoids
from kdcompress.full_context import FullContextEncoder
from kdcompress.layers import frame_mask
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.model_settings import OracleConfig
    from kdcompress.network import Frontend


class OracleTeacher(CtcNetwork):
    """Source encoder, label embedding, fusion blocks, linear head."""

    def __init__(self, config: OracleConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        width = config.encoder.width
        self.config = config
        self.encoder = FullContextEncoder(config.encoder, frontend, config.subsampling_factor)
        self.mask_id = num_tokens  # a row of its own; blank and padding never reach the keys
        self.embedding = nn.Embedding(num_tokens + 1, width)
        self.label_encoder = nn.ModuleList(
            LabelBlock(width, config.heads, config.encoder.dropout) for _ in range(config.label_self_attention)
        )
        self.fusion = nn.ModuleList(
            FusionBlock(width, config.heads, config.encoder.dropout, self_attention=config.source_self_attention)
            for _ in range(config.fusion_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_tokens)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """The encoder's blocks, which listen, then the fusion blocks, which have seen the labels."""
        return (self.head.in_features,) * (len(self.encoder.blocks) + len(self.fusion))

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:
        """See ``CtcNetwork.outputs``. Labels after ``label_lens`` are never attended to."""
        hidden = list(self.encoder(self.feature_norm(features), frame_lens))
        source = hidden[-1]
        padded_source = ~frame_mask(frame_lens, source.shape[1])
        keys, padded_labels = label_keys(self._masked(labels), label_lens, self.mask_id)
        source, target = placed(source, self.embedding(keys), self.config.positions)
        for block in self.label_encoder:
            target = block(target, padded_labels)
        for block in self.fusion:
            source = block(source, padded_source, target, padded_labels)
            hidden.append(source)
        return Outputs(self.head(self.norm(source)).float().log_softmax(dim=2), tuple(hidden))

    def _masked(self, labels: Tensor) -> Tensor:
        """In training, hide a share of the labels, so that the teacher leans on the input."""
        return hide_labels(labels, self.config.label_mask_prob if self.training else 0.0, self.mask_id)


def hide_labels(labels: Tensor, share: float, mask_id: int) -> Tensor:
    """Replace a share of the labels by ``<mask>``."""
    if not share:
        return labels
    return labels.masked_fill(torch.rand(labels.shape, device=labels.device) < share, mask_id)


def label_keys(labels: Tensor, label_lens: Tensor, mask_id: int) -> tuple[Tensor, Tensor]:
    """Ids that frames attend to, ``(N, U + 1)``, and where they are padding (True)."""
    # one key that is always there: with an empty reference softmax over no key would be NaN
    keys = F.pad(labels, (1, 0), value=mask_id)
    return keys, ~frame_mask(label_lens + 1, keys.shape[1])


def placed(source: Tensor, target: Tensor, positions: str) -> tuple[Tensor, Tensor]:
    """Add sinusoidal positions to the frames, the labels, both or none; ``(N, T, C)`` and ``(N, U, C)``."""
    if positions in {"source", "both"}:
        source = source + sinusoids(source.shape[1], source.shape[2]).to(source)
    if positions in {"target", "both"}:
        target = target + sinusoids(target.shape[1], target.shape[2]).to(target)
    return source, target


class FusionBlock(nn.Module):
    """Pre-norm: (self-attention over source frames,) cross-attention to the labels, feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float, *, self_attention: bool) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout) if self_attention else None
        self.cross_attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, source: Tensor, padded_source: Tensor, target: Tensor, padded_target: Tensor) -> Tensor:
        """Source ``(N, T, C)`` asks target ``(N, U, C)``; True in a padding mask is left out."""
        if self.self_attention is not None:
            source = source + self.self_attention(source, source, padded_source)
        source = source + self.cross_attention(source, target, padded_target)
        fused: Tensor = source + self.feed_forward(source)
        return fused


class LabelBlock(nn.Module):
    """Pre-norm self-attention over the labels (no causal mask: the whole reference is visible)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, target: Tensor, padded: Tensor) -> Tensor:
        """``(N, U, C)`` to the same shape."""
        target = target + self.attention(target, target, padded)
        encoded: Tensor = target + self.feed_forward(target)
        return encoded
