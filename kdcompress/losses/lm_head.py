"""Auxiliary heads that language models teach, each in its own unit and at its own block; gone after training.

Lee and Chang, arXiv 2110.10429: "multiple auxiliary output layers for cross-modal distillation", hierarchical with
senones, monophones and subwords, against label interpolation, which asks two inconsistent things of one output layer.
The full paper was not at hand: where the heads sit, and how a target gets to its frames, are settings here. ``hard``
and ``ctc`` teach the same units without any language model: the controls that tell what the units alone are worth.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.base import Head, Shapes, Signals
from kdcompress.losses.ctc import ctc
from kdcompress.losses.unit_targets import (
    Placement,
    TextLoss,
    cross_entropy,
    entropy,
    path_frames,
    placed,
)

if TYPE_CHECKING:
    from kdcompress.losses.base import UnitTargets
    from kdcompress.network import Outputs


class UnitHead(Head):
    """A linear layer over units, and blank as the last, on one block."""

    def __init__(self, layer: int, dim: int, num_units: int) -> None:
        super().__init__()
        self.layer = layer
        self.projection = nn.Linear(dim, num_units + 1)

    def forward(self, outputs: Outputs, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:  # noqa: ARG002
        """Logits ``(N, T, units + 1)`` float32."""
        logits: Tensor = self.projection(outputs.hidden[self.layer])
        return logits.float()


class LmHeadLoss(TextLoss):
    """``soft * KL(language model || head) + hard * cross-entropy(unit) + ctc * CTC(units)``.

    KL and cross-entropy are over the units alone, summed over the frames of units, divided by all valid frames.
    """

    kind: Literal["lm_head"] = "lm_head"
    """Selects this loss."""
    layer: int = -1
    """Block with the head, from 0; negative ones count from the end."""
    soft: float = Field(default=1.0, ge=0)
    """Weight of what the language model says."""
    hard: float = Field(default=0.0, ge=0)
    """Weight of the units that the text really has."""
    ctc: float = Field(default=0.0, ge=0)
    """Weight of CTC on these; needed for ``placement: path``."""
    placement: Placement = "alignment"
    """Where the units are: in ``distill.alignment``, or on the best path of this head's own CTC."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the language model's distributions; above 1 they are flatter."""

    @model_validator(mode="after")
    def _check(self) -> LmHeadLoss:
        if not (self.soft or self.hard or self.ctc):
            raise ValueError(f"{self.kind}: with soft, hard and ctc all zero, nothing trains the head")
        if self.placement == "path" and not self.ctc:
            raise ValueError(f"{self.kind}: placement path is the best path of the head's own CTC; set ctc above zero")
        return self

    @property
    def needs_alignment(self) -> bool:
        """See ``LossConfig.needs_alignment``."""
        return self.placement == "alignment" and bool(self.soft or self.hard)

    def head(self, shapes: Shapes) -> Head:
        """One linear layer."""
        return UnitHead(self.layer, shapes.hidden_dims[self.layer], shapes.texts[self.lm].num_units)

    def __call__(self, signals: Signals) -> Tensor:
        """See the class."""
        logits, targets, lens = signals.from_head(), self.targets(signals, self.temperature), signals.frame_lens
        value = logits.new_zeros(())
        if self.ctc:
            said = logits.log_softmax(dim=2)
            value = value + self.ctc * ctc(said, lens, targets.units, targets.unit_lens, targets.num_units)
        if self.soft or self.hard:
            value = value + self._of_frames(logits, targets, signals) / lens.sum()
        return value

    def _of_frames(self, logits: Tensor, targets: UnitTargets, signals: Signals) -> Tensor:
        """Sum over the frames of units."""
        frames = targets.frames
        if self.placement == "path" or frames is None:
            own = _as_tokens(targets)
            frames = path_frames(logits.log_softmax(dim=2), signals.frame_lens, own, targets.num_units)
        at = placed(targets, frames, signals.frame_lens, self.delay_frames)
        said = logits[at.where][:, : targets.num_units].log_softmax(dim=1)
        value = logits.new_zeros(())
        if self.soft:
            complete = at.ids.shape[1] >= targets.num_units
            value = (
                value
                + self.soft
                * (cross_entropy(said, at.ids, at.log_probs) - entropy(at.log_probs, complete=complete)).sum()
            )
        if self.hard:
            value = value + self.hard * F.nll_loss(said, at.truth, reduction="sum")
        return value


def _as_tokens(targets: UnitTargets) -> UnitTargets:
    """Units as tokens of their own head."""
    return replace(targets, tokens=torch.arange(targets.num_units, device=targets.units.device))
