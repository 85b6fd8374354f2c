"""Manifests whose references are senones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress.data.index import read_lines
from kdcompress.data.text import wording
from kdcompress.files import replacing
from kdcompress_runtime.byte_range import has_scheme
from kdcompress_runtime.manifest import TEXT_FIELDS, parse_line

if TYPE_CHECKING:
    from kdcompress.units.inventory import Inventory

PATHS = ("audio_filepath", "image_filepath", "feature_filepath", "feature_archive")
"""Fields that name a file from the manifest's folder."""


def write_unit_manifest(manifest: Path, output: Path, inventory: Inventory) -> tuple[int, set[int]]:
    """Copy a manifest: its text becomes the symbols of the units with single blanks, and ``words`` keeps the words.

    Relative paths are made relative to the new place. With ``data.units: words`` each symbol is one token.

    Returns:
        Items written, and the ids of the units that occur.

    Raises:
        ManifestError: a line cannot be read.
        VocabularyError: a text cannot be written in the units.
    """
    count, used = 0, set[int]()
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in read_lines(manifest):
            where = f"{manifest}, line {line.line_number}"
            entry = parse_line(line.text, where=where, folder=manifest.parent)
            words = wording(entry)
            ids = inventory.spell(words, where).ids
            row = _moved(json.loads(line.text), manifest.parent, output.parent)
            text = " ".join(inventory.symbols[unit] for unit in ids)
            file.write(json.dumps({**row, "id": entry.id, "text": text, "words": words}, ensure_ascii=False) + "\n")
            count, used = count + 1, used | set(ids)
    return count, used


def _moved(row: dict[str, Any], folder: Path, to: Path) -> dict[str, Any]:
    """The row without its reference, its paths from the new folder."""
    moved = {name: value for name, value in row.items() if name not in TEXT_FIELDS}
    for name in PATHS:
        path = row.get(name)
        if isinstance(path, str) and not has_scheme(path) and not Path(path).is_absolute():
            moved[name] = Path(os.path.relpath(folder / path, to)).as_posix()
    return moved
