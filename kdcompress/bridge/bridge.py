"""The plan: which of a teacher's differences are bridged, and how; or why they cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from kdcompress.bridge.frames import FrameMap, averaged, fitted, joined
from kdcompress.bridge.plan import TokenPlan, plan_tokens
from kdcompress.bridge.tally import Tally
from kdcompress.errors import MismatchError
from kdcompress.losses.base import TeacherSignals
from kdcompress.losses.frames import LOG_ZERO

if TYPE_CHECKING:
    from collections.abc import Collection
    from fractions import Fraction

    from torch import Tensor

    from kdcompress.bridge.frames import Bands
    from kdcompress.data.text import Units
    from kdcompress.losses.base import Answer, Hypotheses
    from kdcompress.teachers.teacher import Said, TeacherInfo
    from kdcompress_runtime.vocabulary import Vocabulary

NO_CODE = -100
"""What stands in codes where there is no frame."""
ABOUT_TOKENS = {"log_probs", "occupancy", "hypotheses"}
"""Answers that say something about tokens."""
OVER_FRAMES = {"log_probs", "hidden", "occupancy", "codes"}
"""Answers that come frame by frame."""


@dataclass(frozen=True)
class StudentSide:
    """What decides how a teacher fits a student."""

    vocabulary: Vocabulary
    """Its tokens."""
    units: Units
    """What one token is."""
    frame: Fraction
    """Input time of one output frame: seconds for audio, input units elsewhere."""
    sample_rate: int | None
    """Hz at which it hears; None for inputs that are no audio."""
    lookahead: Fraction | None
    """Input time that it hears ahead of a frame; None: the whole input."""


@dataclass(frozen=True)
class Bridge:
    """Brings a teacher's answers to the student's frames and tokens."""

    gives: frozenset[Answer]
    """Fields of ``TeacherSignals`` that are left on the student's side."""
    report: tuple[str, ...]
    """What is bridged and how, a sentence each; empty where both sides agree."""
    frames: FrameMap
    """From its frames to the student's."""
    tokens: TokenPlan
    """From its tokens to the student's."""
    blank_id: int
    """The student's."""
    tally: Tally = field(default_factory=Tally, compare=False)
    """What did not come over so far."""

    @torch.no_grad()
    def __call__(self, said: Said, frame_lens: Tensor) -> TeacherSignals:
        """Bring an answer over; ``frame_lens (N,)`` are the student's.

        Raises:
            MismatchError: the answer is of another length than the input, or its codes are about other moments.
        """
        if said.times is not None:
            said = replace(said, times=said.times.to(frame_lens.device))
        with torch.autocast(frame_lens.device.type, enabled=False):  # sums of bfloat16 would not be one
            found = TeacherSignals(hypotheses=self._hypotheses(said) if "hypotheses" in self.gives else None)
            return self._over_frames(said, frame_lens, found) if self.gives & OVER_FRAMES else found

    def _over_frames(self, said: Said, frame_lens: Tensor, found: TeacherSignals) -> TeacherSignals:
        self.frames.check(said, frame_lens)
        bands = self.frames.bands(said, frame_lens)

        def brought(values: Tensor) -> Tensor:
            values = values.detach().float()
            if bands is not None:
                return averaged(values, bands)
            return fitted(values, said.frame_lens, frame_lens, values.new_zeros(values.shape[2]))

        if "log_probs" in self.gives and said.log_probs is not None:
            log_probs = self._log_probs(said.log_probs.detach().float(), said, frame_lens, bands)
            found = replace(found, log_probs=log_probs)
        if "hidden" in self.gives:
            found = replace(found, hidden=tuple(brought(block) for block in said.hidden))
        if "occupancy" in self.gives and said.occupancy is not None:
            found = replace(found, occupancy=brought(said.occupancy))
        if "codes" in self.gives and said.codes is not None:
            found = replace(found, codes=self._codes(said.codes, said, frame_lens, bands))
        return found

    def _log_probs(self, log_probs: Tensor, said: Said, frame_lens: Tensor, bands: Bands | None) -> Tensor:
        plan = self.tokens
        if plan.characters is not None:
            where = self.frames.places(said, log_probs.shape[1])
            probabilities, placed, crowded = plan.characters(log_probs, said.frame_lens, frame_lens, where)
            self.tally.characters += placed
            self.tally.crowded += crowded
            return _log(probabilities)
        if plan.way == "reordered" and plan.columns is not None:
            log_probs = plan.columns.reordered(log_probs)
        if bands is None:
            if plan.way == "added" and plan.columns is not None:
                log_probs = _log(plan.columns.added(log_probs.exp()))
            silence = log_probs.new_full((log_probs.shape[2],), LOG_ZERO)
            silence[self.blank_id] = 0
            return fitted(log_probs, said.frame_lens, frame_lens, silence)
        probabilities = log_probs.exp()
        if plan.way == "added" and plan.columns is not None:
            probabilities = plan.columns.added(probabilities)
        return _log(joined(probabilities, bands, self.blank_id))

    def _codes(self, codes: Tensor, said: Said, frame_lens: Tensor, bands: Bands | None) -> Tensor:
        if bands is not None:
            raise MismatchError(
                f"{self.frames.source}: codes cannot be averaged, and an item is faster, slower or later than it was "
                "labelled; remove augment.speed and lead-in, or label posteriors"
            )
        silence = torch.full((codes.shape[2],), NO_CODE, device=codes.device)
        return fitted(codes, said.frame_lens, frame_lens, silence)

    def _hypotheses(self, said: Said) -> Hypotheses | None:
        plan, found = self.tokens, said.hypotheses
        if found is None and said.log_probs is not None and plan.texts is not None:
            found = plan.texts.searched(said.log_probs.detach(), said.frame_lens)
        if found is None or plan.way == "same":
            return found
        if plan.way == "reordered" and plan.columns is not None:
            return found._replace(labels=plan.columns.columns.to(found.labels.device)[found.labels])
        if plan.texts is None:
            return None
        self.tally.texts += len(found.items)
        found, unwritten = plan.texts(found)
        self.tally.unwritten += unwritten
        return found


