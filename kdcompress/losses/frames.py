"""What all frame-level losses share: which frames count, which student frame answers which teacher frame, divisor.

Blank handling after Hilmes, Rossenbach, Schlueter, "On the Relevance of Blanks in CTC knowledge distillation"
(Interspeech 2025, arXiv 2506.01503). Padding never counts, and a selection never wraps around or crosses items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import frame_mask
from kdcompress.losses.base import LossConfig

if TYPE_CHECKING:
    from torch import Tensor

LOG_ZERO = -80.0
"""Floor of a log-probability of a target: zero times minus infinity would be NaN."""


class Pairs(NamedTuple):
    """Frames that count, side by side."""

    student: Tensor
    """Log-probabilities ``(M, V)``, with gradient."""
    teacher: Tensor
    """Log-probabilities ``(M, V)`` float32, at least ``LOG_ZERO``, without gradient."""
    divisor: Tensor
    """What a sum over the frames is divided by; scalar."""


class Chosen(NamedTuple):
    """Which frames of a padded batch count."""

    valid: Tensor
    """Frames inside their item, ``(N, T)`` bool."""
    selected: Tensor
    """Those of them that count, ``(N, T)`` bool."""
    divisor: Tensor
    """What a sum over these is divided by; scalar."""


def choose_frames(
    teacher: Tensor,
    frame_lens: Tensor,
    *,
    frames: str = "all",
    context: int = 2,
    threshold: float = 0.1,
    normalise: str = "all_frames",
    blank_id: int = 0,
) -> Chosen:
    """Choose frames by what the teacher says in them; arguments as in ``pair_frames``."""
    valid = frame_mask(frame_lens, teacher.shape[1])
    selected = FRAME_SELECTIONS[frames](teacher, valid, blank_id, context, threshold)
    divisor = {
        "all_frames": valid.sum(),
        "selected_frames": selected.sum().clamp(min=1),
        "utterances": torch.as_tensor(len(frame_lens), device=valid.device),
    }[normalise]
    return Chosen(valid, selected, divisor)


def pair_frames(
    student: Tensor,
    teacher: Tensor,
    frame_lens: Tensor,
    *,
    frames: str = "all",
    context: int = 2,
    threshold: float = 0.1,
    delay_frames: int = 0,
    normalise: str = "all_frames",
    blank_id: int = 0,
) -> Pairs:
    """Take the frames that count out of the padded batch.

    Args:
        student: log-probabilities ``(N, T, V)``.
        teacher: log-probabilities ``(N, T, V)``, the same frames and tokens.
        frame_lens: valid frames, ``(N,)`` int64.
        frames: key of ``FRAME_SELECTIONS``.
        context: frames on each side for ``symmetric``.
        threshold: least non-blank probability for ``threshold``.
        delay_frames: student frame ``t + delay_frames`` answers teacher frame t.
        normalise: ``all_frames``, ``selected_frames`` or ``utterances``.
        blank_id: id of the blank.

    Raises:
        ValueError: the shapes differ.
        KeyError: ``frames`` or ``normalise`` is unknown.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ in frames or tokens"
        )
    teacher = teacher.detach().float().clamp(min=LOG_ZERO)
    chosen = choose_frames(
        teacher,
        frame_lens,
        frames=frames,
        context=context,
        threshold=threshold,
        normalise=normalise,
        blank_id=blank_id,
    )
    selected = chosen.selected
    if delay_frames:
        student, teacher, inside = delay(student, teacher, frame_lens, delay_frames)
        selected = selected[:, : inside.shape[1]] & inside
    # frames that do not count are left out before any arithmetic: whatever stands there has no gradient either
    return Pairs(student[selected].float(), teacher[selected], chosen.divisor)


