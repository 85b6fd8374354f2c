"""Sequence-level distillation for CTC, S-CTC (Huang et al., Interspeech 2018): the teacher's soft alignment.

Forward-backward with the teacher's posteriors on the reference says how much each frame belongs to each label. The
student gets that as soft targets: the reference's tokens and blank, no confusions. The paper fine-tunes with plain CTC
at the end; here that is the ``ctc`` loss beside it, with ramps for stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kdcompress.losses.base import Answer, LossConfig
from kdcompress.losses.frames import delay
from kdcompress.occupancy import label_occupancy

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def occupancy_ctc(
    log_probs: Tensor,
    occupancy: Tensor,
    frame_lens: Tensor,
    labels: Tensor,
    label_lens: Tensor,
    *,
    blank_id: int = 0,
    delay_frames: int = 0,
) -> Tensor:
    """``- sum_t [(1 - sum_u g(t,u)) log p_t(blank) + sum_u g(t,u) log p_t(y_u)]``, divided by the valid frames.

    Args:
        log_probs: the student's, ``(N, T, V)``.
        occupancy: g, ``(N, T, U)``, see ``label_occupancy``; no gradient.
        frame_lens: valid frames, ``(N,)`` int64.
        labels: ``(N, U)`` int64.
        label_lens: valid labels, ``(N,)`` int64.
        blank_id: id of the blank.
        delay_frames: student frame ``t + delay_frames`` answers teacher frame t.

    Returns:
        Scalar, float32. An item whose reference the teacher cannot align has no occupancy, and adds nothing.
    """
    student, target, inside = delay(log_probs, occupancy.detach(), frame_lens, delay_frames)
    aligned = (occupancy.sum(dim=(1, 2)) > 0) | (label_lens == 0)
    counted = inside & aligned[:, None]
    student, target = student[counted].float(), target[counted].float()
    tokens = labels[:, None, :].expand(-1, counted.shape[1], -1)[counted]
    spoken = (target * student.gather(1, tokens)).sum()
    silent = ((1 - target.sum(dim=1)).clamp(min=0) * student[:, blank_id]).sum()
    return -(spoken + silent) / frame_lens.sum()


class OccupancyCtcLoss(LossConfig):
    """Cross-entropy to the teacher's soft alignment of the reference."""

    needs_teacher: ClassVar[bool] = True
    learns_from: ClassVar[tuple[Answer, ...]] = ("occupancy", "log_probs")

    kind: Literal["occupancy"] = "occupancy"
    """Selects this loss."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after the teacher."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``occupancy_ctc``."""
        reference = (signals.frame_lens, signals.labels, signals.label_lens)
        occupancy = signals.taught().occupancy
        if occupancy is None:
            occupancy = label_occupancy(signals.posteriors(), *reference, signals.blank_id)
        return occupancy_ctc(
            signals.log_probs, occupancy, *reference, blank_id=signals.blank_id, delay_frames=self.delay_frames
        )
