"""Delayed-KD (Li et al., Interspeech 2025, arXiv 2505.22069): the student may answer a little later than the teacher.

A student that streams hears less of what follows, and spikes later than a full-context teacher. Within a buffer of
``max_delay`` frames the delay that fits best is taken, with no gradient through the choice. The paper takes it frame by
frame (``per: frame``) and finds 80 ms best for 40 ms chunks; words come later the larger the buffer is. Since single
frames may then pick delays that contradict each other, ``per: utterance`` takes one for each item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.frames import LOG_ZERO, Chosen, FrameLoss

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def delayed_divergences(
    student: Tensor, teacher: Tensor, frame_lens: Tensor, chosen: Chosen, delays: range
) -> tuple[Tensor, Tensor, Tensor]:
    """KL(teacher_t || student_{t + delay}) of each chosen frame t for each delay.

    Args:
        student: log-probabilities ``(N, T, V)``.
        teacher: log-probabilities ``(N, T, V)``.
        frame_lens: valid frames, ``(N,)`` int64.
        chosen: teacher's frames that count.
        delays: D delays in frames.

    Returns:
        ``(D, M)`` float32, infinite where ``t + delay`` is outside the item; item and frame of each, ``(M,)`` int64.
        Frames without any student frame inside are left out.
    """
    item, frame = chosen.selected.nonzero(as_tuple=True)
    answered = frame + delays.start < frame_lens[item]
    item, frame = item[answered], frame[answered]
    last = frame_lens[item] - 1
    target = teacher.detach()[item, frame].float().clamp(min=LOG_ZERO)
    rows = []
    for delay in delays:
        answer = student[item, torch.minimum(frame + delay, last)].float()
        divergence = F.kl_div(answer, target, reduction="none", log_target=True).sum(dim=1)
        rows.append(divergence.masked_fill(frame + delay > last, torch.inf))
    return torch.stack(rows), item, frame


def best_per_frame(divergences: Tensor) -> Tensor:
    """Sum over frames of the least of the ``(D, M)`` divergences; scalar."""
    return divergences.min(dim=0).values.sum()


def best_per_utterance(
    divergences: Tensor, item: Tensor, frame: Tensor, frame_lens: Tensor, delays: range
) -> tuple[Tensor, Tensor]:
    """Sum over frames of the divergence at the delay that is best for the whole item.

    A longer delay has fewer frames with an answer, so delays are compared on the frames that have one under each of
    them, and an item is not delayed by more than half of its length. Once the delay is found, all frames that have an
    answer under it count, as with a fixed ``delay_frames``.

    Args:
        divergences: ``(D, M)``; with item and frame as from ``delayed_divergences``.
        item: ``(M,)`` int64.
        frame: ``(M,)`` int64.
        frame_lens: valid frames, ``(N,)`` int64.
        delays: D delays in frames.

    Returns:
        Scalar; and the index of each item's delay in ``delays``, ``(N,)`` int64.
    """
    steps = torch.tensor(list(delays), device=item.device)
    longest = (frame_lens // 2).clamp(min=delays.start, max=delays[-1])
    allowed = steps[:, None] <= longest
    compared = frame + longest[item] < frame_lens[item]
    sums = divergences.new_zeros((len(delays), len(frame_lens)))
    sums = sums.index_add(1, item[compared], divergences.detach()[:, compared])
    choice = sums.masked_fill(~allowed, torch.inf).argmin(dim=0)
    taken = divergences.gather(0, choice[item][None])[0]
    answered = frame + steps[choice][item] < frame_lens[item]
    return taken[answered].sum(), choice


class DelayTolerantLoss(FrameLoss):
    """Frame KL at the delay, within a buffer, that fits the student best."""

    kind: Literal["delay_tolerant"] = "delay_tolerant"
    """Selects this loss."""
    max_delay: int = Field(default=2, ge=0)
    """Longest delay in frames, beyond ``delay_frames``."""
    per: Literal["frame", "utterance"] = "frame"
    """Whether each frame or each item has its delay."""
    delay_frames: int = Field(default=0, ge=0)
    """Shortest delay in frames."""

    def __call__(self, signals: Signals) -> Tensor:
        """See the file."""
        teacher, lens = signals.posteriors(), signals.frame_lens
        chosen = self.chosen(teacher, lens, signals.blank_id)
        delays = range(self.delay_frames, self.delay_frames + self.max_delay + 1)
        divergences, item, frame = delayed_divergences(signals.log_probs, teacher, lens, chosen, delays)
        if self.per == "frame":
            return best_per_frame(divergences) / chosen.divisor
        total, _ = best_per_utterance(divergences, item, frame, lens, delays)
        return total / chosen.divisor
