"""Frame-level distillation: KL from the teacher's to the student's distribution, frame by frame.

Hinton, Vinyals, Dean, arXiv 1503.02531; for CTC, and its blanks, Hilmes et al., arXiv 2506.01503.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.frames import FrameLoss, Pairs
from kdcompress.losses.nbest import nbest

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def frame_kl(pairs: Pairs, temperature: float = 1.0) -> Tensor:
    """``T^2 * sum of KL(teacher_t || student_t)`` over the pairs, divided by their divisor.

    Args:
        pairs: frames that count, see ``pair_frames``.
        temperature: both distributions are softened by it; the gradient is scaled back by its square.

    Returns:
        Scalar, float32.
    """
    student = (pairs.student / temperature).log_softmax(dim=1)
    teacher = (pairs.teacher / temperature).log_softmax(dim=1)
    divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return temperature**2 * divergence / pairs.divisor


class FrameKlLoss(FrameLoss):
    """Frame KL: the plain way to distil."""

    kind: Literal["frame_kl"] = "frame_kl"
    """Selects this loss."""
    temperature: float = Field(default=1.0, gt=0)
    """Softens both sides; the gradient is scaled back by its square."""

    suit_teacher: bool = False
    """Whether ``delay_frames`` is chosen by the kind of teacher and the student's look-ahead (``docs/methods.md``), and
    a teacher that gives texts alone is learned from by CTC on these."""

    @model_validator(mode="after")
    def _check(self) -> FrameKlLoss:
        if self.suit_teacher and self.delay_frames:
            raise ValueError(
                "frame_kl: suit_teacher chooses the delay; remove delay_frames, or set suit_teacher to false"
            )
        return self

    def __call__(self, signals: Signals) -> Tensor:
        """See ``frame_kl``."""
        teacher = signals.taught()
        delay = teacher.wait_frames if self.suit_teacher else self.delay_frames
        if self.suit_teacher and teacher.log_probs is None and teacher.hypotheses is not None:
            return nbest(signals.log_probs, signals.frame_lens, teacher.hypotheses, signals.blank_id)
        pairs = self.pairs(signals.log_probs, teacher.posteriors(), signals.frame_lens, signals.blank_id, delay)
        return frame_kl(pairs, self.temperature)
