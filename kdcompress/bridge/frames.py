"""A teacher's frames averaged into the student's: never picked, for at ratio two a pick loses every other spike.

Frame t of the student is the time from t to t + 1 of its frames; what it gets is the average over that time of what the
teacher says, and silence where it says nothing, as behind its last frame. Blank is not averaged: beside a blank frame a
spike would be half a spike, below blank, and a student that learned it would say nothing. A frame is blank if all that
it is made of is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812

from kdcompress.errors import MismatchError
from kdcompress.layers import frame_mask

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    from torch import Tensor

    from kdcompress.teachers.teacher import Said

TOLERANCE = 0.05
"""Share of an input by which a teacher's answer may be shorter or longer, besides a frame of each side."""
SUREST = 0.01
"""Smallest blank that counts: a spike that reaches a hundredth into a frame must not be said there as well."""


class Bands(NamedTuple):
    """Which of the teacher's frames make up each of the student's; the few that touch it, side by side."""

    first: Tensor
    """Number of the first of them, ``(N, T)`` int64; may be outside the answer."""
    said_lens: Tensor
    """Frames of each answer, ``(N,)`` int64."""
    weights: Tensor
    """Share of the student's frame that each takes up, ``(N, T, K)`` float32; what is missing to one is silence."""
    spans: Tensor
    """Frames of the teacher that last as long as one of the student's, ``(N,)`` float32."""


@dataclass(frozen=True)
class FrameMap:
    """From frames of one duration to frames of another, with an affine map of time for each item."""

    source: Path
    """The teacher, for messages."""
    student: Fraction
    """Input time of one frame of the student: seconds for audio, input units elsewhere."""
    teacher: Fraction
    """The same of the teacher."""
    is_audio: bool = True
    """Whether these are seconds."""

    @property
    def same(self) -> bool:
        """Whether both sides have the same frames, as long as an item's time runs alike."""
        return self.student == self.teacher

    def report(self) -> str:
        """Say in a sentence what is done; for frames that differ."""
        mine, its, ratio = self.named(self.student), self.named(self.teacher), self.student / self.teacher
        if ratio.denominator == 1:
            return f"{ratio} teacher frames of {its} are averaged into one of {mine}"
        if ratio.numerator == 1:
            return f"a teacher frame of {its} is shared by {ratio.denominator} of {mine}"
        return f"teacher frames of {its} are averaged into frames of {mine} by their overlap"

    def places_report(self) -> str:
        """Say in a sentence where the characters of subwords stand; for frames that differ."""
        mine, its = self.named(self.student), self.named(self.teacher)
        return f"characters stand in the student's frames of {mine}, subwords in the teacher's of {its}"

    def named(self, time: Fraction) -> str:
        """Write a span of input time."""
        return f"{float(time * 1000):.4g} ms" if self.is_audio else f"{float(time):.4g} input units"

    def check(self, said: Said, frame_lens: Tensor) -> None:
        """Compare lengths.

        Raises:
            MismatchError: an answer is longer or shorter than its input by more than a frame of each side and 5 %.
        """
        ends = frame_lens * float(self.student)
        frame = torch.full_like(ends, float(self.student))
        if said.times is not None:
            factor, offset = said.times[:, 0], said.times[:, 1]
            ends, frame = factor * ends - offset, factor * frame
        said_ends = said.frame_lens * float(self.teacher)
        allowed = torch.maximum(frame + float(self.teacher), TOLERANCE * ends.abs())
        wrong = ((said_ends - ends).abs() > allowed * (1 + 1e-6)).nonzero()[:, 0].tolist()
        if wrong:
            unit = "s" if self.is_audio else "input units"
            found, expected = float(said_ends[wrong[0]]), float(ends[wrong[0]])
            raise MismatchError(
                f"{self.source}: the answer for item {wrong[0]} of the batch ends after {found:.2f} {unit}, its input, "
                f"in the answer's time, after {expected:.2f} {unit}: they do not belong together; label the manifest "
                "again, or check the teacher's frame"
            )

    def bands(self, said: Said, frame_lens: Tensor) -> Bands | None:
        """Work out the overlaps; None where every frame is the teacher's own."""
        ratio, times = self.student / self.teacher, said.times
        if times is not None and bool(((times[:, 0] == 1) & (times[:, 1] == 0)).all()):
            times = None
        if times is None and self.same:
            return None
        steps = torch.arange(int(frame_lens.max()) + 1, device=frame_lens.device)
        # a product of whole numbers, divided once: exact wherever a boundary is one of the teacher's
        edges = (steps * ratio.numerator).double() / ratio.denominator
        edges = edges[None].expand(len(frame_lens), -1)
        factor = 1.0
        spans = torch.full((len(frame_lens),), float(ratio), device=frame_lens.device)
        if times is not None:
            edges = times[:, :1] * edges - times[:, 1:] / float(self.teacher)
            factor = float(times[:, 0].max())
            spans = (times[:, 0] * float(ratio)).float()
        begin, end = edges[:, :-1, None], edges[:, 1:, None]
        touched = math.ceil(factor * float(ratio) - 1e-9) + 1
        first = begin.floor()
        each = first + torch.arange(touched, device=first.device)
        overlap = (torch.minimum(end, each + 1) - torch.maximum(begin, each)).clamp(min=0)
        inside = (each >= 0) & (each < said.frame_lens[:, None, None])
        return Bands(first[..., 0].long(), said.frame_lens, (overlap * inside / (end - begin)).float(), spans)

    def places(self, said: Said, frames: int) -> Tensor:
        """Middle of each of the teacher's frames, counted in the student's frames, ``(N, frames)`` float64."""
        ratio = self.teacher / self.student
        middles = torch.arange(frames, device=said.frame_lens.device).double() + 0.5
        places = (middles * float(ratio)).expand(len(said.frame_lens), -1)
        if said.times is None:
            return places
        factor, offset = said.times[:, :1], said.times[:, 1:]
        return (places + offset / float(self.student)) / factor


