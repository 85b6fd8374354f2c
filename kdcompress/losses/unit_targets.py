"""What losses share that learn from language models: distributions over units, at the frames of these units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from pydantic import Field

from kdcompress.aligning.viterbi import best_paths
from kdcompress.layers import frame_mask
from kdcompress.losses.base import LossConfig, UnitTargets

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals

Placement = Literal["alignment", "path"]
"""Frames of a unit: those of a forced alignment, or those of the most plausible CTC path, found anew in each update."""


class Placed(NamedTuple):
    """Frames that belong to a unit."""

    where: Tensor
    """Which frames these are, ``(N, T)`` bool; M of them."""
    truth: Tensor
    """Unit of each, ``(M,)`` int64."""
    ids: Tensor
    """Most probable units there, ``(M, K)`` int64."""
    log_probs: Tensor
    """Ln P of these, ``(M, K)`` float32."""


def placed(targets: UnitTargets, frames: Tensor, frame_lens: Tensor, delay_frames: int = 0) -> Placed:
    """Put what a language model says of a unit on the frames of that unit.

    Args:
        targets: what it says.
        frames: unit of each frame, -1 for none, ``(N, T)`` int64.
        frame_lens: valid frames, ``(N,)`` int64.
        delay_frames: student frame ``t + delay_frames`` answers for frame t.
    """
    if delay_frames:
        late = frames[:, : max(0, frames.shape[1] - delay_frames)]
        frames = torch.cat([frames.new_full((len(frames), frames.shape[1] - late.shape[1]), -1), late], dim=1)
    where = (frames >= 0) & frame_mask(frame_lens, frames.shape[1])
    items, units = torch.nonzero(where)[:, 0], frames[where]
    return Placed(where, targets.units[items, units], targets.ids[items, units], targets.log_probs[items, units])


def path_frames(log_probs: Tensor, frame_lens: Tensor, targets: UnitTargets, blank_id: int) -> Tensor:
    """Unit of each frame on the most plausible CTC path of the text, -1 on blank frames, ``(N, T)`` int64.

    Args:
        log_probs: over the units' tokens and blank, ``(N, T, V)``; no gradient flows back.
        frame_lens: valid frames, ``(N,)`` int64.
        targets: the texts; ``tokens`` says which token a unit is.
        blank_id: id of the blank.

    A text that does not fit into its frames has none.
    """
    if targets.tokens is None:
        raise ValueError("units without tokens have no path")
    labels = targets.tokens[targets.units]
    paths = best_paths(log_probs.detach(), frame_lens, labels, targets.unit_lens, blank_id)
    return torch.where(paths.fits[:, None], paths.states, -1)


def tempered(log_probs: Tensor, num_units: int, temperature: float) -> Tensor:
    """Ln P ``(..., K)`` at another temperature; what is left is still shared evenly by the other units."""
    if temperature == 1:
        return log_probs
    others = num_units - log_probs.shape[-1]
    raised = log_probs / temperature
    total = raised.logsumexp(dim=-1, keepdim=True)
    if others:
        share = left_over(log_probs).log() - torch.tensor(float(others)).log()
        total = torch.logaddexp(total, share / temperature + torch.tensor(float(others)).log())
    return raised - total


LEAST = 1e-7
"""Floor of the mass of the units that are not listed."""


def left_over(log_probs: Tensor) -> Tensor:
    """Mass that the listed units leave, ``(..., 1)``."""
    return (1 - log_probs.exp().sum(dim=-1, keepdim=True)).clamp(min=LEAST)


def cross_entropy(student: Tensor, ids: Tensor, log_probs: Tensor, blank_id: int | None = None) -> Tensor:
    """Cross-entropy of each frame with a language model's distribution, its unlisted units taken as one.

    Args:
        student: log-probabilities over the units, and blank if it is named, ``(M, V)``, with gradient.
        ids: listed units as columns of ``student``, ``(M, K)`` int64.
        log_probs: ln P of these, ``(M, K)`` float32.
        blank_id: column that is no unit; what the language model leaves to unlisted units is not for it.

    Returns:
        ``(M,)`` float32.
    """
    said = student.gather(1, ids)
    value = -(log_probs.exp() * said).sum(dim=1)
    units = student.shape[1] - (blank_id is not None)
    if ids.shape[1] >= units:
        return value
    if blank_id is not None:
        said = torch.cat([said, student[:, blank_id, None]], dim=1)
    # one minus the listed, and not the sum of the others: half of the time, for many units
    rest = left_over(said)[:, 0].log()
    return value - left_over(log_probs)[:, 0] * rest


def entropy(log_probs: Tensor, *, complete: bool) -> Tensor:
    """Entropy of each distribution, its unlisted units taken as one, ``(M,)``; what KL is less than cross-entropy."""
    value = -(log_probs.exp() * log_probs).sum(dim=1)
    if complete:
        return value
    rest = left_over(log_probs)[:, 0]
    return value - rest * rest.log()


class TextLoss(LossConfig):
    """Base of the losses that learn from a language model."""

    lm: str
    """Name of the language model in ``distill.language_models``."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after a unit is heard; it matters with little look-ahead."""

    @property
    def reads(self) -> str:
        """See ``LossConfig.reads``."""
        return self.lm

    def targets(self, signals: Signals, temperature: float = 1.0) -> UnitTargets:
        """What the language model says of this batch."""
        found = signals.texts[self.lm]
        return replace(found, log_probs=tempered(found.log_probs, found.num_units, temperature))
