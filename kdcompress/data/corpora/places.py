"""A place is the number of a manifest and the offset of a line in it, as one integer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Places = TypeVar("Places", int, NDArray[np.int64])

OFFSET_BITS = 48


def place_of(split: int, offset: int) -> int:
    """Return the place of the line that begins at byte ``offset`` of manifest number ``split``."""
    return split << OFFSET_BITS | offset


def split_number(place: Places) -> Places:
    """Return the number of the manifest."""
    return place >> OFFSET_BITS


def offset_of(place: int) -> int:
    """Return the byte at which the line begins."""
    return place & ((1 << OFFSET_BITS) - 1)


def line_at(manifests: Mapping[str, Path], place: int) -> dict[str, Any]:
    """Read one line of the manifests."""
    with list(manifests.values())[split_number(place)].open("rb") as file:
        file.seek(offset_of(place))
        row: dict[str, Any] = json.loads(file.readline())
        return row


def lines_with_places(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of every line."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            yield offset, line
            offset += len(line)
