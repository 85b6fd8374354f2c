"""The beginning and the end of a store: the plan that everybody must agree on, and the index that makes it complete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kdcompress.errors import DamagedLabelsError, LabelStoreError
from kdcompress.files import file_sha256
from kdcompress.labels.folder import KIND, NO_ROOM, leftovers, no_room, write_durably
from kdcompress.labels.plan import Plan, difference
from kdcompress.labels.shard import Shard, damaged
from kdcompress.labels.table import UNLABELLED, row_dtype, table_header
from kdcompress.provenance import versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcompress.labels.answers import Labelled
    from kdcompress.labels.folder import StoreFolder
    from kdcompress.labels.kinds.base import LabelKind

REMEDY = "choose another folder, or remove this one"


def read_index(path: Path) -> dict[str, Any]:
    """Content of ``index.json``.

    Raises:
        LabelStoreError: it is missing, is no index of ours, or is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LabelStoreError(
            f"{path.parent}: no complete store of labels; repeat the `kdcompress label` that made it"
        ) from error
    except (OSError, ValueError) as error:
        raise DamagedLabelsError(f"{path}: damaged ({error}); {_again(path)}") from error
    if not isinstance(found, dict) or "checksum" not in found:
        raise LabelStoreError(f"{path}: is no index of stored labels; give the folder that `kdcompress label` wrote")
    if found["checksum"] != _checksum(found):
        raise DamagedLabelsError(f"{path}: damaged: its checksum is wrong; {_again(path)}")
    if found["format"] != Plan.format:
        raise LabelStoreError(
            f"{path}: format {found['format']}, and this version reads {Plan.format}; label again with this version"
        )
    return found


def _again(path: Path) -> str:
    return f"`kdcompress label --check {path.parent} --repair`, then repeat the command that made it: labels are kept"


