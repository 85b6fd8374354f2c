"""Source sentences: their settings, and the frontend that makes room for a translation longer than its source.

A source token is an input unit. CTC gives at most one token a frame, so each is repeated ``upsampling`` times
(Libovicky and Helcl, arXiv 1811.04719); features are ids, which the network embeds itself.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from kdcompress.network import Frontend
from kdcompress.settings import Settings
from kdcompress_runtime.bundle import InputSpec

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.recipe import AugmentConfig
    from kdcompress_runtime.bundle import StateSpec

INPUT_NAME = "tokens"


class TokensConfig(Settings):
    """Source sentences: how they become ids."""

    task: ClassVar[Literal["translation"]] = "translation"
    measure: ClassVar[str] = "tokens"
    longest: ClassVar[float] = 200.0
    counted_by: ClassVar[tuple[str, ...]] = ("symbols",)
    augments: ClassVar[frozenset[str]] = frozenset({"spec"})

    kind: Literal["tokens"] = "tokens"
    """The frontend for sentences."""
    subwords: int = Field(default=2000, ge=3)
    """How many symbols of source sentences are learned (byte-pair encoding), two of them for what is hidden and what
    is unknown."""
    joint: bool = False
    """Learn one table from sources and targets together, for languages that share words; the tokens of the output are
    learned from targets alone in any case."""
    upsampling: int = Field(default=3, ge=1, le=16)
    """Output frames for one source token: 2 or 3, so that a translation may be longer than its source."""
    symbols: str | None = None
    """The table, symbols separated by spaces. Left out: that of the first teacher, else learned from ``data.train``;
    the recipe in the folder of a run holds it."""

    @property
    def sample_rate(self) -> None:
        """None: these are no audio."""
        return

    @property
    def units_per_second(self) -> float:
        """Input units (source tokens) in a unit of length, which is a token."""
        return 1.0

    def grown(self, augment: AugmentConfig, units: int) -> int:
        """Return ``units``: sentences do not grow."""
        del augment
        return units

    def exact_shift(self) -> Fraction:
        """Return the input time between features: a part of a token."""
        return Fraction(1, self.upsampling)

    def table(self) -> tuple[str, ...]:
        """Symbols by id.

        Raises:
            ValueError: nobody has filled the table in yet.
        """
        if self.symbols is None:
            raise ValueError("frontend.symbols is empty until the training data are looked at")
        return tuple(self.symbols.split(" "))


class TokenFrontend(Frontend):
    """Ids ``(N, S)`` to features ``(N, S * upsampling, 1)``: each id repeated, float32; no state, no delay."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_dim = 1
        self.units_per_feature = 1
        self.features_per_unit = config.upsampling
        self.symbols = len(config.table())

    def input_spec(self, subsampling_factor: int) -> InputSpec:
        """Describe the graph's input: int64 ids."""
        del subsampling_factor
        return InputSpec("tokens", INPUT_NAME, 1, frames_per_unit=self.features_per_unit)

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Return no state."""
        return ()

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Repeat ids ``(N, S)``, integer or float."""
        del states
        return self(inputs), {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Repeat ids ``(N, S)``; float32 holds them exactly."""
        return inputs.float()[:, :, None].expand(-1, -1, self.features_per_unit).flatten(1)[:, :, None]

    def noise_like(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return words that say nothing: for each source token one drawn from all of the batch."""
        batch, length, _ = features.shape
        tokens = features[:, :: self.features_per_unit, 0]
        there = tokens[tokens != 0]
        drawn = there[torch.randint(len(there), tokens.shape, generator=generator).to(features.device)]
        return drawn.repeat_interleave(self.features_per_unit, dim=1)[:, :length].reshape(batch, length, 1)
