"""Where a student's spikes are beside its teacher's: what to look at before choosing a delay or a frame selection.

A spike is the first frame of a run in which one token, not blank, is the best: the moment at which greedy decoding
emits it. Spikes of the same token are paired in their order, at most ``within_frames`` apart: as many as can be, and of
all such ways the one with the smallest offsets together. Positive offsets: the student is later.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING

import torch

from kdcompress.hearing import hear_plainly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe
    from kdcompress.targets import Source

WITHIN_FRAMES = 12
"""Farthest that two spikes of one pair are apart: about half a second of speech."""


@dataclass(frozen=True)
class Alignment:
    """Shares in percent, offsets in frames; None where there is nothing to share or to average."""

    within_frames: int
    """Farthest that two spikes of one pair are apart."""
    student_blank: float | None
    """Of all frames: those where the student's best token is blank."""
    teacher_blank: float | None
    """The same of the teacher."""
    teacher_spikes: int
    """Number of the teacher's spikes."""
    missed: float | None
    """Of the teacher's spikes: those without a spike of the student to pair with."""
    moved: float | None
    """Of the pairs: those whose spikes are not on the same frame."""
    mean_offset: float | None
    """Over the pairs: frame of the student's spike minus frame of the teacher's."""
    median_offset: float | None
    """Of the same."""
    mean_distance: float | None
    """Mean of the offsets without their sign."""

    def to_json(self) -> dict[str, float | int | None]:
        """Fields by name, rounded."""
        return {name: round(value, 3) if value is not None else None for name, value in asdict(self).items()}


def compare(items: Iterable[tuple[Tensor, Tensor]], blank_id: int, within_frames: int = WITHIN_FRAMES) -> Alignment:
    """Compare a student with its teacher.

    Args:
        items: (log-)probabilities of both, the student's first, ``(T, V)`` each, without padding.
        blank_id: id of the blank.
        within_frames: farthest that two spikes of one pair are apart.

    Raises:
        ValueError: the two sides of an item differ in frames.
    """
    frames, blanks, spikes = 0, [0, 0], 0
    offsets: list[int] = []
    for sides in items:
        if len(sides[0]) != len(sides[1]):
            raise ValueError(f"the student has {len(sides[0])} frames of an item, the teacher {len(sides[1])}")
        student, teacher = (side.argmax(dim=1).tolist() for side in sides)
        frames += len(teacher)
        blanks = [blanks[0] + student.count(blank_id), blanks[1] + teacher.count(blank_id)]
        mine, its = spikes_of(student, blank_id), spikes_of(teacher, blank_id)
        spikes += sum(map(len, its.values()))
        for token, wanted in its.items():
            offsets += paired_offsets(mine.get(token, ()), wanted, within_frames)
    return Alignment(
        within_frames=within_frames,
        student_blank=_percent(blanks[0], frames),
        teacher_blank=_percent(blanks[1], frames),
        teacher_spikes=spikes,
        missed=_percent(spikes - len(offsets), spikes),
        moved=_percent(sum(offset != 0 for offset in offsets), len(offsets)),
        mean_offset=fmean(offsets) if offsets else None,
        median_offset=float(median(offsets)) if offsets else None,
        mean_distance=fmean(map(abs, offsets)) if offsets else None,
    )


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def spikes_of(best: Sequence[int], blank_id: int) -> dict[int, list[int]]:
    """Frames at which each token begins, from the best token of each frame."""
    found: dict[int, list[int]] = {}
    for frame, (before, token) in enumerate(pairwise([blank_id, *best])):
        if token not in {blank_id, before}:
            found.setdefault(token, []).append(frame)
    return found


def paired_offsets(student: Sequence[int], teacher: Sequence[int], within_frames: int) -> tuple[int, ...]:
    """Offsets of the pairs of one token's spikes, in order; frames of both sides rise."""
    nothing: tuple[int, int, tuple[int, ...]] = (0, 0, ())
    # best[j]: pairs, minus their distance, and offsets, of the teacher's spikes so far with the student's first j
    best = [nothing] * (len(student) + 1)
    for its in teacher:
        row = [nothing]
        for j, mine in enumerate(student):
            choices = [best[j + 1], row[j]]
            if abs(mine - its) <= within_frames:
                pairs, closeness, offsets = best[j]
                choices.append((pairs + 1, closeness - abs(mine - its), (*offsets, mine - its)))
            row.append(max(choices, key=lambda choice: choice[:2]))
        best = row
    return best[-1][2]


@torch.no_grad()
def measure_alignment(
    student: CtcNetwork, teacher: Source, recipe: Recipe, batches: Iterable[Batch], blank_id: int
) -> Alignment:
    """``compare`` on held-out batches that both hear; the student is in evaluation mode meanwhile.

    Args:
        student: what is compared.
        teacher: what it has learned from, in the student's frames and tokens; one that sees the reference is shown it.
        recipe: the student's.
        batches: held-out items, read for the teacher's sample rate, too.
        blank_id: id of the blank.
    """
    training = student.training
    student.eval()
    found = compare(_answers(student, teacher, recipe, batches), blank_id)
    student.train(training)
    return found


def _answers(
    student: CtcNetwork, teacher: Source, recipe: Recipe, batches: Iterable[Batch]
) -> Iterator[tuple[Tensor, Tensor]]:
    device = student.feature_norm.mean.device
    for batch in (item.to(device) for item in batches):
        heard = hear_plainly(student, recipe, batch)
        mine = student(heard.features, heard.frame_lens, heard.labels, heard.label_lens)
        its = teacher.answer(heard).posteriors()
        for here, there, length in zip(mine, its, heard.frame_lens.tolist(), strict=True):
            yield here[:length], there[:length]