def _checksum(index: dict[str, Any]) -> str:
    plain = {key: value for key, value in index.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def finished_index(folder: StoreFolder, plan: Plan) -> dict[str, Any] | None:
    """Index of a complete store with this very plan; None where there is none yet.

    Raises:
        LabelStoreError: the store there is about something else, or is damaged; or something else is there.
    """
    if folder.index.is_file():
        found = read_index(folder.index)
        _agree(folder, Plan.from_json(found), plan)
        return found
    if folder.path.exists() and not folder.plan.is_file() and not folder.shards() and _holds_something(folder.path):
        raise LabelStoreError(f"{folder.path}: is not empty and holds no labels; choose another folder")
    return None


def _holds_something(path: Path) -> bool:
    # what others make while this looks is no reason to stop
    return any(not name.name.endswith(".tmp") and name.name != "work" for name in path.iterdir())


def _agree(folder: StoreFolder, there: Plan, asked: Plan) -> None:
    if different := difference(there, asked):
        raise LabelStoreError(f"{folder.path}: holds other labels: {different}; {REMEDY}")


def settle_plan(folder: StoreFolder, plan: Plan, kind: LabelKind) -> None:
    """Write the plan, or see that the one there is the same: whoever comes first decides.

    Raises:
        LabelStoreError: labels of another plan are being made there.
    """
    folder.work.mkdir(parents=True, exist_ok=True)
    if not folder.plan.is_file():
        # after a repair there may be shards without a plan
        for number in sorted(folder.shards()):
            with suppress(DamagedLabelsError):
                Shard(folder.shard(number), kind, plan.fingerprint())
                break
        _write_plan(folder, plan)
    there = _read_plan(folder)
    if there != plan and not folder.shards() and not any(folder.work.glob("*.claim")):
        # begun, and given up before anything came of it
        folder.plan.unlink(missing_ok=True)
        folder.codebooks.unlink(missing_ok=True)
        _write_plan(folder, plan)
        there = _read_plan(folder)
    _agree(folder, there, plan)


def _write_plan(folder: StoreFolder, plan: Plan) -> None:
    """Write the plan unless there is one, whole."""
    mine = folder.work / f".plan.{os.getpid()}.{plan.fingerprint()[:12]}.json"
    write_durably(mine, (json.dumps(plan.to_json(), indent=1) + "\n").encode())
    try:
        os.link(mine, folder.plan)
    except FileExistsError:
        pass
    except OSError:  # not every file system can
        mine.replace(folder.plan)
    mine.unlink(missing_ok=True)


def _read_plan(folder: StoreFolder) -> Plan:
    try:
        return Plan.from_json(json.loads(folder.plan.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabelStoreError(f"{folder.plan}: damaged ({error}); remove that file and repeat the command") from error


def note_shard(folder: StoreFolder, number: int, content: bytes, items: Sequence[Labelled]) -> None:
    """Keep what the index will say of a shard."""
    note = {
        "file": folder.shard(number).name,
        "items": len(items),
        "left_out": sum(arrays is None for _, _, arrays in items),
        "frames": sum(frames for _, frames, _ in items),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_durably(folder.note(number), json.dumps(note).encode())


def _noted(folder: StoreFolder, number: int) -> dict[str, Any] | None:
    """The note of a shard; None where a kill came before it."""
    try:
        found: dict[str, Any] = json.loads(folder.note(number).read_text(encoding="utf-8"))
        return found if found["bytes"] == folder.shard(number).stat().st_size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def examined(folder: StoreFolder, number: int, plan: Plan, kind: LabelKind) -> dict[str, Any]:
    """Read a shard through by the checksums in itself, and return what the index says of it.

    Raises:
        LabelStoreError: it is damaged, or belongs to another store.
    """
    path = folder.shard(number)
    shard = Shard(path, kind, plan.fingerprint())
    rows = shard.rows()
    if len(rows) != len(plan.places(number)):
        raise damaged(path, f"it holds {len(rows)} items")
    for index, row in enumerate(rows):
        if row["length"] != UNLABELLED:
            shard.item(row, f"item {index + 1} of it")
    return {
        "file": path.name,
        "items": len(rows),
        "left_out": int((rows["length"] == UNLABELLED).sum()),
        "frames": int(rows["frames"].sum()),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
    }


def write_index(folder: StoreFolder, plan: Plan, kind: LabelKind) -> None:
    """Gather the item table, write the index, and drop what only the making needed.

    A shard that turns out to be damaged is removed, and there is no index: it has to be made again.

    Raises:
        LabelStoreError: there is no room.
    """
    notes = []
    for number in range(plan.shards):
        note = _noted(folder, number)
        try:
            notes.append(note or examined(folder, number, plan, kind))
        except DamagedLabelsError:
            folder.shard(number).unlink(missing_ok=True)
            return
    _write_table(folder, plan, kind)
    files = {path.name: file_sha256(path) for path in (folder.table, folder.codebooks) if path.is_file()}
    index = {
        "kind": KIND,
        **plan.to_json(),
        "frames": sum(note["frames"] for note in notes),
        "left_out": sum(note["left_out"] for note in notes),
        "versions": versions(),
        "files": files,
        "shards": notes,
    }
    content = json.dumps({**index, "checksum": _checksum(index)}, indent=1) + "\n"
    write_durably(folder.index, content.encode())
    shutil.rmtree(folder.work, ignore_errors=True)
    for path in leftovers(folder.path):
        path.unlink(missing_ok=True)


def _write_table(folder: StoreFolder, plan: Plan, kind: LabelKind) -> None:
    """Rows of all shards one after the other; written piece by piece."""
    temporary = folder.path / f".{folder.table.name}.{os.getpid()}.tmp"
    items = int(plan.manifest["items"])
    try:
        with temporary.open("wb") as file:
            file.write(table_header(kind, items))
            for number in range(plan.shards):
                file.write(Shard(folder.shard(number), kind, plan.fingerprint()).rows().tobytes())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder.table)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise no_room(folder.table, items * row_dtype(kind).itemsize) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
