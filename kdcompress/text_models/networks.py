"""Small language models in torch: a causal LSTM, a causal Transformer, and a Transformer that reads both ways.

What goes in has three marks more than the inventory has units: the sentence mark (``<s>`` and ``</s>``: it begins a
text, and ends it), the mask, and padding. What comes out are the units; of causal networks in training ``</s>``, too.
Input and output share their matrix (Press and Wolf, arXiv 1608.05859).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from kdcompress.text_models.settings import CausalLstmSettings, MaskedTransformerSettings

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.text_models.settings import CausalTransformerSettings, NetworkSettings, TransformerSettings

    AnyNetwork = CausalLstmSettings | CausalTransformerSettings | MaskedTransformerSettings


class TextNetwork(nn.Module, ABC):
    """Base of the three.

    Args:
        num_units: units of the inventory, V; their ids are 0 to V - 1.
        settings: of the recipe.
    """

    reads_both_ways: ClassVar[bool]
    """Whether the state of a place has read what follows it."""
    most_units: int | None = None
    """Units of the longest text that it can read; None: any."""

    def __init__(self, num_units: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.num_units, self.width = num_units, settings.width
        self.sentence, self.mask, self.padding = num_units, num_units + 1, num_units + 2
        """Ids of the marks."""
        self.embedding = nn.Embedding(num_units + 3, settings.width)
        nn.init.normal_(self.embedding.weight, std=settings.width**-0.5)
        # without it the state of a place, which holds its own unit, would first of all predict that unit again
        self.turn = nn.Sequential(nn.Linear(settings.width, settings.width), nn.GELU(), nn.LayerNorm(settings.width))
        self.bias = nn.Parameter(torch.zeros(num_units + 1))
        self.dropout = nn.Dropout(settings.dropout)

    @abstractmethod
    def hidden(self, ids: Tensor, lens: Tensor) -> Tensor:
        """States ``(N, L, D)`` float32 for ids ``(N, L)`` of which ``lens (N,)`` are valid; the rest is padding."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the units, and last of ``</s>``: ``(..., D)`` -> ``(..., V + 1)``."""
        return F.linear(self.turn(hidden), self.embedding.weight[: self.num_units + 1], self.bias)

    def embedded(self, ids: Tensor) -> Tensor:
        """What goes into the first layer, ``(N, L, D)``, of variance about 1."""
        scaled: Tensor = self.embedding(ids) * math.sqrt(self.width)
        return scaled


class CausalLstm(TextNetwork):
    """Layers of long short-term memory (Sundermeyer et al., Interspeech 2012)."""

    reads_both_ways = False

    def __init__(self, num_units: int, settings: CausalLstmSettings) -> None:
        super().__init__(num_units, settings)
        self.layers = nn.ModuleList(
            nn.LSTM(settings.width, settings.width, batch_first=True) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(settings.width)

    def hidden(self, ids: Tensor, lens: Tensor) -> Tensor:  # noqa: ARG002 (padding stands behind: nothing reads it)
        """See ``TextNetwork.hidden``; the state of a place has read it and what precedes it."""
        state = self.dropout(self.embedded(ids))
        for number, layer in enumerate(self.layers):
            read = self.dropout(layer(state)[0])
            state = state + read if number else read
        normed: Tensor = self.norm(state)
        return normed


class Transformer(TextNetwork):
    """Pre-norm Transformer (Vaswani et al., arXiv 1706.03762; Xiong et al., arXiv 2002.04745)."""

    def __init__(self, num_units: int, settings: TransformerSettings) -> None:
        super().__init__(num_units, settings)
        learned = settings.positions == "learned"
        self.positions = nn.Embedding(settings.most_units + 2, settings.width) if learned else None
        self.most_units = settings.most_units if learned else None
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.heads, settings.dropout) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(settings.width)

    def hidden(self, ids: Tensor, lens: Tensor) -> Tensor:
        """See ``TextNetwork.hidden``."""
        length = ids.shape[1]
        if self.positions is not None:
            placed = self.positions(torch.arange(length, device=ids.device))
        else:
            placed = sinusoids(length, self.width, ids.device)
        state = self.dropout(self.embedded(ids) + placed)
        valid = None
        if self.reads_both_ways and bool((lens < length).any()):
            valid = (torch.arange(length, device=ids.device)[None] < lens[:, None])[:, None, None]
        for block in self.blocks:
            state = block(state, valid, causal=not self.reads_both_ways)
        normed: Tensor = self.norm(state)
        return normed


class CausalTransformer(Transformer):
    """Each place sees itself and what precedes it (GPT)."""

    reads_both_ways = False


class MaskedTransformer(Transformer):
    """Each place sees the whole text, of which some units are hidden (BERT, Devlin et al., arXiv 1810.04805)."""

    reads_both_ways = True


class Block(nn.Module):
    """Attention and a feed-forward part, each with its norm before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, valid: Tensor | None, *, causal: bool) -> Tensor:
        """``(N, L, D)`` -> the same; ``valid (N, 1, 1, L)`` says which places may be looked at, None: all."""
        count, length, width = state.shape
        parts = self.into(self.first_norm(state)).view(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=valid, dropout_p=rate, is_causal=causal)
        state = state + self.dropout(self.out(seen.transpose(1, 2).reshape(count, length, width)))
        changed: Tensor = state + self.dropout(self.narrow(F.gelu(self.wide(self.second_norm(state)))))
        return changed


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Positions as sines and cosines of many wave lengths, ``(length, width)`` float32."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(length, device=device)[:, None] * rates[None]
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def build_text_network(settings: AnyNetwork, num_units: int) -> TextNetwork:
    """Build the network of a recipe with fresh weights, from torch's generator."""
    if isinstance(settings, CausalLstmSettings):
        return CausalLstm(num_units, settings)
    if isinstance(settings, MaskedTransformerSettings):
        return MaskedTransformer(num_units, settings)
    return CausalTransformer(num_units, settings)
