"""A store of ``kdcompress label`` as a teacher: it has said already all that it will ever say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from kdcompress.errors import LabelStoreError
from kdcompress.labels.hearing import frontend_of, length_of
from kdcompress.labels.store import LabelStore
from kdcompress.teachers.teacher import Said, Teacher
from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcompress.data.batch import Batch
    from kdcompress.hearing import Heard
    from kdcompress.labels.kinds.base import Arrays
    from kdcompress.labels.plan import Plan
    from kdcompress.recipe import Recipe

TOLERANCE = 0.02
"""Seconds by which two readings of one recording may differ: resampling rounds."""
SHORT = 40
"""Values of settings that are shown in messages; a table of subwords is longer."""


class StoredTeacher(Teacher):
    """Labels by the places of a batch's items; masks, noise and gain are the student's alone."""

    answers_anything = False

    def __init__(self, path: Path) -> None:
        """Open a store.

        Raises:
            LabelStoreError: it is missing, unfinished or damaged.
        """
        self.store = LabelStore(path)
        self.info = self.store.plan.info(path, self.store.index["checksum"])
        heard = self.store.plan.heard
        self.frontend = frontend_of(heard)
        self.reads_sources = "measure" in heard
        self.measure = str(heard.get("measure") or getattr(self.frontend, "measure", "input units"))
        """What items that are no audio are measured in."""

    def check(self, recipe: Recipe) -> None:
        """See ``Teacher.check``.

        Raises:
            LabelStoreError: the labels are about another manifest, or about items that do not move in time.
        """
        path, plan, index = self.info.source, self.store.plan, self.store.index
        if recipe.task != plan.heard["task"]:
            raise LabelStoreError(f"{path}: labels for {plan.heard['task']}, and the task is {recipe.task}")
        check_manifest(path, plan, recipe.data.train)
        longest, measure = plan.heard["max_duration"], recipe.frontend.measure
        if index["left_out"] and recipe.longest > longest:
            raise LabelStoreError(
                f"{path}: {index['left_out']} items have no labels, among them those longer than {longest:g} "
                f"{measure}; set data.max_duration to {longest:g}, or label again"
            )
        self._check_read_alike(recipe)
        if not self.store.kind.time_may_move and (remedy := _standing_still(recipe)):
            raise LabelStoreError(
                f"{path}: labels of kind {plan.labels['kind']} cannot follow items that are heard faster, slower or "
                f"later; set {remedy}, or store label.kind top_k"
            )

    def _check_read_alike(self, recipe: Recipe) -> None:
        """Refuse a student that counts the units of an item otherwise than the teacher did."""
        its = self.frontend
        for name in () if its is None else its.counted_by:
            there, here = getattr(its, name), getattr(recipe.frontend, name, None)
            if there != here:
                differ = f"{there} there, {here} here" if len(str(there)) < SHORT else "another one here"
                raise LabelStoreError(
                    f"{self.info.source}: labels of items that were read otherwise: frontend.{name} is {differ}; leave "
                    f"frontend.{name} out or make it the same, or label again"
                )

    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``; every item is read once.

        Raises:
            LabelStoreError: an item has no labels, or they are damaged, or about a recording of another length.
        """
        batch, device = heard.batch, heard.labels.device
        chosen = torch.arange(len(batch.texts)).repeat(heard.views)
        if items is not None:
            chosen = chosen[items.cpu()]
        read = {row: self._read(batch, row) for row in dict.fromkeys(chosen.tolist())}
        frames, arrays = zip(*(read[row] for row in chosen.tolist()), strict=True)
        said = self.store.kind.decode(arrays, torch.tensor(frames, device=device), heard.labels.shape[1])
        times = batch.times[chosen]
        as_it_was = torch.tensor([1.0, 0.0], dtype=times.dtype)
        return said if bool((times == as_it_was).all()) else replace(said, times=times.to(device))

    def _read(self, batch: Batch, index: int) -> tuple[int, Arrays]:
        """Frames and arrays of an item of the batch, which must be as long as it was when it was labelled."""
        place = int(batch.items[index])
        row, arrays = self.store.item(place)
        length = length_of(batch, index, self)
        # resampling rounds; where there is no audio, one input unit more or less
        if abs(length - float(row["length"])) > (TOLERANCE if batch.sample_rate else 1):
            measure, what = ("s", "recording") if batch.sample_rate else (self.measure, "input")
            raise LabelStoreError(
                f"{self.info.source}: entry {place + 1} of the manifest is {length:.2f} {measure} long, and was "
                f"{row['length']:.2f} {measure} when it was labelled; the {what} was replaced: label again"
            )
        return int(row["frames"]), arrays


def _standing_still(recipe: Recipe) -> str:
    """Settings under which items stay where they were in time; empty where they do."""
    augment, can = recipe.augment, recipe.frontend.augments
    if "speed" in can and (set(augment.speed) != {1.0} or augment.lead_in_s[1] > 0):
        return "augment.speed=[1.0] and augment.lead_in_s=[0,0]"
    if "image" in can and augment.image is not None and augment.image.moves_time:
        return "probability 0 for width and border of augment.image"
    return ""


def check_manifest(store: Path, plan: Plan, manifest: Path) -> None:
    """Refuse labels that are about another manifest.

    Raises:
        LabelStoreError: they are.
    """
    if manifest_fingerprint(manifest) != plan.manifest["fingerprint"]:
        raise LabelStoreError(
            f"{store}: labels of another manifest (its {plan.manifest['items']} ids and texts are not those of "
            f"{manifest}, in this order); label this one with `kdcompress label`, or train on that one"
        )
