"""A store of ``kdcompress label`` as a teacher: it has said already all that it will ever say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from kdcompress.errors import LabelStoreError
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

    def check(self, recipe: Recipe) -> None:
        """See ``Teacher.check``.

        Raises:
            LabelStoreError: the labels are about another manifest, or about items that do not move in time.
        """
        path, plan, index = self.info.source, self.store.plan, self.store.index
        if recipe.task != plan.heard["task"]:
            raise LabelStoreError(f"{path}: labels for {plan.heard['task']}, and the task is {recipe.task}")
        check_manifest(path, plan, recipe.data.train)
        longest = plan.heard["max_duration"]
        if index["left_out"] and recipe.longest > longest:
            raise LabelStoreError(
                f"{path}: {index['left_out']} items have no labels, among them those longer than {longest:g} s; "
                f"set data.max_duration to {longest:g}, or label again"
            )
        augment, image = recipe.augment, recipe.augment.image
        moved = set(augment.speed) != {1.0} or augment.lead_in_s[1] > 0
        if not self.store.kind.time_may_move and (moved or (image is not None and image.moves_time)):
            remedy = "augment.speed=[1.0] and augment.lead_in_s=[0,0]"
            if image is not None:
                remedy += ", and probability 0 for width and border of augment.image"
            raise LabelStoreError(
                f"{path}: labels of kind {plan.labels['kind']} cannot follow items that are heard faster, slower or "
                f"later; set {remedy}, or store label.kind top_k"
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
        factor, offset = batch.times[index].tolist()
        rate = batch.sample_rate or 1
        length = factor * int(batch.input_lens[index]) / rate - offset
        # one sample more or less, or one input unit where there is no audio
        if abs(length - float(row["length"])) > (TOLERANCE if batch.sample_rate else 1):
            raise LabelStoreError(
                f"{self.info.source}: entry {place + 1} of the manifest is {length:.2f} s long, and was "
                f"{row['length']:.2f} s when it was labelled; the recording was replaced: label again"
            )
        return int(row["frames"]), arrays


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
