"""What the teachers of a recipe say about a batch: the one road from batch to targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdcompress.bridge.fitting import fitted_texts
from kdcompress.model_settings import StudentConfig
from kdcompress.teachers.ensemble import Situation
from kdcompress.teachers.teacher import dev_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcompress.bridge import Bridge
    from kdcompress.hearing import Heard
    from kdcompress.losses.base import TeacherSignals
    from kdcompress.recipe import Recipe
    from kdcompress.teachers.teacher import Teacher, TeacherInfo


@dataclass(frozen=True)
class Source:
    """A teacher, and how its answers become the student's."""

    teacher: Teacher
    bridge: Bridge

    @property
    def info(self) -> TeacherInfo:
        """What the teacher says of itself."""
        return self.teacher.info

    def answer(self, heard: Heard, items: Tensor | None = None) -> TeacherSignals:
        """What the teacher says of the batch, or of the items given, in the student's frames and tokens."""
        chosen = slice(None) if items is None else items
        if items is not None:
            said = self.teacher.answer(heard, items)
        else:
            key = self.info.source
            if key not in heard.answers:
                heard.answers[key] = self.teacher.answer(heard)
            said = heard.answers[key]
        lens = heard.frame_lens[chosen]
        found = self.bridge(said, lens)
        if found.hypotheses is None:
            return found
        left = fitted_texts(found.hypotheses, lens, heard.labels[chosen], heard.label_lens[chosen])
        self.bridge.tally.too_long += left.too_long
        self.bridge.tally.references += left.references
        return replace(found, hypotheses=left.hypotheses)


def targets_of(
    sources: Sequence[Source], recipe: Recipe, heard: Heard, step: int, blank_id: int
) -> TeacherSignals | None:
    """Ask the teachers, and combine what they say; None for a recipe without teachers."""
    if recipe.distill is None or not sources:
        return None
    situation = Situation(
        step=step,
        progress=step / recipe.train.steps,
        seed=recipe.seed,
        dev_error=dev_errors([source.teacher for source in sources]),
        streams=heard.batch.streams.repeat(heard.views),
        frame_lens=heard.frame_lens,
        labels=heard.labels,
        label_lens=heard.label_lens,
        blank_id=blank_id,
    )
    answers = [lambda items, source=source: source.answer(heard, items) for source in sources]
    combined = recipe.distill.combine(answers, situation)
    return replace(combined, wait_frames=wait_frames([source.info for source in sources], recipe))


EVIDENCE_FRAMES = {False: 4, True: 12}
"""Look-ahead and delay together that suit a student, by whether a teacher sees the labels; measured on digits
(``docs/methods.md``). An Oracle Teacher reads ahead in the text, and speaks some 300 ms before its twin."""


def wait_frames(teachers: Sequence[TeacherInfo], recipe: Recipe) -> int:
    """Frames by which a student answers later than its teachers unless the recipe says otherwise."""
    if not isinstance(recipe.model, StudentConfig):
        return 0
    needed = max(_evidence(teacher, recipe) for teacher in teachers)
    return max(0, needed - recipe.model.lookahead_frames)


def _evidence(teacher: TeacherInfo, recipe: Recipe) -> int:
    """Frames of the student that a teacher's answer rests on; one that looks ahead no further needs no more."""
    suits = EVIDENCE_FRAMES[teacher.sees_labels]
    if teacher.lookahead is None or teacher.sees_labels:
        return suits
    frame = recipe.frontend.exact_shift() * recipe.model.subsampling_factor
    return min(suits, -(-teacher.lookahead // frame))
