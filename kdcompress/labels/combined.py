"""Several teachers whose combined answer is stored as one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from kdcompress.data.text import Encoder
from kdcompress.errors import LabelStoreError
from kdcompress.losses.base import TeacherSignals
from kdcompress.teachers.ensemble import Situation
from kdcompress.teachers.teacher import Said, Teacher, dev_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcompress.hearing import Heard
    from kdcompress.recipe import AnyFrontend, Recipe
    from kdcompress.teachers.ensemble import Combination

REMEDY = "label each into a store of its own, and name the stores as teachers"


def _counted(frontend: AnyFrontend | None) -> list[object]:
    """What decides how many units an item has."""
    return [] if frontend is None else [getattr(frontend, name) for name in frontend.counted_by]


class CombinedTeacher(Teacher):
    """What ``interpolation`` or ``hybrid`` makes of several teachers with the same frames and tokens."""

    def __init__(self, teachers: Sequence[Teacher], combine: Combination, recipe: Recipe) -> None:
        """Check that they can be combined.

        Raises:
            LabelStoreError: which teacher answers depends on the step, or their answers are about different things.
        """
        first = teachers[0].info
        if combine.kind in {"switching", "multi_stream"}:
            raise LabelStoreError(
                f"distill.combine: {combine.kind} has no one answer for an item that could be stored; {REMEDY}"
            )
        for other in (teacher.info for teacher in teachers[1:]):
            for name in ("frame", "vocabulary", "units", "sample_rate"):
                if getattr(first, name) != getattr(other, name):
                    raise LabelStoreError(f"{first.source} and {other.source} differ in {name}; {REMEDY}")
        for teacher in teachers:
            if "log_probs" not in teacher.info.gives:
                raise LabelStoreError(f"{teacher.info.source}: gives no posteriors to combine; {REMEDY}")
            if _counted(teacher.frontend) != _counted(teachers[0].frontend):
                raise LabelStoreError(f"{first.source} and {teacher.info.source} read items differently; {REMEDY}")
        self.teachers, self.combine, self.recipe = tuple(teachers), combine, recipe
        self.frontend = teachers[0].frontend
        infos = [teacher.info for teacher in teachers]
        looks = [info.lookahead for info in infos]
        decisive = "\n".join([combine.model_dump_json(), *(info.fingerprint for info in infos)])
        self.info = replace(
            first,
            name=" + ".join(info.name for info in infos),
            kind=combine.kind,
            fingerprint=hashlib.sha256(decisive.encode()).hexdigest(),
            gives=frozenset({"log_probs"}),
            sees_labels=any(info.sees_labels for info in infos),
            lookahead=None if None in looks else max(look for look in looks if look is not None),
            hidden_dims=(),
            dev_error=None,
        )
        self._encode = Encoder(first.vocabulary, first.units)

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        for teacher in self.teachers:
            teacher.to(device)

    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``; for whole batches only.

        Raises:
            LabelStoreError: the teachers' answers are not equally long.
            ValueError: only some items were asked for.
        """
        if items is not None:
            raise ValueError("combined answers are for whole batches")
        said = [teacher.answer(heard) for teacher in self.teachers]
        lens = said[0].frame_lens
        if any(not torch.equal(lens, other.frame_lens) for other in said[1:]):
            raise LabelStoreError(f"{self.info.source} and another teacher differ in the number of frames; {REMEDY}")
        frames = int(lens.max())
        answers = [
            lambda _, one=one: TeacherSignals(None if one.log_probs is None else one.log_probs[:, :frames])
            for one in said
        ]
        return Said(lens, self.combine(answers, self._situation(heard, lens)).posteriors())

    def _situation(self, heard: Heard, frame_lens: Tensor) -> Situation:
        encoded = [torch.tensor(self._encode(text), dtype=torch.int64) for text in heard.batch.texts]
        labels = torch.nn.utils.rnn.pad_sequence([*encoded, torch.zeros(1, dtype=torch.int64)], batch_first=True)[:-1]
        device = frame_lens.device
        return Situation(
            step=0,
            progress=0.0,
            seed=self.recipe.seed,
            dev_error=dev_errors(self.teachers),
            streams=heard.batch.streams,
            frame_lens=frame_lens,
            labels=labels.to(device),
            label_lens=torch.tensor([len(one) for one in encoded], device=device),
            blank_id=self.info.vocabulary.blank_id,
        )
