"""The teachers of a recipe: opened, checked, and brought to the student's frames and tokens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kdcompress.bridge import StudentSide, build_bridge
from kdcompress.errors import RecipeError
from kdcompress.model_settings import StudentConfig
from kdcompress.targets import Source
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.teacher import dev_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from fractions import Fraction
    from pathlib import Path

    from kdcompress.losses.base import LossConfig
    from kdcompress.recipe import DistillConfig, Recipe
    from kdcompress.teachers.teacher import Teacher
    from kdcompress_runtime.vocabulary import Vocabulary

    Loaded = dict[Path, Teacher]
    """Teachers by where they were read."""

logger = logging.getLogger(__name__)


def load_teachers(recipe: Recipe, loaded: Loaded) -> tuple[Teacher, ...]:
    """Read the teachers; none without ``distill``.

    Raises:
        RunError, TeacherError, LabelStoreError: one of them cannot be read.
    """
    if recipe.distill is None:
        return ()
    for path in recipe.distill.teachers:
        if path not in loaded:
            loaded[path] = open_teacher(path)
    return tuple(loaded[path] for path in recipe.distill.teachers)


def check_teachers(recipe: Recipe, teachers: Sequence[Teacher]) -> None:
    """Refuse teachers that cannot teach this.

    Raises:
        MismatchError, LabelStoreError: one knows other inputs or other data.
        RecipeError: a schedule by accuracy over a teacher that has seen the answer.
    """
    for teacher in teachers:
        teacher.check(recipe)
    if recipe.distill and teachers:
        try:
            recipe.distill.combine.check_errors(dev_errors(teachers))
        except ValueError as error:
            raise RecipeError(f"distill.combine: {error}") from error


def bridged(
    recipe: Recipe, teachers: Sequence[Teacher], vocabulary: Vocabulary, needed: Collection[str]
) -> tuple[Source, ...]:
    """Work out how each teacher's answers become the student's.

    Raises:
        MismatchError: a difference that nothing bridges.
        RecipeError: a loss learns from something that is not left of a teacher's answers.
    """
    if recipe.distill is None:
        return ()
    side = student_side(recipe, vocabulary)
    texts_will_do = not recipe.distill.combine.frames_alone and all(
        "hypotheses" in _suits(loss) for loss in recipe.losses if loss.needs_teacher
    )
    sources = tuple(
        Source(teacher, build_bridge(side, teacher.info, needed, texts_will_do=texts_will_do)) for teacher in teachers
    )
    for source in sources:
        _check_losses(recipe, recipe.distill, source)
    return sources


def rates_of(sources: Sequence[Source]) -> list[int]:
    """Hz at which those teachers hear that are asked while training; what is stored hears nothing any more."""
    asked = (source.info.sample_rate for source in sources if source.teacher.answers_anything)
    return [rate for rate in asked if rate is not None]


def tell(sources: Sequence[Source]) -> None:
    """Log how each teacher is brought to the student's frames and tokens."""
    for source in sources:
        for sentence in source.bridge.report:
            logger.info("%s: %s", source.info.source, sentence)


def frame_of(recipe: Recipe) -> Fraction:
    """Seconds (input units where there is no audio) of a frame of the student."""
    return recipe.frontend.exact_shift() * recipe.model.subsampling_factor


def student_side(recipe: Recipe, vocabulary: Vocabulary) -> StudentSide:
    """What of a recipe decides how a teacher fits."""
    frame = frame_of(recipe)
    lookahead = frame * recipe.model.lookahead_frames if isinstance(recipe.model, StudentConfig) else None
    return StudentSide(
        vocabulary=vocabulary,
        units=recipe.data.units,
        frame=frame,
        sample_rate=recipe.frontend.sample_rate,
        lookahead=lookahead,
    )


def _check_losses(recipe: Recipe, distill: DistillConfig, source: Source) -> None:
    where, given = source.info.source, source.bridge.gives
    if distill.combine.frames_alone and "log_probs" not in given:
        raise RecipeError(
            f"distill.combine: {distill.combine.kind} combines posteriors, and {where} gives {_names(given)} here; "
            "use that teacher alone, or under switching"
        )
    for loss in recipe.losses:
        suits = _suits(loss)
        if loss.needs_teacher and not suits & given:
            raise RecipeError(
                f"losses.{loss.key}: learns from {_names(suits)}, and {where} gives {_names(given)} here; "
                f"{REMEDIES.get(min(given), 'choose another loss')}"
            )


def _suits(loss: LossConfig) -> set[str]:
    """What a loss can learn from; one that suits its teacher takes texts, too."""
    return {*loss.learns_from, *(["hypotheses"] if getattr(loss, "suit_teacher", False) else [])}


REMEDIES = {
    "codes": "use the loss codebook",
    "hypotheses": "use the loss nbest, or leave losses out",
    "occupancy": "use the loss occupancy",
}
"""What to do with a teacher that gives one thing alone."""


def _names(answers: Collection[str]) -> str:
    return " and ".join(name.replace("log_probs", "posteriors") for name in sorted(answers))
