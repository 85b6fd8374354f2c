"""The plan: which of a teacher's differences are bridged, and how; or why they cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.errors import MismatchError
from kdcompress.losses.base import TeacherSignals

if TYPE_CHECKING:
    from collections.abc import Collection
    from fractions import Fraction

    from torch import Tensor

    from kdcompress.data.text import Units
    from kdcompress.losses.base import Answer
    from kdcompress.teachers.teacher import Said, TeacherInfo
    from kdcompress_runtime.vocabulary import Vocabulary


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

    def __call__(self, said: Said, frame_lens: Tensor) -> TeacherSignals:
        """Bring an answer over; ``frame_lens (N,)`` are the student's."""
        if said.log_probs is None or len(frame_lens) != len(said.frame_lens):
            raise NotImplementedError
        return TeacherSignals(log_probs=said.log_probs, hidden=said.hidden)


def build_bridge(student: StudentSide, teacher: TeacherInfo, needed: Collection[str]) -> Bridge:
    """Work out how ``teacher`` fits ``student``.

    Args:
        student: the student's side.
        teacher: what the teacher says of itself.
        needed: symbols without which the training texts cannot be written, in the student's spelling.

    Raises:
        MismatchError: nothing bridges a difference; the message names the remedy.
    """
    if student.vocabulary.symbols != teacher.vocabulary.symbols or student.frame != teacher.frame or not needed:
        raise MismatchError(f"{teacher.source}: not bridged yet")
    return Bridge(teacher.gives, ())
