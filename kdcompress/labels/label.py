"""Labelling: teachers answer for every item of a manifest, once. Any number of processes, killed at any moment.

A store is made of shards; each is claimed, made, and moved into place whole. Whoever finds all of them done writes the
index. Nothing in a store says who made which part, so it is the same however it came about.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from kdcompress.errors import LabelStoreError
from kdcompress.interrupt import DeferredInterrupt
from kdcompress.labels.claims import Claims
from kdcompress.labels.estimate import check_room, estimate
from kdcompress.labels.folder import write_durably
from kdcompress.labels.index import finished_index, note_shard, settle_plan, write_index
from kdcompress.labels.job import SHARD_ITEMS, Job, open_job, read_codebooks
from kdcompress.labels.settings import CodebookLabels
from kdcompress.labels.shard import shard_bytes
from kdcompress.layers import frame_mask
from kdcompress.losses.codebook import fit_codebooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from kdcompress.labels.estimate import Estimate
    from kdcompress.recipe import Recipe

    Progress = Callable[[int, int], None]

POLL = 0.5
"""Seconds between looks at what others do."""
FIT_ITEMS = 128
"""Items, evenly over the manifest, that codebooks are fitted to."""


def label(
    recipe: Recipe,
    output: Path,
    *,
    shard_items: int = SHARD_ITEMS,
    on_progress: Progress | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
    claims: Claims | None = None,
) -> dict[str, Any]:
    """Store what the recipe's teachers say of its training items, and return the content of ``index.json``.

    Several processes may call this at once, on machines that share the folder; under ``torchrun`` each takes its part.
    All return when the store is complete. A store that is there already is returned as it is; an unfinished one goes
    on where it stopped. After Ctrl-C (or SIGTERM) the batch is finished, its shard dropped and
    ``KeyboardInterrupt`` raised.

    Args:
        recipe: names teachers, manifest (``data.train``) and, as ``label``, what to store.
        output: folder of the store; made if it is not there.
        shard_items: entries of the manifest for each file.
        on_progress: called as ``(items done, items)``; done are those of finished shards, whoever made them.
        on_estimate: called before the first item is labelled, if there is one left.
        claims: how work is shared out, for tests.

    Raises:
        LabelStoreError: the folder holds something else, or labels of another teacher, manifest or kind; the disk has
            not enough room; what was asked for cannot be stored.
        RecipeError, RunError, TeacherError: the teachers cannot be used.
        ManifestError, AudioError, VocabularyError: the data cannot be used.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    job = open_job(recipe, output, shard_items, _device())
    with DeferredInterrupt() as interrupt:

        def stop() -> None:
            if interrupt.requested:
                raise KeyboardInterrupt

        if (index := finished_index(job.folder, job.plan)) is not None:
            return index
        if rank == 0:
            found = estimate(job, world)
            if on_estimate:
                on_estimate(found)
            check_room(output, found)
        stop()
        settle_plan(job.folder, job.plan, job.kind)
        return _Work(job, claims or Claims(job.folder.work), stop, on_progress).until_done(rank, world)


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


class _Work:
    """One process's part."""

    def __init__(self, job: Job, claims: Claims, stop: Callable[[], None], on_progress: Progress | None) -> None:
        self.job, self.claims, self.stop, self.on_progress = job, claims, stop, on_progress

    def until_done(self, rank: int, world: int) -> dict[str, Any]:
        """Make shards until there is none left to make, then see that there is an index."""
        folder, plan = self.job.folder, self.job.plan
        first = rank * plan.shards // world
        order = [*range(first, plan.shards), *range(first)]
        self._codebooks()
        while True:
            if index := finished_index(folder, plan):
                shutil.rmtree(folder.work, ignore_errors=True)
                self._report(plan.shards)
                return index
            there = folder.shards()
            left = [number for number in order if number not in there]
            self._report(plan.shards - len(left))
            made = [self._made(number) for number in left]
            if not (any(made) if left else self._indexed()):
                self.stop()
                time.sleep(POLL)

    def _codebooks(self) -> None:
        """Fit the codebooks, or wait until someone else has."""
        settings, path = self.job.plan.settings(), self.job.folder.codebooks
        if not isinstance(settings, CodebookLabels):
            return
        while not path.is_file():
            self.stop()
            if (claim := self.claims.take("codebooks")) is None:
                time.sleep(POLL)
                continue
            with claim:
                if not path.is_file():
                    write_durably(path, save({"centroids": self._fitted(settings)}))
        self.job = self.job.with_codebooks(read_codebooks(path))

    def _fitted(self, settings: CodebookLabels) -> Tensor:
        frames = []
        for _, said in self.job.answers().said(self.job.entries.spread(FIT_ITEMS)):
            self.stop()
            block = said.hidden[settings.teacher_layer]
            frames.append(block[frame_mask(said.frame_lens, block.shape[1])].float())
        if not frames:
            raise LabelStoreError(f"{self.job.recipe.data.train}: no item to fit codebooks to; check the data")
        return fit_codebooks(torch.cat(frames), settings.codebooks, settings.entries, self.job.recipe.seed).cpu()

    def _report(self, shards: int) -> None:
        if self.on_progress:
            plan = self.job.plan
            items = int(plan.manifest["items"])
            self.on_progress(min(shards * plan.shard_items, items), items)

    def _made(self, number: int) -> bool:
        """Make a shard, unless it is there by now, or someone else is at it."""
        self.stop()
        folder = self.job.folder
        if folder.shard(number).is_file() or (claim := self.claims.take(f"{number:06d}")) is None:
            return False
        with claim:
            if folder.shard(number).is_file():
                return True
            places = self.job.plan.places(number)
            entries = list(zip(places, self.job.entries.of_block(number), strict=True))
            found = self.job.answers().of(entries, self.stop)
            content = shard_bytes(self.job.kind, found, self.job.plan.fingerprint())
            write_durably(folder.shard(number), content)
            with suppress(FileNotFoundError):  # whoever took this over was faster, and the store is complete
                note_shard(folder, number, content, found)
        self._report(len(folder.shards()))
        return True

    def _indexed(self) -> bool:
        """Write the index, unless someone else is at it."""
        claim = self.claims.take("index")
        if claim is None:
            return False
        with claim:
            if not self.job.folder.index.is_file():
                write_index(self.job.folder, self.job.plan, self.job.kind)
        return True
