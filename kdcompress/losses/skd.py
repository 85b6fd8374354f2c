"""Softmax-level distillation by the squared distance of probabilities (TutorNet: Yoon et al., arXiv 2008.00671).

The bounded distance is chosen because KL is unstable where a teacher's posterior is a spike. The paper was not read
in full; the formula is the one given by later work, frames and normalisation are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from kdcompress.losses.frames import FrameLoss, Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def skd(pairs: Pairs, temperature: float = 1.0) -> Tensor:
    """``sum of ||softmax(teacher / T) - softmax(student / T)||^2`` over the pairs, divided by their divisor; scalar."""
    student = (pairs.student / temperature).softmax(dim=1)
    teacher = (pairs.teacher / temperature).softmax(dim=1)
    return (student - teacher).square().sum() / pairs.divisor


class SkdLoss(FrameLoss):
    """L2 between probabilities."""

    kind: Literal["skd"] = "skd"
    """Selects this loss."""
    temperature: float = Field(default=1.0, gt=0)
    """Softens both sides."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``skd``."""
        teacher = signals.posteriors()
        pairs = self.pairs(signals.log_probs, teacher, signals.frame_lens, signals.blank_id)
        return skd(pairs, self.temperature)
