"""One file of a store: the labels of consecutive entries of the manifest, as safetensors."""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from kdcompress.errors import DamagedLabelsError, LabelStoreError
from kdcompress.labels.table import UNLABELLED, axes, checksum, row_dtype, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.labels.kinds.base import Arrays, LabelKind

COLUMN = "item."
"""Before the names of the columns of the item table."""
DTYPES = {"F16": "<f2", "F32": "<f4", "U8": "|u1", "U16": "<u2", "U32": "<u4"}
"""Of safetensors, as numpy writes them."""


def shard_bytes(kind: LabelKind, items: Sequence[tuple[float, int, Arrays | None]], plan_fingerprint: str) -> bytes:
    """Content of a shard; see ``rows_of`` for ``items``. The same items give the same bytes."""
    rows = rows_of(kind, items)
    tensors: dict[str, NDArray[Any]] = {
        f"{COLUMN}{name}": np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()
    }
    for name, layout in kind.layout.items():
        empty = np.zeros((0, *layout.shape), dtype=layout.dtype)
        tensors[name] = np.concatenate([empty, *(arrays[name] for _, _, arrays in items if arrays)])
    content: bytes = save(tensors, metadata={"plan": plan_fingerprint})
    return content


class Shard:
    """A shard on disk, read by memory map; nothing is read before it is asked for."""

    def __init__(self, path: Path, kind: LabelKind, plan_fingerprint: str) -> None:
        """Open it.

        Raises:
            DamagedLabelsError: it is missing, or cut short, or holds something else.
            LabelStoreError: it belongs to a store with another plan.
        """
        self.path, self.kind = path, kind
        try:
            told, start = self._header()
            plan = told["__metadata__"]["plan"]
            self._arrays = {} if plan != plan_fingerprint else self._views(told, start)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, f"it cannot be read ({error or type(error).__name__})") from error
        if plan != plan_fingerprint:
            raise LabelStoreError(
                f"{path}: belongs to a store of other labels; remove it, or repeat the command that made it"
            )
        for name, (dtype, shape) in self._expected().items():
            found = self._arrays[name]
            if found.dtype != np.dtype(dtype) or found.shape[1:] != shape:
                raise damaged(path, f"{name} is {found.dtype}{list(found.shape)} there")

    def _header(self) -> tuple[dict[str, Any], int]:
        """What the file says of its arrays, and where these begin."""
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(self._map[:8], "little")
        told: dict[str, Any] = json.loads(self._map[8:start])
        return told, start

    def _views(self, told: dict[str, Any], start: int) -> dict[str, NDArray[Any]]:
        return {name: self._view(told[name], start) for name in self._expected()}

    def _expected(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        columns = row_dtype(self.kind)
        rows = {f"{COLUMN}{name}": (columns[name], ()) for name in columns.names or ()}
        return {**rows, **{name: (np.dtype(one.dtype), one.shape) for name, one in self.kind.layout.items()}}

    def _view(self, told: dict[str, Any], start: int) -> NDArray[Any]:
        first, end = told["data_offsets"]
        dtype = np.dtype(DTYPES[told["dtype"]])
        flat = np.frombuffer(self._map, dtype, count=(end - first) // dtype.itemsize, offset=start + first)
        return flat.reshape(told["shape"])

    def rows(self) -> NDArray[np.void]:
        """Its part of the item table."""
        found = np.zeros(len(self._arrays[f"{COLUMN}length"]), dtype=row_dtype(self.kind))
        for name in found.dtype.names or ():
            found[name] = self._arrays[f"{COLUMN}{name}"]
        return found

    def item(self, row: np.void, name: str) -> Arrays:
        """Arrays of the item that a row of the item table describes; views, not copies.

        Raises:
            DamagedLabelsError: they are not what was written; ``name`` says which item it is.
            LabelStoreError: it was not labelled.
        """
        if row["length"] == UNLABELLED and checksum(row, {}) == row["crc32"]:
            raise LabelStoreError(
                f"{self.path}: {name} has no labels: it could not be read, or was too long, when the others were "
                "labelled; take it out of the manifest, or set data.max_duration to what it was then"
            )
        bounds = {axis: (int(row[f"{axis}_start"]), int(row[axis])) for axis in axes(self.kind)}
        found = {}
        for key, layout in self.kind.layout.items():
            start, count = bounds[layout.axis]
            found[key] = self._arrays[key][start : start + count]
        if checksum(row, found) != row["crc32"]:
            raise damaged(self.path, f"the checksum of {name} is wrong")
        return found


def damaged(path: Path, problem: str) -> DamagedLabelsError:
    """Describe a file that is not what was written, and the remedy."""
    return DamagedLabelsError(
        f"{path}: damaged: {problem}; find all that is with `kdcompress label --check {path.parent}`, and with "
        "--repair let `kdcompress label` make it again"
    )