def build_bridge(
    student: StudentSide, teacher: TeacherInfo, needed: Collection[str], *, texts_will_do: bool = False
) -> Bridge:
    """Work out how ``teacher`` fits ``student``.

    Args:
        student: the student's side.
        teacher: what the teacher says of itself.
        needed: symbols without which the training texts cannot be written, in the student's spelling.
        texts_will_do: whether whoever learns can learn from texts: where frames could only be made up (the characters
            of subwords), texts teach better.

    Raises:
        MismatchError: nothing bridges a difference; the message names the remedy.
    """
    if student.sample_rate is None and teacher.sample_rate is not None:
        raise MismatchError(
            f"{teacher.source}: hears recordings, and the student's items are none; name a teacher of its task"
        )
    frames = FrameMap(teacher.source, student.frame, teacher.frame, is_audio=student.sample_rate is not None)
    tokens = plan_tokens(student, teacher, needed, texts_will_do) if teacher.gives & ABOUT_TOKENS else TokenPlan("same")
    gives, lost = _left(teacher, frames, tokens)
    if not gives:
        raise MismatchError(f"{teacher.source}: {lost[-1]}; label its posteriors instead")
    report = [*_heard(student, teacher), *tokens.sentences, *lost]
    if gives & OVER_FRAMES and not frames.same:
        report.append(frames.places_report() if tokens.way == "characters" else frames.report())
    if "log_probs" in gives and (delay := _delay(student, teacher, frames)):
        report.append(delay)
    return Bridge(gives, tuple(report), frames, tokens, student.vocabulary.blank_id)


def _left(teacher: TeacherInfo, frames: FrameMap, tokens: TokenPlan) -> tuple[frozenset[Answer], list[str]]:
    """What is left of a teacher's answers, and sentences on what is not."""
    gives = set(teacher.gives)
    lost: list[str] = []
    if tokens.way == "texts" and "log_probs" in gives:
        return frozenset({"hypotheses"}), lost
    if "occupancy" in gives and not tokens.same_labels:
        gives.discard("occupancy")
        lost.append("its occupancies are about labels in its own tokens, and are left out")
    if "codes" in gives and not frames.same:
        gives.discard("codes")
        its, mine = frames.named(frames.teacher), frames.named(frames.student)
        lost.append(f"its codes are about frames of {its}, cannot be averaged into {mine}, and are left out")
    return frozenset(gives), lost


def _heard(student: StudentSide, teacher: TeacherInfo) -> list[str]:
    if not student.sample_rate or not teacher.sample_rate or student.sample_rate == teacher.sample_rate:
        return []
    return [f"the teacher hears {teacher.sample_rate} Hz, the student {student.sample_rate} Hz"]


def _delay(student: StudentSide, teacher: TeacherInfo, frames: FrameMap) -> str | None:
    """How much further the teacher hears. One that sees the labels reads ahead, whatever it hears."""
    if student.lookahead is None or teacher.sees_labels:
        return None
    if teacher.lookahead is not None and teacher.lookahead <= student.lookahead:
        return None
    further = "the whole input" if teacher.lookahead is None else f"{frames.named(teacher.lookahead)} ahead"
    mine = frames.named(student.lookahead)
    return (
        f"the teacher hears {further}, the student {mine} ahead; the loss delay_tolerant, or frame_kl with "
        "suit_teacher, lets it answer later"
    )


def _log(probabilities: Tensor) -> Tensor:
    """Logarithm with the floor that the losses have."""
    return probabilities.clamp(min=math.exp(LOG_ZERO)).log()
