"""Frame-level distillation: KL from the teacher's to the student's distribution, frame by frame.

Blank handling after Hilmes, Rossenbach, Schlueter, "On the Relevance of Blanks in CTC knowledge distillation"
(Interspeech 2025, arXiv 2506.01503). Padding never counts, and a selection never wraps around or crosses items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import frame_mask

if TYPE_CHECKING:
    from torch import Tensor


LOG_ZERO = -80.0
"""Floor of a teacher's log-probability: zero times minus infinity would be NaN."""


def frame_kl(
    student: Tensor,
    teacher: Tensor,
    frame_lens: Tensor,
    *,
    temperature: float = 1.0,
    frames: str = "all",
    context: int = 2,
    delay_frames: int = 0,
    blank_id: int = 0,
) -> Tensor:
    """``T^2 * sum over selected t of KL(teacher_t || student_{t + delay})`` / number of valid frames.

    The divisor is the number of *all* valid frames, also when a selection drops most of them: on a dropped
    blank frame the divergence is near zero anyway, so the weight of the loss means the same for every selection.

    Args:
        student: log-probabilities ``(N, T, V)``; gradient flows here.
        teacher: log-probabilities ``(N, T, V)``, the same frames and tokens; no gradient.
        frame_lens: valid frames, ``(N,)`` int64.
        temperature: both distributions are softened by it.
        frames: key of ``FRAME_SELECTIONS``.
        context: frames on each side for ``symmetric``.
        delay_frames: the student answers this many frames after the teacher.
        blank_id: id of the blank.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the shapes differ.
        KeyError: ``frames`` is no selection.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in frames or tokens"
        )
    teacher = teacher.detach().float()
    valid = frame_mask(frame_lens, teacher.shape[1])
    selected = FRAME_SELECTIONS[frames](teacher.argmax(dim=2) != blank_id, valid, context)
    if delay_frames:
        student, teacher, selected = student[:, delay_frames:], teacher[:, :-delay_frames], selected[:, :-delay_frames]
        selected = selected & valid[:, delay_frames:]
    # frames that do not count are left out before any arithmetic: whatever stands there has no gradient either
    log_student = (student[selected].float() / temperature).log_softmax(dim=1)
    log_teacher = (teacher[selected].clamp(min=LOG_ZERO) / temperature).log_softmax(dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return temperature**2 * divergence / valid.sum()


def select_all(spikes: Tensor, valid: Tensor, context: int) -> Tensor:  # noqa: ARG001
    """Every valid frame."""
    return valid


def select_nonblank(spikes: Tensor, valid: Tensor, context: int) -> Tensor:  # noqa: ARG001
    """Blank elimination: frames where the teacher's best token is no blank."""
    return spikes & valid


def select_symmetric(spikes: Tensor, valid: Tensor, context: int) -> Tensor:
    """These, and ``context`` frames on each side."""
    inside = (spikes & valid).float()[:, None, :]
    reached = F.max_pool1d(inside, 2 * context + 1, stride=1, padding=context)[:, 0] > 0
    return torch.logical_and(reached, valid)


FRAME_SELECTIONS = {"all": select_all, "nonblank": select_nonblank, "symmetric": select_symmetric}
"""Which frames count, by the name a recipe uses: ``(spikes (N, T), valid (N, T), context) -> (N, T)`` bool."""
