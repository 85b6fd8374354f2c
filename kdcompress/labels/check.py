"""Whether a store is still what was written: every checksum, every count, every item."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from kdcompress.errors import DamagedLabelsError, LabelStoreError
from kdcompress.files import file_sha256
from kdcompress.labels.folder import StoreFolder, write_durably
from kdcompress.labels.index import read_index
from kdcompress.labels.kinds import label_kind
from kdcompress.labels.plan import Plan
from kdcompress.labels.shard import Shard
from kdcompress.labels.table import UNLABELLED, open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kdcompress.labels.kinds.base import LabelKind
    from kdcompress.teachers.teacher import Said

ITEMS_AT_ONCE = 16
"""Items that are turned into answers together."""


class Bad(NamedTuple):
    """A file that is not what was written."""

    file: str
    """Its name in the store."""
    problem: str
    """What is wrong with it."""


@dataclass(frozen=True)
class StoreCheck:
    """What was found."""

    store: str
    shards: int
    items: int
    frames: int
    left_out: int
    """Items that have no labels, because they could not be used."""
    bytes: int
    bad: tuple[Bad, ...]
    """Files that are damaged; none in a good store."""

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return not self.bad

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {**asdict(self), "bad": [one._asdict() for one in self.bad], "passed": self.passed}


def check_store(path: Path, on_progress: Callable[[int, int], None] | None = None) -> StoreCheck:
    """Read a store through.

    Args:
        path: a complete store.
        on_progress: called as ``(shards done, shards)``.

    Raises:
        LabelStoreError: there is no complete store.
    """
    folder = StoreFolder(path)
    try:
        index = read_index(folder.index)
    except DamagedLabelsError as error:
        return StoreCheck(str(path), 0, 0, 0, 0, 0, (Bad(folder.index.name, str(error)),))
    plan = Plan.from_json(index)
    kind = label_kind(plan.settings(), len(plan.teacher["vocabulary"]))
    bad = [Bad(name, problem) for name, sha in index["files"].items() if (problem := _file_problem(path / name, sha))]
    rows = None
    if not any(one.file == folder.table.name for one in bad):
        rows = open_table(folder.table, kind, int(plan.manifest["items"]))
    for number, told in enumerate(index["shards"]):
        problem = _file_problem(path / told["file"], told["sha256"])
        problem = problem or _shard_problem(folder, number, plan, kind, rows)
        if problem:
            bad.append(Bad(told["file"], problem))
        if on_progress:
            on_progress(number + 1, plan.shards)
    return StoreCheck(
        store=str(path),
        shards=plan.shards,
        items=int(plan.manifest["items"]),
        frames=index["frames"],
        left_out=index["left_out"],
        bytes=sum(told["bytes"] for told in index["shards"]),
        bad=tuple(bad),
    )


def _file_problem(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "is missing"
    return "" if file_sha256(path) == sha256 else "its SHA-256 is not the one in the index"


def _shard_problem(
    folder: StoreFolder, number: int, plan: Plan, kind: LabelKind, table: np.ndarray[Any, Any] | None
) -> str:
    """What is wrong with a shard whose bytes are right; empty for nothing."""
    try:
        shard = Shard(folder.shard(number), kind, plan.fingerprint())
        rows, places = shard.rows(), plan.places(number)
        if table is not None and rows.tobytes() != table[places.start : places.stop].tobytes():
            return f"its items are not those of {folder.table.name}"
        for said in _answers(shard, rows, kind):
            if problem := _answer_problem(said, plan):
                return problem
    except (LabelStoreError, RuntimeError, ValueError, IndexError) as error:
        return str(error)
    return ""


def _answers(shard: Shard, rows: np.ndarray[Any, Any], kind: LabelKind) -> Iterator[Said]:
    labelled = rows[rows["length"] != UNLABELLED]
    for start in range(0, len(labelled), ITEMS_AT_ONCE):
        part = labelled[start : start + ITEMS_AT_ONCE]
        items = [shard.item(row, f"item {start + index + 1} of it") for index, row in enumerate(part)]
        yield kind.decode(items, torch.from_numpy(part["frames"].astype(np.int64)), 0)


def _answer_problem(said: Said, plan: Plan) -> str:
    numbers = [part for part in (said.log_probs, said.occupancy) if part is not None]
    if any(not bool(torch.isfinite(part).all()) for part in numbers):
        return "holds numbers that are not finite"
    entries = plan.labels.get("entries")
    if said.codes is not None and entries and int(said.codes.max()) >= entries:
        return f"holds codes above {entries - 1}"
    tokens = len(plan.teacher["vocabulary"])
    if said.hypotheses is not None and said.hypotheses.labels.numel() and int(said.hypotheses.labels.max()) >= tokens:
        return f"holds tokens above {tokens - 1}"
    return ""


def repair_store(found: StoreCheck, path: Path) -> None:
    """Remove the files that ``check_store`` found bad, so that ``kdcompress label`` makes them, and only them, again.

    Raises:
        OSError: they cannot be removed.
    """
    folder = StoreFolder(path)
    bad = {one.file for one in found.bad}
    if not bad:
        return
    if folder.index.name not in bad:
        index = read_index(folder.index)
        folder.work.mkdir(exist_ok=True)
        for number, told in enumerate(index["shards"]):
            if told["file"] not in bad:
                write_durably(folder.note(number), json.dumps(told).encode())
        write_durably(folder.plan, (json.dumps(Plan.from_json(index).to_json(), indent=1) + "\n").encode())
    # from here on the store is unfinished, wherever this is interrupted
    for name in (folder.index.name, *sorted(bad), folder.table.name):
        (path / name).unlink(missing_ok=True)
