"""Recipes that follow on a finished run: what it teaches its int8 self, and what it teaches its pruned self."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kdcompress.losses.ctc import CtcLoss
from kdcompress.losses.frame_kl import FrameKlLoss
from kdcompress.quantization_aware import QuantizationAware
from kdcompress.recipe import TEACHER_SHARE, DistillConfig, Recipe
from kdcompress.recipe_file import load_recipe
from kdcompress.run import RunFolder, load_student

if TYPE_CHECKING:
    from pathlib import Path

RATE_SHARE = {"quantization_aware": 0.1, "pruned": 0.5}
"""Peak learning rate over that of the run: the weights are nearly right, or have lost some of their company."""
_DYNAMIC_KINDS = ("chunked_conformer",)
"""Students whose int8 files compute linear layers by ranges taken at run time."""


def quantization_aware_recipe(
    run: Path,
    *,
    steps: int,
    learning_rate: float | None = None,
    seed: int | None = None,
    scheme: Literal["static", "dynamic"] | None = None,
    range_share: float = 1.0,
) -> Recipe:
    """Recipe by which the student of a run teaches its int8 self: same data, same model, its own weights to start from.

    Teacher and student hear and answer at the same time, so targets are not delayed. ``fit`` trains it.

    Args:
        run: folder of a finished run of a student.
        steps: updates.
        learning_rate: peak; a tenth of the run's when left out.
        seed: of order and augmentation; the run's when left out.
        scheme: see ``QuantizationAware``; by the kind of student when left out.
        range_share: see there; below 1 for files that percentile or entropy calibration made.

    Raises:
        RunError: ``run`` is no finished run of a student.
    """
    kind = load_student(run).recipe.model.kind
    kept = scheme or ("dynamic" if kind in _DYNAMIC_KINDS else "static")
    section = QuantizationAware(scheme=kept, range_share=range_share)
    changes = {"steps": steps, "learning_rate": learning_rate, "seed": seed}
    return _follow_up(run, run, "quantization_aware", changes, quantization_aware=section)


def prune_recipe(
    run: Path, pruned: Path, *, steps: int, learning_rate: float | None = None, seed: int | None = None
) -> Recipe:
    """Recipe by which a run teaches what ``prune_run`` made of it. ``fit`` trains it.

    Args:
        run: the unpruned run.
        pruned: what ``prune_run`` wrote.
        steps: updates.
        learning_rate: peak; half the run's when left out.
        seed: of order and augmentation; the run's when left out.

    Raises:
        RunError: one of them is no finished run of a student.
    """
    load_student(run)
    model = load_student(pruned).recipe.model
    changes = {"steps": steps, "learning_rate": learning_rate, "seed": seed}
    return _follow_up(run, pruned, "pruned", changes, model=model)


def _follow_up(teacher: Path, start: Path, what: str, changes: dict[str, Any], **sections: Any) -> Recipe:  # noqa: ANN401
    """Recipe of ``teacher`` with the sections replaced and the ``changes`` that are not None, in place of defaults."""
    recipe = load_recipe(RunFolder(teacher).recipe)
    defaults = {"learning_rate": RATE_SHARE[what] * recipe.train.learning_rate, "seed": recipe.seed}
    chosen = defaults | {key: value for key, value in changes.items() if value is not None}
    model = sections.pop("model", recipe.model)
    train = {"steps": chosen["steps"], "learning_rate": chosen["learning_rate"], "precision": "float32"}
    changed = {
        "name": f"{recipe.name}-{what.replace('_', '-')}",
        "seed": chosen["seed"],
        # The teacher answers without dropout; the few updates there are should not be spent on noise.
        "model": model.model_copy(update={"dropout": 0.0}),
        "init": start,
        "init_encoder": None,
        "train": recipe.train.model_copy(update=train),
        "distill": DistillConfig(teachers=(teacher,)),
        "losses": (CtcLoss(weight=round(1 - TEACHER_SHARE, 6)), FrameKlLoss(weight=TEACHER_SHARE)),
        "quantization_aware": None,
        **sections,
    }
    # Through a dump, so that the sections are checked together.
    return Recipe.model_validate(recipe.model_copy(update=changed).model_dump(mode="json", by_alias=True))