def averaged(values: Tensor, bands: Bands) -> Tensor:
    """Average ``(N, T', D)`` into the student's frames ``(N, T, D)`` float32; silence counts as zeros.

    Padding is not read, whatever stands there.
    """
    items, frames, width = values.shape
    found = values.new_zeros((bands.first.numel(), width), dtype=torch.float32)
    if not frames or not len(found):
        return found.view(*bands.first.shape, width)
    rows = values.reshape(items * frames, width)
    starts = torch.arange(items, device=values.device)[:, None] * frames
    last = (bands.said_lens[:, None] - 1).clamp(min=0)
    for place in range(bands.weights.shape[2]):
        weight = bands.weights[..., place].reshape(-1, 1)
        if bool(weight.any()):
            at = torch.minimum((bands.first + place).clamp(min=0), last) + starts
            found.addcmul_(rows.index_select(0, at.flatten()).float(), weight)
    found = found.view(*bands.first.shape, width)
    mute = bands.said_lens == 0
    return found.masked_fill_(mute[:, None, None], 0) if bool(mute.any()) else found


def joined(probabilities: Tensor, bands: Bands, blank_id: int) -> Tensor:
    """Bring posteriors ``(N, T', V)`` into the student's frames ``(N, T, V)`` float32.

    A frame is blank as often as all parts of the teacher's frames in it are, the product of their blanks, each to the
    power of the part of it that lies here; what is not blank is shared as in the average of the tokens.
    """
    mean = averaged(probabilities, bands)
    said = mean.sum(dim=2) - mean[..., blank_id]
    logs = averaged(probabilities[..., blank_id, None].clamp(min=SUREST, max=1.0).log(), bands)[..., 0]
    # parts of one frame, where the teacher's are longer, are as blank as the whole
    blank = (logs * bands.spans.clamp(min=1)[:, None]).exp()
    shared = mean * ((1 - blank) / said.clamp(min=1e-30))[..., None]
    shared[..., blank_id] = torch.where(said > 1e-30, blank, torch.ones_like(blank))
    return shared


def fitted(values: Tensor, said_lens: Tensor, frame_lens: Tensor, silence: Tensor) -> Tensor:
    """Cut or pad ``(N, T', D)`` to the student's frames; what the teacher does not say is ``silence (D,)``.

    Returns:
        ``values`` itself where there is nothing to do, else a copy; ``(N, T, D)``.
    """
    frames = int(frame_lens.max())
    cut = values[:, :frames] if values.shape[1] > frames else values
    if not bool((said_lens < frame_lens).any()) and cut.shape[1] == frames:
        return cut
    padded = F.pad(cut, (0, 0, 0, frames - cut.shape[1]))
    return torch.where(frame_mask(said_lens, frames)[..., None], padded, silence.to(padded.dtype))
