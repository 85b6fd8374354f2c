"""Essence distillation: only what matters of the teachers' posterior (Yang et al., arXiv 1906.10834).

The paper's procedure is not published in full; here the essence of a frame is its k most probable tokens, or the
smallest set with a given mass, and what happens to the rest is a setting. ``top_k: 1`` is hard labels from the teacher,
all tokens are ordinary frame KL. The hard reference is the ``ctc`` loss beside it (multitask).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.frames import LOG_ZERO, FrameLoss, Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals

NOTHING = -1e4
"""Logarithm of the probability of no token at all: below anything that a student says, and finite."""


def essence_tokens(teacher: Tensor, top_k: int | None = None, mass: float | None = None) -> Tensor:
    """True for the tokens of each frame that are kept; ``(M, V)`` log-probabilities to ``(M, V)`` bool.

    Args:
        teacher: log-probabilities.
        top_k: number of tokens kept.
        mass: keep the fewest tokens that have this much probability together; at least one. With both, the fewer.
    """
    ranked, order = teacher.sort(dim=1, descending=True)
    kept = torch.ones_like(ranked, dtype=torch.bool)
    if top_k is not None:
        kept[:, top_k:] = False
    if mass is not None:
        before = ranked.exp().cumsum(dim=1) - ranked.exp()
        kept &= before < mass
        kept[:, 0] = True
    return torch.zeros_like(kept).scatter(1, order, kept)


def essence_kl(pairs: Pairs, kept: Tensor, renormalise: str, temperature: float = 1.0) -> Tensor:
    """Divergence from the essence of the teacher's distribution to the student's.

    Args:
        pairs: frames that count, see ``pair_frames``.
        kept: tokens that are kept, ``(M, V)`` bool.
        renormalise: ``none``: the kept probabilities as they are, so that a frame weighs as much as it keeps;
            ``prob``: divided by their sum; ``logit``: softmax over the kept log-probabilities at ``temperature``;
            ``tail``: the kept tokens, and one more for all the rest, on both sides.
        temperature: for ``logit``, of the teacher alone.

    Returns:
        Scalar, float32: sum over the pairs divided by their divisor; zero for a student that agrees on the kept tokens.
    """
    teacher, student = pairs.teacher.masked_fill(~kept, LOG_ZERO), pairs.student
    if renormalise == "tail":
        student, teacher = _with_tail(student, kept), _with_tail(pairs.teacher, kept).clamp(min=LOG_ZERO)
    elif renormalise == "prob":
        teacher = teacher - teacher.logsumexp(dim=1, keepdim=True)
    elif renormalise == "logit":
        teacher = (pairs.teacher / temperature).masked_fill(~kept, -torch.inf).log_softmax(dim=1).clamp(min=LOG_ZERO)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / pairs.divisor


def _with_tail(log_probs: Tensor, kept: Tensor) -> Tensor:
    """Kept tokens, and one bin with all the others: ``(M, V + 1)``; the bin of no others is at ``NOTHING``."""
    rest = log_probs.masked_fill(kept, NOTHING).logsumexp(dim=1, keepdim=True)
    return torch.cat([log_probs.masked_fill(~kept, LOG_ZERO), rest], dim=1)


class EssenceLoss(FrameLoss):
    """KL to the essence of the teachers' posterior."""

    kind: Literal["essence"] = "essence"
    """Selects this loss."""
    top_k: int | None = Field(default=None, ge=1)
    """Tokens kept in each frame; none: all."""
    mass: Annotated[float, Field(gt=0, le=1)] | None = None
    """Keep the fewest tokens with this much probability together."""
    renormalise: Literal["none", "prob", "logit", "tail"] = "prob"
    """What becomes of the rest: dropped (``none``), given to the kept tokens (``prob``; ``logit``, softened) or one bin
    of its own (``tail``)."""
    temperature: float = Field(default=1.0, gt=0)
    """For ``logit``: softens the kept tokens."""

    @model_validator(mode="after")
    def _check(self) -> EssenceLoss:
        if self.temperature != 1 and self.renormalise != "logit":
            raise ValueError("essence: temperature is for renormalise logit")
        return self

    def __call__(self, signals: Signals) -> Tensor:
        """See ``essence_kl``."""
        teacher = signals.posteriors()
        pairs = self.pairs(signals.log_probs, teacher, signals.frame_lens, signals.blank_id)
        kept = essence_tokens(pairs.teacher, self.top_k, self.mass)
        return essence_kl(pairs, kept, self.renormalise, self.temperature)