def delay(student: Tensor, teacher: Tensor, frame_lens: Tensor, delay_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Put student frame ``t + delay_frames`` beside teacher frame t.

    Args:
        student: ``(N, T, ...)``.
        teacher: ``(N, T, ...)``.
        frame_lens: valid frames, ``(N,)`` int64.
        delay_frames: zero or more.

    Returns:
        Student ``(N, T', ...)`` and teacher ``(N, T', ...)`` with ``T' = T - delay_frames``, and ``(N, T')`` bool: true
        where both frames are inside the item.
    """
    frames = max(0, teacher.shape[1] - delay_frames)
    return student[:, delay_frames:], teacher[:, :frames], frame_mask(frame_lens - delay_frames, frames)


def select_all(teacher: Tensor, valid: Tensor, blank_id: int, context: int, threshold: float) -> Tensor:  # noqa: ARG001
    """Every valid frame."""
    return valid


def select_nonblank(teacher: Tensor, valid: Tensor, blank_id: int, context: int, threshold: float) -> Tensor:  # noqa: ARG001
    """Blank elimination: frames where the teacher's best token is no blank."""
    return (teacher.argmax(dim=2) != blank_id) & valid


def select_symmetric(teacher: Tensor, valid: Tensor, blank_id: int, context: int, threshold: float) -> Tensor:
    """These, and ``context`` frames on each side."""
    inside = select_nonblank(teacher, valid, blank_id, context, threshold).float()[:, None, :]
    reached = F.max_pool1d(inside, 2 * context + 1, stride=1, padding=context)[:, 0] > 0
    return torch.logical_and(reached, valid)


def select_trim(teacher: Tensor, valid: Tensor, blank_id: int, context: int, threshold: float) -> Tensor:
    """From the first to the last frame where the teacher's best token is no blank."""
    spikes = select_nonblank(teacher, valid, blank_id, context, threshold)
    after_first = spikes.cumsum(dim=1) > 0
    before_last = spikes.flip(1).cumsum(dim=1).flip(1) > 0
    return after_first & before_last


def select_threshold(teacher: Tensor, valid: Tensor, blank_id: int, context: int, threshold: float) -> Tensor:  # noqa: ARG001
    """Frames where the teacher gives all tokens but blank at least ``threshold`` together."""
    return (1 - teacher[:, :, blank_id].exp() >= threshold) & valid


FRAME_SELECTIONS = {
    "all": select_all,
    "nonblank": select_nonblank,
    "symmetric": select_symmetric,
    "trim": select_trim,
    "threshold": select_threshold,
}
"""Which frames count: ``(teacher (N, T, V), valid (N, T), blank_id, context, threshold) -> (N, T)`` bool."""


class FrameLoss(LossConfig):
    """Settings of every loss that compares student and teacher frame by frame."""

    needs_teacher: ClassVar[bool] = True

    frames: Literal["all", "nonblank", "symmetric", "trim", "threshold"] = "all"
    """Frames that count: all; those where the teacher's best token is no blank; these and ``context`` around; from the
    first to the last of them; or those where the teacher gives blank at most 1 - ``threshold``."""
    context: int = Field(default=2, ge=0)
    """Frames on each side for ``symmetric``."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Least non-blank probability for ``threshold``."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after the teacher; for students with little look-ahead."""
    normalise: Literal["all_frames", "selected_frames", "utterances"] = "all_frames"
    """What the sum is divided by. With ``all_frames``, as in CTC here, a weight means the same for every selection."""

    def pairs(
        self, student: Tensor, teacher: Tensor, frame_lens: Tensor, blank_id: int, delay_frames: int | None = None
    ) -> Pairs:
        """``pair_frames`` with these settings, or with another delay."""
        return pair_frames(
            student,
            teacher,
            frame_lens,
            frames=self.frames,
            context=self.context,
            threshold=self.threshold,
            delay_frames=self.delay_frames if delay_frames is None else delay_frames,
            normalise=self.normalise,
            blank_id=blank_id,
        )

    def chosen(self, teacher: Tensor, frame_lens: Tensor, blank_id: int) -> Chosen:
        """``choose_frames`` with these settings."""
        return choose_frames(
            teacher,
            frame_lens,
            frames=self.frames,
            context=self.context,
            threshold=self.threshold,
            normalise=self.normalise,
            blank_id=blank_id,
        )
