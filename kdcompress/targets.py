"""What the teachers of a recipe say about a batch: the one road from batch to targets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from kdcompress.data.augment import mask_features
from kdcompress.errors import RecipeError
from kdcompress.losses.base import TeacherSignals
from kdcompress.model_settings import StudentConfig
from kdcompress.teachers.ensemble import Situation

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe
    from kdcompress.run import TrainedRun
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Heard:
    """A batch as the student's loss sees it: masked, and each item once for every view."""

    batch: Batch
    features: Tensor
    """The student's features, masked, ``(views * N, T', F)``."""
    frame_lens: Tensor
    """Valid frames, ``(views * N,)``."""
    labels: Tensor
    """``(views * N, U)``."""
    label_lens: Tensor
    """``(views * N,)``."""
    views: int
    """Differently masked copies of the batch, one after the other."""
    answers: dict[Path, TeacherSignals] = field(default_factory=dict)
    """What teachers have said of all of it already, by their folder."""


Memo = dict[tuple[int, int], Heard]
"""What was computed from one batch, by views and look-ahead."""


def hear(network: CtcNetwork, recipe: Recipe, batch: Batch, memo: Memo | None = None) -> Heard:
    """Features under masks, once for each view that a loss asks for.

    ``memo`` holds what runs that train side by side have heard of this batch; what is new is added.
    """
    memo = {} if memo is None else memo
    views = max(loss.views for loss in recipe.losses)
    key = (views, network.lookahead_frames)
    if key not in memo:
        memo[key] = Heard(
            batch=batch,
            features=masked_views(network.features(batch.inputs), network, batch, recipe, views),
            frame_lens=network.frame_lens(batch.input_lens).repeat(views),
            labels=batch.labels.repeat(views, 1),
            label_lens=batch.label_lens.repeat(views),
            views=views,
        )
    return memo[key]


def masked_views(features: Tensor, network: CtcNetwork, batch: Batch, recipe: Recipe, views: int) -> Tensor:
    """Copies of ``features (N, T', F)`` under different masks: ``(views * N, T', F)``."""
    spec = recipe.augment.spec
    if spec is None:
        return torch.cat([features] * views)
    lengths = network.frame_lens(batch.input_lens) * network.subsampling_factor
    fill = network.feature_norm.mean
    return torch.cat([mask_features(features, lengths, fill, spec, batch.seeds, view) for view in range(views)])


def targets_of(
    teachers: tuple[TrainedRun, ...], recipe: Recipe, heard: Heard, step: int, blank_id: int
) -> TeacherSignals | None:
    """Ask the teachers, and combine what they say; None for a recipe without teachers."""
    if recipe.distill is None:
        return None
    batch = heard.batch
    situation = Situation(
        step=step,
        progress=step / recipe.train.steps,
        seed=recipe.seed,
        dev_error=dev_errors(teachers),
        streams=batch.streams.repeat(heard.views),
        frame_lens=heard.frame_lens,
        labels=heard.labels,
        label_lens=heard.label_lens,
        blank_id=blank_id,
    )

    def asked(teacher: TrainedRun, items: Tensor | None) -> TeacherSignals:
        if items is not None:
            return answer(teacher, recipe, heard, items)
        path = teacher.folder.path
        if path not in heard.answers:
            heard.answers[path] = answer(teacher, recipe, heard)
        return heard.answers[path]

    answers = [lambda items, teacher=teacher: asked(teacher, items) for teacher in teachers]
    return replace(recipe.distill.combine(answers, situation), wait_frames=wait_frames(teachers, recipe))


EVIDENCE_FRAMES = {False: 4, True: 12}
"""Look-ahead and delay together that suit a student, by whether a teacher sees the labels; measured on digits
(``docs/methods.md``). An Oracle Teacher reads ahead in the text, and speaks some 300 ms before its twin."""


def wait_frames(teachers: tuple[TrainedRun, ...], recipe: Recipe) -> int:
    """Frames by which a student answers later than its teachers unless the recipe says otherwise."""
    if not isinstance(recipe.model, StudentConfig):
        return 0
    needed = max(EVIDENCE_FRAMES[teacher.recipe.model.sees_labels] for teacher in teachers)
    return max(0, needed - recipe.model.lookahead_frames)


def dev_errors(teachers: tuple[TrainedRun, ...]) -> tuple[float | None, ...]:
    """Word error rate of each teacher on its dev manifest, in percent; None for one that has seen the answer."""
    return tuple(teacher.summary.get("dev", {}).get("wer") for teacher in teachers)


@torch.no_grad()
def answer(teacher: TrainedRun, recipe: Recipe, heard: Heard, items: Tensor | None = None) -> TeacherSignals:
    """What one teacher says of the batch, or of the items whose indices are given.

    The student's features reach further than the input, by its look-ahead; the teacher sees no more of that than it
    looks ahead itself. One that looks further (a guide, whose learner has the whole input) gets features of its own.
    """
    network = teacher.network
    frames = int(heard.frame_lens.max())
    reach = (frames + network.lookahead_frames) * network.subsampling_factor
    if teacher.recipe.frontend == recipe.frontend and heard.features.shape[1] >= reach:
        features = heard.features[:, :reach]
    else:
        own_rate = teacher.recipe.frontend.sample_rate == recipe.frontend.sample_rate
        batch = heard.batch if own_rate else heard.batch.as_the_teacher_hears_it()
        features = masked_views(network.features(batch.inputs), network, batch, recipe, heard.views)[:, :reach]
    lens, labels, label_lens = heard.frame_lens, heard.labels, heard.label_lens
    if items is not None:
        features, lens, labels, label_lens = features[items], lens[items], labels[items], label_lens[items]
    said = network.outputs(features, lens, labels, label_lens)
    return TeacherSignals(said.log_probs[:, :frames].float(), tuple(block[:, :frames] for block in said.hidden))


def check_teacher(teacher: TrainedRun, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Raise RecipeError unless frames and tokens of the teacher are the student's."""
    where = teacher.folder.path
    mine, theirs = recipe.frontend, teacher.recipe.frontend
    frame = mine.exact_shift() * recipe.model.subsampling_factor
    its_frame = theirs.exact_shift() * teacher.network.subsampling_factor
    if frame != its_frame:
        found = f"one frame is {float(1000 * its_frame):g} ms, the student's {float(1000 * frame):g} ms"
        raise RecipeError(f"{where}: {found}; they must agree")
    if recipe.augment.spec and mine.exact_shift() != theirs.exact_shift():
        raise RecipeError(
            f"{where}: its features come every {theirs.frame_shift_ms:g} ms, the student's every "
            f"{mine.frame_shift_ms:g} ms, so masks would not hide the same moments; give both one frame_shift_ms, or "
            "set augment.spec to null"
        )
    if teacher.vocabulary.symbols != vocabulary.symbols:
        raise RecipeError(f"{where}: its tokens differ from those of the first teacher; train both on the same texts")
