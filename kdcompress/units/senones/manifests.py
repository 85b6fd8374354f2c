"""Manifests whose references are senones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kdcompress.data.index import read_lines
from kdcompress.data.moved import moved_row
from kdcompress.data.text import wording
from kdcompress.files import replacing
from kdcompress_runtime.manifest import TEXT_FIELDS, parse_line

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.units.inventory import Inventory


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
            kept = {name: value for name, value in json.loads(line.text).items() if name not in TEXT_FIELDS}
            row = moved_row(kept, manifest.parent, output.parent)
            text = " ".join(inventory.symbols[unit] for unit in ids)
            file.write(json.dumps({**row, "id": entry.id, "text": text, "words": words}, ensure_ascii=False) + "\n")
            count, used = count + 1, used | set(ids)
    return count, used
