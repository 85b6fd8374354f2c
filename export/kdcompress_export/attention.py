"""Attention layers for a graph: what training needs for items of different lengths is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcompress.attention import Attention

if TYPE_CHECKING:
    from kdcompress.network import CtcNetwork


class PlainAttention(nn.Module):
    """``Attention`` in matrix products that a quantizer finds, over items that are all as long as the batch.

    For export only. torch's own layer packs three matrices into one, and its mask is computed and added though it
    hides nothing.
    """

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        packed = layer.attention
        self.heads = packed.num_heads
        self.norm = layer.norm
        weights, biases = packed.in_proj_weight.detach().chunk(3), packed.in_proj_bias.detach().chunk(3)
        scale = (packed.embed_dim // self.heads) ** -0.5
        self.query = _linear(weights[0] * scale, biases[0] * scale)
        self.key, self.value = (_linear(*pair) for pair in zip(weights[1:], biases[1:], strict=True))
        self.output = packed.out_proj

    def forward(self, queries: Tensor, keys: Tensor, padded: Tensor) -> Tensor:  # noqa: ARG002
        """``(N, T, C)`` attends to all of ``(N, U, C)``."""
        asked = self.query(self.norm(queries)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        known = self.key(keys).unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1)
        told = self.value(keys).unflatten(2, (self.heads, -1)).transpose(1, 2)
        heard = torch.softmax(asked @ known, dim=3) @ told
        answer: Tensor = self.output(heard.transpose(1, 2).flatten(2))
        return answer


def replace_attention(network: CtcNetwork) -> CtcNetwork:
    """Replace the attention layers of a network, in place, and return it."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, Attention):
                setattr(parent, name, PlainAttention(layer))
    return network


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
