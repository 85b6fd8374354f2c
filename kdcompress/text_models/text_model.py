"""What a language model is to distillation: for every unit of a text a distribution, from the units around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from kdcompress.units.inventory import Inventory


class Scores(NamedTuple):
    """What a model says of one text of U units; no gradient, on the CPU."""

    log_probs: Tensor
    """Ln P(unit | context) over all units of the inventory (nothing else: they sum to one), ``(U, V)`` float32."""
    states: Tensor | None = None
    """State of the model at each unit (which it has read, unless it is causal), ``(U, D)`` float32; of networks."""


class TextModel(ABC):
    """A language model over an inventory of units."""

    source: Path
    """Where it was read, for messages."""
    name: str
    """Short name, for reports."""
    kind: str
    """``ngram``, ``causal_lstm``, ``causal_transformer``, ``masked_transformer``, ``hugging_face``."""
    fingerprint: str
    """SHA-256 in hexadecimal over weights, units, and whatever else decides its answers."""
    inventory: Inventory
    """What it predicts."""
    reads_both_ways: bool
    """Whether the context of a unit holds what follows it: P(unit | all others). False: what precedes it."""
    state_dim: int = 0
    """Width of ``Scores.states``; 0: it shows none."""

    @abstractmethod
    def score(self, texts: Sequence[Sequence[int]]) -> list[Scores]:
        """Score texts of unit ids, as many at once as are given; an empty text has empty scores.

        The unit itself never is in its context: a masked model hides each in its turn.
        """

    def to(self, device: torch.device) -> None:  # noqa: B027 (most need nothing)
        """Move to ``device`` whatever is computed with torch."""
