"""Kinds of language models that are trained here, and their sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kdcompress.settings import Settings


class NgramSettings(Settings):
    """Interpolated modified Kneser-Ney n-grams (``kdcompress.lm``)."""

    kind: Literal["ngram"]
    """What comes next, from counts."""
    order: int = Field(default=5, ge=1, le=6)
    """Length of the longest n-grams."""


class NetworkSettings(Settings):
    """What all networks have."""

    width: int = Field(default=128, ge=4)
    """Size of a state."""
    depth: int = Field(default=3, ge=1)
    """Layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of activations set to zero in training."""


class CausalLstmSettings(NetworkSettings):
    """Long short-term memory; reads a text once, from left to right."""

    kind: Literal["causal_lstm"]
    """What comes next, from all that precedes."""
    width: int = Field(default=192, ge=4)
    """Size of a state."""
    depth: int = Field(default=2, ge=1)
    """Layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of activations set to zero in training."""


class TransformerSettings(NetworkSettings):
    """What both Transformers have."""

    heads: int = Field(default=4, ge=1)
    """Attention heads; they divide ``width``."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """How places are told apart; learned ones end at ``most_units``."""
    most_units: int = Field(default=512, ge=2)
    """Units of the longest text with learned positions."""

    @model_validator(mode="after")
    def _check(self) -> TransformerSettings:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, and {self.heads} does not divide {self.width}")
        return self


class CausalTransformerSettings(TransformerSettings):
    """Attention to what precedes."""

    kind: Literal["causal_transformer"]
    """What comes next, from all that precedes."""


class MaskedTransformerSettings(TransformerSettings):
    """Attention to the whole text."""

    kind: Literal["masked_transformer"]
    """What stands here, from all others."""
    hidden_share: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0, lt=1)]] = (0.15, 0.4)
    """Share of the units of a text that are hidden in training, drawn evenly between the two."""

    @model_validator(mode="after")
    def _check_share(self) -> MaskedTransformerSettings:
        if self.hidden_share[0] > self.hidden_share[1]:
            raise ValueError(f"hidden_share runs from low to high, found {list(self.hidden_share)}")
        return self


TextModelSettings = Annotated[
    NgramSettings | CausalLstmSettings | CausalTransformerSettings | MaskedTransformerSettings,
    Field(discriminator="kind"),
]
"""Any of them, by ``kind``."""
