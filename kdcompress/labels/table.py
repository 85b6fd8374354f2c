"""The item table: one row for each entry of the manifest, in its order; found by arithmetic, read by memory map."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.labels.kinds.base import LabelKind

UNLABELLED = -1.0
"""``length`` of an item that could not be labelled."""


def row_dtype(kind: LabelKind) -> np.dtype[np.void]:
    """Columns of the table.

    ``length`` of the item that was heard in seconds (input units where there is no audio), ``frames`` of the answer,
    for each axis of the arrays the first row in the shard and the number of rows, and ``crc32`` over the arrays and
    over the other columns.
    """
    columns: list[tuple[str, str]] = [("length", "<f4"), ("frames", "<u4")]
    for axis in axes(kind):
        columns += [(f"{axis}_start", "<u4"), *([(axis, "<u4")] if axis != "frames" else [])]
    return np.dtype([*columns, ("crc32", "<u4")])


def axes(kind: LabelKind) -> list[str]:
    """What rows of the arrays of a kind can be, each once."""
    return list(dict.fromkeys(array.axis for array in kind.layout.values()))


def checksum(row: np.void, arrays: Mapping[str, NDArray[Any]]) -> int:
    """CRC-32 over a row without its own, and over the arrays in the order of their names."""
    found = zlib.crc32(row.tobytes()[:-4])
    for name in sorted(arrays):
        found = zlib.crc32(np.ascontiguousarray(arrays[name]).data, found)
    return found


def table_header(kind: LabelKind, items: int) -> bytes:
    """First bytes of a table: of an ``.npy`` file."""
    npy: Any = np.lib.format  # untyped in some versions of numpy
    content = BytesIO()
    told = {"descr": npy.dtype_to_descr(row_dtype(kind)), "fortran_order": False, "shape": (items,)}
    npy.write_array_header_1_0(content, told)
    return content.getvalue()


def open_table(path: Path, kind: LabelKind, items: int) -> NDArray[np.void]:
    """Map a table into memory.

    Raises:
        ValueError: it is not one of so many items of this kind.
        OSError: it cannot be read.
    """
    header, dtype = table_header(kind, items), row_dtype(kind)
    with path.open("rb") as file:
        # what it must be is known; what a damaged header says is better not parsed
        if file.read(len(header)) != header or path.stat().st_size != len(header) + items * dtype.itemsize:
            raise ValueError("it is no table of these items")
    table: NDArray[np.void] = np.memmap(path, dtype=dtype, mode="r", offset=len(header), shape=(items,))
    return table


def rows_of(kind: LabelKind, items: Sequence[tuple[float, int, Mapping[str, NDArray[Any]] | None]]) -> NDArray[np.void]:
    """Rows for items that will stand one after the other in a shard.

    Args:
        kind: of the labels.
        items: length, frames and arrays of each; no arrays: it could not be labelled.
    """
    table = np.zeros(len(items), dtype=row_dtype(kind))
    starts = dict.fromkeys(axes(kind), 0)
    for index, (length, frames, arrays) in enumerate(items):
        row = table[index]
        row["length"], row["frames"] = (UNLABELLED, 0) if arrays is None else (length, frames)
        counts = {layout.axis: len(arrays[name]) if arrays else 0 for name, layout in kind.layout.items()}
        for axis, count in counts.items():
            row[f"{axis}_start"], row[axis] = starts[axis], count
            starts[axis] += count
        row["crc32"] = checksum(row, arrays or {})
    return table
