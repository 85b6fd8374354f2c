"""Representation transfer: a block of the student, pooled to a vector a unit, learns a language model's states.

Deng et al., "Improving CTC-based speech recognition via knowledge transferring from pre-trained language models"
(ICASSP 2022, arXiv 2203.03582), read at second hand: continuous integrate-and-fire (CIF, Dong and Xu, arXiv 1905.11235)
or attention with positions as queries; cosine distance to the states of a masked model. CIF and cosine won there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import frame_mask
from kdcompress.losses.base import Head, Shapes, Signals
from kdcompress.losses.unit_targets import TextLoss

if TYPE_CHECKING:
    from kdcompress.network import Outputs


class PoolingHead(Head):
    """For each frame its weight (or its key) and its vector in the width of the states."""

    def __init__(self, layer: int, dim: int, key_dim: int, state_dim: int) -> None:
        super().__init__()
        self.layer = layer
        self.projection = nn.Linear(dim, key_dim + state_dim)

    def forward(self, outputs: Outputs, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:  # noqa: ARG002
        """Keys and vectors side by side, ``(N, T, key_dim + state_dim)`` float32."""
        said: Tensor = self.projection(outputs.hidden[self.layer])
        return said.float()


def integrate_and_fire(weights: Tensor, vectors: Tensor, unit_lens: Tensor, units: int) -> Tensor:
    """Cut the running sum of the frames' weights into pieces of one, and sum the vectors within each.

    Args:
        weights: positive, zero in padding, ``(N, T)``; scaled here so that each item has as much as it has units.
        vectors: ``(N, T, D)``.
        unit_lens: units of each item, ``(N,)`` int64.
        units: the most of them.

    Returns:
        ``(N, units, D)``.
    """
    total = weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    end = (weights * (unit_lens[:, None] / total)).cumsum(dim=1)
    begin = F.pad(end[:, :-1], (1, 0))
    place = torch.arange(units, device=weights.device, dtype=weights.dtype)
    inside = torch.minimum(end[:, None], place[:, None] + 1) - torch.maximum(begin[:, None], place[:, None])
    return inside.clamp(min=0) @ vectors


def attend(keys: Tensor, vectors: Tensor, frame_lens: Tensor, units: int) -> Tensor:
    """Attend from the position of each unit (sinusoids, Vaswani et al., arXiv 1706.03762) to the frames.

    Args:
        keys: ``(N, T, K)``; K even.
        vectors: ``(N, T, D)``.
        frame_lens: valid frames, ``(N,)`` int64; others get nothing.
        units: positions.

    Returns:
        ``(N, units, D)``.
    """
    half = keys.shape[2] // 2
    rates = torch.exp(torch.arange(half, device=keys.device) * (-math.log(10000.0) / half))
    angles = torch.arange(units, device=keys.device)[:, None] * rates
    queries = torch.cat([angles.sin(), angles.cos()], dim=1)
    scores = torch.einsum("uk,ntk->nut", queries, keys) / math.sqrt(2 * half)
    valid = frame_mask(frame_lens, keys.shape[1])
    return scores.masked_fill(~valid[:, None], -1e9).softmax(dim=2) @ vectors


class RepresentationLoss(TextLoss):
    """Cosine distance (zero to two) of each pooled vector to the state at its unit, averaged over the units.

    With CIF plus ``quantity`` times the share by which the sum of the weights misses the number of units.
    """

    kind: Literal["representation"] = "representation"
    """Selects this loss."""
    layer: int = -1
    """Block that is pooled, from 0; negative ones count from the end."""
    pooling: Literal["cif", "attention"] = "cif"
    """How frames become units."""
    quantity: float = Field(default=0.1, ge=0)
    """Weight of the number of units; ``cif`` alone."""
    key_dim: int = Field(default=32, ge=2, multiple_of=2)
    """Width of the keys; ``attention`` alone."""

    def head(self, shapes: Shapes) -> Head:
        """One linear layer; a frame has one weight, or a key.

        Raises:
            ValueError: the language model shows no states.
        """
        state_dim = shapes.texts[self.lm].state_dim
        if not state_dim:
            raise ValueError(f"language model {self.lm!r} shows no states; take a network, or store label.states")
        key_dim = 1 if self.pooling == "cif" else self.key_dim
        return PoolingHead(self.layer, shapes.hidden_dims[self.layer], key_dim, state_dim)

    def __call__(self, signals: Signals) -> Tensor:
        """See the class."""
        targets, lens, said = self.targets(signals), signals.frame_lens, signals.from_head()
        if targets.states is None:
            raise ValueError("this loss needs the states of a language model")
        units, valid = targets.units.shape[1], frame_mask(lens, said.shape[1])
        counted = frame_mask(targets.unit_lens, units)
        missed = said.new_zeros(())
        if self.pooling == "cif":
            weights = said[:, :, 0].sigmoid() * valid
            pooled = integrate_and_fire(weights, said[:, :, 1:], targets.unit_lens, units)
            short = weights.sum(dim=1) - targets.unit_lens
            missed = (short.abs() / targets.unit_lens.clamp(min=1)).mean()
        else:
            pooled = attend(said[:, :, : self.key_dim], said[:, :, self.key_dim :], lens, units)
        distance = 1 - F.cosine_similarity(pooled[counted], targets.states[counted], dim=1)
        return distance.sum() / counted.sum().clamp(min=1) + self.quantity * missed
