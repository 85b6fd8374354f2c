"""What labelling will take, from a few items: before hours are spent, and before a disk is full."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdcompress.errors import LabelStoreError
from kdcompress.labels.kinds import label_kind
from kdcompress.labels.settings import CodebookLabels
from kdcompress.labels.table import row_dtype

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.labels.job import Job
    from kdcompress.labels.kinds.base import Arrays, LabelKind

SAMPLE_ITEMS = 8
"""Items that are labelled to estimate."""
HEADER_BYTES = 1024
"""Of a shard, and its line in the index; rounded up."""


@dataclass(frozen=True)
class Estimate:
    """Sizes and times of a store."""

    items: int
    """Entries of the manifest."""
    hours: float | None
    """Of input, where it is measured in time; none of what follows is known better than this."""
    frames: int
    """Of the teacher."""
    bytes_per_frame: float
    """Of labels, without the item table."""
    bytes: int
    """Of the whole store."""
    seconds_per_hour: float | None
    """Computing, for an hour of input, by one process here."""
    items_per_second: float
    """Computing, by one process here."""
    seconds: float
    """Computing what is left, divided among ``processes``."""
    processes: int
    """That were started together here; others may join."""
    left: float
    """Share of the shards that is not there yet."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)

    def sentence(self) -> str:
        """Say it in one line."""
        who = "one process" if self.processes == 1 else f"{self.processes} processes"
        done = "" if self.left == 1 else f"; {100 * (1 - self.left):.0f} % is done"
        long, speed = "", f"{self.items_per_second:.1f} items a second"
        if self.hours is not None:
            long, speed = f"{self.hours:.2f} h, ", f"{self.seconds_per_hour:.1f} s for an hour of input"
        return (
            f"{self.items:,} items, {long}{self.frames:,} frames: {size(self.bytes)}, "
            f"{self.bytes_per_frame:.1f} bytes a frame; {spoken(self.seconds)} for {who} ({speed}){done}"
        )


def estimate(job: Job, processes: int = 1) -> Estimate:
    """Label a few items, and multiply.

    Raises:
        LabelStoreError: none of them could be labelled.
    """
    answers = job.answers(_countable(job))
    sample = job.entries.spread(SAMPLE_ITEMS)
    # the first call of a network takes longer than the others
    answers.of(sample[:1])
    began = time.perf_counter()
    found = [(length, frames, arrays) for length, frames, arrays in answers.of(sample) if arrays is not None]
    took = time.perf_counter() - began
    if not found:
        raise LabelStoreError(f"{job.recipe.data.train}: none of {len(sample)} items could be labelled; check the data")
    heard = sum(length for length, _, _ in found)
    frames = sum(count for _, count, _ in found)
    stored = sum(_bytes(arrays) for _, _, arrays in found)
    entries, plan = job.entries, job.plan
    seconds, timed = heard / len(found) * entries.count, job.recipe.frontend.measure == "s"
    if timed and entries.timed:
        seconds = entries.seconds * entries.count / entries.timed
    total_frames = frames * seconds / max(heard, 1e-9)
    a_frame = stored / max(frames, 1)
    around = 2 * row_dtype(job.kind).itemsize * entries.count + HEADER_BYTES * plan.shards
    left = 1 - len(job.folder.shards()) / plan.shards
    return Estimate(
        items=entries.count,
        hours=seconds / 3600 if timed else None,
        frames=round(total_frames),
        bytes_per_frame=a_frame,
        bytes=round(a_frame * total_frames + around),
        seconds_per_hour=3600 * took / max(heard, 1e-9) if timed else None,
        items_per_second=len(found) / max(took, 1e-9),
        seconds=left * seconds * took / max(heard, 1e-9) / processes,
        processes=processes,
        left=left,
    )


def _countable(job: Job) -> LabelKind:
    """A kind of the same size, where the codebooks are still to be fitted."""
    settings = job.plan.settings()
    if isinstance(settings, CodebookLabels):
        import torch

        width = job.teacher.info.hidden_dims[settings.teacher_layer]
        empty = torch.zeros(settings.codebooks, settings.entries, width)
        return label_kind(settings, len(job.teacher.info.vocabulary), empty)
    return job.kind


def _bytes(arrays: Arrays | None) -> int:
    return sum(array.nbytes for array in (arrays or {}).values())


def check_room(path: Path, found: Estimate) -> None:
    """Refuse what does not fit on the disk.

    Raises:
        LabelStoreError: with both numbers.
    """
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    free, needed = shutil.disk_usage(existing).free, found.bytes * found.left
    if needed > free:
        raise LabelStoreError(
            f"{path}: needs {size(needed)}, and {size(free)} are free on that disk; free space, choose another "
            "folder, or store less (label.kind top_k, a smaller label.top_k)"
        )


def size(number: float) -> str:
    """Return bytes as people say them."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.2f} {unit}"
    return f"{number / 1e3:.1f} kB"


def spoken(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
