"""A piece of labelling, worked out before anything is written: teacher, items, kind, and what the store will be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kdcompress.data.text import wordings
from kdcompress.errors import LabelStoreError, RecipeError
from kdcompress.labels.answers import Answers
from kdcompress.labels.combined import CombinedTeacher
from kdcompress.labels.entries import survey
from kdcompress.labels.folder import StoreFolder
from kdcompress.labels.hearing import as_heard_by, heard_by, read_as_told
from kdcompress.labels.kinds import label_kind
from kdcompress.labels.plan import Plan, told_of
from kdcompress.labels.settings import CodebookLabels, NbestLabels, TextLabels, TopKLabels
from kdcompress.teachers.opening import open_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcompress.labels.entries import Entries
    from kdcompress.labels.kinds.base import LabelKind
    from kdcompress.labels.settings import AnyLabels
    from kdcompress.recipe import Recipe
    from kdcompress.teachers.teacher import Teacher, TeacherInfo

SHARD_ITEMS = 256
"""Entries of a shard unless told otherwise."""


@dataclass(frozen=True)
class Job:
    """What ``label`` works on."""

    folder: StoreFolder
    recipe: Recipe
    teacher: Teacher
    entries: Entries
    plan: Plan
    kind: LabelKind
    """As far as it can be built without codebooks."""
    device: torch.device

    def answers(self, kind: LabelKind | None = None) -> Answers:
        """Whoever asks the teacher."""
        return Answers(self.recipe, self.teacher, kind or self.kind, self.device)

    def with_codebooks(self, centroids: Tensor) -> Job:
        """Return the job with codebooks that are fitted."""
        kind = label_kind(self.plan.settings(), len(self.teacher.info.vocabulary), centroids)
        return replace(self, kind=kind)


def open_job(recipe: Recipe, output: Path, shard_items: int = SHARD_ITEMS, device: torch.device | None = None) -> Job:
    """Read the teachers, read the manifest through, and say what the store will be.

    Raises:
        RecipeError: there is no teacher, or not one that gives what the labels are made from.
        LabelStoreError: the teachers cannot be combined into one answer; a store named as teacher is about other data.
        RunError, TeacherError: a teacher cannot be read.
        ManifestError: the manifest cannot be used.
    """
    teacher = _teacher(recipe)
    info = teacher.info
    recipe = read_as_told(teacher, recipe)
    settings = recipe.label or _suiting(info)
    _check(info, settings)
    entries = survey(recipe.data.train, shard_items)
    plan = Plan(
        teacher=told_of(info),
        labels=settings.model_dump(mode="json"),
        manifest={"fingerprint": entries.fingerprint, "items": entries.count},
        heard=heard_by(teacher, recipe),
        shard_items=shard_items,
    )
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher.to(device)
    kind = label_kind(settings, len(info.vocabulary))
    return Job(StoreFolder(output), recipe, teacher, entries, plan, kind, device)


def _teacher(recipe: Recipe) -> Teacher:
    if recipe.distill is None:
        raise RecipeError("there is nobody to label: name a teacher with --teacher, or in a distill section")
    teachers = [open_teacher(path, wordings(recipe.data.train)) for path in recipe.distill.teachers]
    for teacher in teachers:
        teacher.check(as_heard_by(teachers[0], recipe))
    if len(teachers) == 1:
        return teachers[0]
    return CombinedTeacher(teachers, recipe.distill.combine, recipe)


def _suiting(info: TeacherInfo) -> AnyLabels:
    """What is kept of a teacher where the recipe does not say."""
    if info.text_units:
        return TextLabels(kind="units")
    return NbestLabels(kind="nbest") if info.gives == {"hypotheses"} else TopKLabels()


def _check(info: TeacherInfo, settings: AnyLabels) -> None:
    kind = label_kind(settings, len(info.vocabulary))
    if not set(kind.needs) & info.gives:
        needed, given = " or ".join(kind.needs), " and ".join(sorted(info.gives)) or "nothing"
        raise RecipeError(f"label.kind {settings.kind}: is made from {needed}, and {info.source} gives {given}")
    if isinstance(settings, CodebookLabels):
        shown = len(info.hidden_dims)
        if not -shown <= settings.teacher_layer < shown:
            raise RecipeError(
                f"label.teacher_layer {settings.teacher_layer}: there is no such block; {info.source} shows {shown}"
            )


def read_codebooks(path: Path) -> Tensor:
    """Centroids ``(C, K, D)`` of a store of codes.

    Raises:
        LabelStoreError: they cannot be read.
    """
    try:
        return load_file(path)["centroids"]
    except (OSError, SafetensorError, KeyError) as error:
        raise LabelStoreError(f"{path}: damaged ({error}); remove the store and label again") from error
