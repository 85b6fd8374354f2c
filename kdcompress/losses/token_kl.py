"""Token-level distillation: what the teacher takes a label for, over all frames of that label (Mass3 + NTDK).

From the repository miacount/transition-aware-kd (2026, no paper), rebuilt from its formulas. A CTC teacher puts almost
all of its mass on the reference, one frame off from the student: aligned by frames it teaches alignment and nothing
else. So the posteriors are pooled over the frames of each label, *where* and *what* are taken apart, and the classes
that are neither blank nor label get a term of their own. The weights 25 and 8 are those of that repository. The pooled
distributions do not depend on which frame carries the spike, so several teachers can be averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import frame_mask
from kdcompress.losses.base import LossConfig
from kdcompress.losses.frames import LOG_ZERO, delay
from kdcompress.occupancy import label_occupancy, pooled_over_labels

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals

SMALLEST = 1e-35
"""Floor of a probability under a logarithm; exp(LOG_ZERO), about."""


class Pooled(NamedTuple):
    """Labels that count, with a distribution for each side."""

    student: Tensor
    """Probabilities ``(L, V)``, with gradient."""
    teacher: Tensor
    """Probabilities ``(L, V)``, without gradient."""
    targets: Tensor
    """Token of each label, ``(L,)`` int64."""


def pool_labels(
    student: Tensor,
    teacher: Tensor,
    frame_lens: Tensor,
    labels: Tensor,
    label_lens: Tensor,
    *,
    blank_id: int = 0,
    blank_penalty: float = 6.0,
    delay_frames: int = 0,
) -> Pooled:
    """Average the probabilities (not their logarithms) of both sides over the frames that the teacher gives each label.

    Args:
        student: log-probabilities ``(N, T, V)``; those below ``LOG_ZERO`` are held there.
        teacher: log-probabilities ``(N, T, V)``.
        frame_lens: valid frames, ``(N,)`` int64.
        labels: ``(N, U)`` int64.
        label_lens: valid labels, ``(N,)`` int64.
        blank_id: id of the blank.
        blank_penalty: nats taken from the teacher's blank before it is aligned, so that a label gets more frames than
            its spike. What is pooled is the posterior as it was.
        delay_frames: student frame ``t + delay_frames`` answers teacher frame t. Frames without an answer are left out
            on both sides, and a label that loses more than half of its weight with them does not count.

    Returns:
        The labels of all items, without those of items that the teacher cannot align.
    """
    penalty = torch.zeros(teacher.shape[2], device=teacher.device)
    penalty[blank_id] = blank_penalty
    aligned = (teacher.detach().float() - penalty).log_softmax(dim=2)
    occupancy = label_occupancy(aligned, frame_lens, labels, label_lens, blank_id)
    answers, said, inside = delay(student, teacher.detach(), frame_lens, delay_frames)
    weights = occupancy[:, : inside.shape[1]] * inside[:, :, None]
    before, left = occupancy.sum(dim=1), weights.sum(dim=1)
    counted = frame_mask(label_lens, labels.shape[1]) & (before > 0) & (left >= before / 2)

    def pooled(log_probs: Tensor) -> Tensor:
        # padding is replaced before any arithmetic, so that whatever stands there has no gradient either
        held = log_probs.float().masked_fill(~inside[:, :, None], LOG_ZERO).clamp(min=LOG_ZERO)
        return pooled_over_labels(held.exp(), weights)[counted]

    return Pooled(pooled(answers), pooled(said), labels[counted])


def token_kl(pooled: Pooled, *, blank_id: int = 0, mass: float = 25.0, classes: float = 8.0, top_k: int = 32) -> Tensor:
    """``mass * KL(m_teacher || m_student) + classes * KL(r_teacher || r_student)``, averaged over the labels.

    Args:
        pooled: see ``pool_labels``.
        blank_id: id of the blank.
        mass: weight of m, the three probabilities of blank, of the label and of all the rest.
        classes: weight of r, the distribution within that rest.
        top_k: the teacher's most probable tokens of r are compared one by one; the others, if there are any, as one.

    Returns:
        Scalar, float32; zero if no label counts.
    """
    known = torch.stack([torch.full_like(pooled.targets, blank_id), pooled.targets], dim=1)
    others = pooled.teacher.shape[1] - 2
    best = pooled.teacher.scatter(1, known, -1.0).topk(min(top_k, others), dim=1).indices

    def parts(side: Tensor) -> tuple[Tensor, Tensor]:
        rest = side.scatter(1, known, 0.0)
        three = torch.cat([side.gather(1, known), rest.sum(dim=1, keepdim=True)], dim=1)
        return three, _conditional(rest, best, tail=others > top_k)

    (student_mass, student_classes), (teacher_mass, teacher_classes) = parts(pooled.student), parts(pooled.teacher)
    total = mass * _kl(student_mass, teacher_mass) + classes * _kl(student_classes, teacher_classes)
    return total / max(1, len(known))


def _conditional(rest: Tensor, best: Tensor, *, tail: bool) -> Tensor:
    """Distribution over the tokens ``best (L, K)`` and, with ``tail``, all others of ``rest (L, V)`` together."""
    bins = rest.gather(1, best)
    if tail:
        bins = torch.cat([bins, rest.scatter(1, best, 0.0).sum(dim=1, keepdim=True)], dim=1)
    return bins / bins.sum(dim=1, keepdim=True).clamp(min=SMALLEST)


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of KL(teacher || student) over rows of probabilities."""
    return F.kl_div(student.clamp(min=SMALLEST).log(), teacher, reduction="sum")


class TokenKlLoss(LossConfig):
    """KL between posteriors pooled over the frames of each label of the reference."""

    needs_teacher: ClassVar[bool] = True

    kind: Literal["token_kl"] = "token_kl"
    """Selects this loss."""
    mass: float = Field(default=25.0, ge=0)
    """Weight of blank against label against rest."""
    classes: float = Field(default=8.0, ge=0)
    """Weight of the distribution within the rest."""
    blank_penalty: float = Field(default=6.0, ge=0)
    """Nats taken from the teacher's blank before it is aligned: more frames for each label."""
    top_k: int = Field(default=32, ge=1)
    """Tokens of the rest that are compared one by one."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after the teacher."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``token_kl``."""
        pooled = pool_labels(
            signals.log_probs,
            signals.posteriors(),
            signals.frame_lens,
            signals.labels,
            signals.label_lens,
            blank_id=signals.blank_id,
            blank_penalty=self.blank_penalty,
            delay_frames=self.delay_frames,
        )
        return token_kl(pooled, blank_id=signals.blank_id, mass=self.mass, classes=self.classes, top_k=self.top_k)
