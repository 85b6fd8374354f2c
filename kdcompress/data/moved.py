"""Lines of a manifest that go into another folder: their inputs are found from there, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.byte_range import has_scheme
from kdcompress_runtime.manifest import INPUT_FIELDS, MEMBER_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH_FIELDS = tuple(name for name, kind in INPUT_FIELDS.items() if kind != "text")
"""Fields that name a file from the manifest's folder."""


def moved_row(row: Mapping[str, Any], folder: Path, to: Path) -> dict[str, Any]:
    """Return a line of a manifest in ``folder`` as it reads from the folder ``to``.

    Relative paths lead to the same files; an item that had its path for an id keeps that id.
    """
    moved = dict(row)
    for name in PATH_FIELDS:
        path = row.get(name)
        if isinstance(path, str) and path and not has_scheme(path) and not Path(path).is_absolute():
            moved[name] = Path(os.path.relpath(folder / path, to)).as_posix()
            if moved[name] != path and name not in MEMBER_FIELDS and not (row.get("id") or row.get("utt_id")):
                moved.setdefault("id", path)
    return moved
