"""Hidden representations: a block of the student, projected, imitates a block of the teacher.

TutorNet's representation distillation (Yoon et al., TASLP 2021, arXiv 2008.00671): squared distance, frames weighted by
the teacher's non-blank probability; CARL (Tian et al., Interspeech 2022): cosine distance. Both have it as the first
stage, before anything else: ``weight: 0`` with ``ramp: {initial: 1, start: 0.2, end: 0.2}`` is one. The papers were not
read in full; CARL's second stage, the student's features through the teacher's classifier, is not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.base import Answer, Head, LossConfig, Shapes, Signals
from kdcompress.losses.frames import delay
from kdcompress.losses.projection import Projection

if TYPE_CHECKING:
    from torch import Tensor


def feature_match(
    student: Tensor,
    teacher: Tensor,
    frame_lens: Tensor,
    *,
    frame_weights: Tensor | None = None,
    distance: str = "mse",
    delay_frames: int = 0,
) -> Tensor:
    """``sum over t of w_t * distance(student_t, teacher_t)``, divided by the number of valid frames.

    Args:
        student: projected to the teacher's width, ``(N, T, D)``.
        teacher: ``(N, T, D)``; no gradient.
        frame_lens: valid frames, ``(N,)`` int64.
        frame_weights: w by the teacher's frame, ``(N, T)``; all ones when left out.
        distance: ``mse``, averaged over the D channels, or ``cosine``, one minus the cosine.
        delay_frames: student frame ``t + delay_frames`` answers teacher frame t.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the widths differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ")
    mine, target, inside = delay(student, teacher.detach(), frame_lens, delay_frames)
    mine, target = mine[inside].float(), target[inside].float()
    if distance == "cosine":
        distances = 1 - F.cosine_similarity(mine, target, dim=1, eps=1e-6)
    else:
        distances = (mine - target).square().mean(dim=1)
    if frame_weights is not None:
        distances = distances * frame_weights[:, : inside.shape[1]][inside]
    return distances.sum() / frame_lens.sum()


class FeatureMatchLoss(LossConfig):
    """Distance between hidden representations."""

    needs_teacher: ClassVar[bool] = True
    learns_from: ClassVar[tuple[Answer, ...]] = ("hidden",)

    kind: Literal["feature_match"] = "feature_match"
    """Selects this loss."""
    student_layer: int = -1
    """Block of the student, from 0; negative ones count from the end."""
    teacher_layer: int = -1
    """Block of the teacher, in the same way."""
    distance: Literal["mse", "cosine"] = "mse"
    """Squared distance, averaged over channels, or one minus the cosine, which does not see the scale."""
    frame_weights: Literal["uniform", "nonblank"] = "uniform"
    """All frames alike, or by the teacher's probability that they are no blank."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after the teacher."""

    def head(self, shapes: Shapes) -> Head:
        """Linear, from the student's width to the teacher's."""
        width, theirs = shapes.hidden_dims[self.student_layer], shapes.teacher_hidden_dims[self.teacher_layer]
        return Projection(self.student_layer, width, theirs)

    def __call__(self, signals: Signals) -> Tensor:
        """See ``feature_match``."""
        teacher = signals.taught()
        weights = None
        if self.frame_weights == "nonblank":
            weights = 1 - teacher.posteriors()[:, :, signals.blank_id].detach().float().exp()
        return feature_match(
            signals.from_head(),
            teacher.hidden[self.teacher_layer],
            signals.frame_lens,
            frame_weights=weights,
            distance=self.distance,
            delay_frames=self.delay_frames,
        )
