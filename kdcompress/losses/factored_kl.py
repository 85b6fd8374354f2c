"""Frame KL in two factors: blank or not, and which token given that it is not (FPKD: Tian et al., Speech Comm. 2024).

``KL = KL_Bernoulli(blank) + (1 - p_teacher(blank)) * KL(non-blank given non-blank)`` exactly. The first term is kept on
every frame, the second only where the teacher's best token is no blank: on blank frames it is noise. The paper's
stages of feature distillation are other losses (``feature_match``) with ramps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.frames import FrameLoss, Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def factored_kl(pairs: Pairs, blank_id: int, blank: float = 1.0, tokens: float = 1.0) -> Tensor:
    """``blank * KL_Bernoulli + tokens * mass * KL(tokens)``, summed over the pairs, divided by their divisor.

    Args:
        pairs: frames that count, see ``pair_frames``.
        blank_id: id of the blank.
        blank: weight of the decision blank or not, on every pair.
        tokens: weight of the choice between tokens, on pairs where the teacher's best token is no blank.

    Returns:
        Scalar, float32.
    """
    others = torch.arange(pairs.student.shape[1], device=pairs.student.device) != blank_id
    decision = F.kl_div(
        _bernoulli(pairs.student, others), _bernoulli(pairs.teacher, others), reduction="sum", log_target=True
    )
    spikes = pairs.teacher.argmax(dim=1) != blank_id
    student = pairs.student[spikes][:, others].log_softmax(dim=1)
    teacher = pairs.teacher[spikes][:, others].log_softmax(dim=1)
    mass = pairs.teacher[spikes][:, others].exp().sum(dim=1)
    choice = (mass * F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)).sum()
    return (blank * decision + tokens * choice) / pairs.divisor


def _bernoulli(log_probs: Tensor, others: Tensor) -> Tensor:
    """Log-probabilities of blank and of anything else, ``(M, 2)``."""
    return torch.stack([log_probs[:, ~others][:, 0], log_probs[:, others].logsumexp(dim=1)], dim=1)


class FactoredKlLoss(FrameLoss):
    """Blank/non-blank factored KL."""

    kind: Literal["factored_kl"] = "factored_kl"
    """Selects this loss."""
    blank: float = Field(default=1.0, ge=0)
    """Weight of the decision between blank and anything else."""
    tokens: float = Field(default=1.0, ge=0)
    """Weight of the choice between tokens, where the teacher says one."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``factored_kl``."""
        teacher = signals.posteriors()
        pairs = self.pairs(signals.log_probs, teacher, signals.frame_lens, signals.blank_id)
        return factored_kl(pairs, signals.blank_id, self.blank, self.tokens)
