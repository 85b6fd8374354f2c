"""Images of lines that others labelled: a list of names and texts becomes a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kdcompress.files import write_text
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[int, int], None]


def import_lines(listing: Path, output: Path, on_progress: Progress | None = None) -> Path:
    """Write ``train.jsonl`` from a list such as ICDAR's ``gt.txt``; images stay where they are, and each is opened.

    Args:
        listing: a line is ``image.png, "text"``, or name and text with a tab between, in UTF-8; names are relative to
            the list.
        output: folder for the manifest.
        on_progress: called with images looked at and images in all.

    Returns:
        Path of the manifest.

    Raises:
        OptionsError: the list is missing, empty, no UTF-8, or a line is not of this form; or the manifest is there.
        ImageError: an image is missing or cannot be read.
    """
    manifest = output / "train.jsonl"
    if manifest.exists():
        raise OptionsError(f"{manifest} is there; name another folder, or remove it")
    pairs, rows = list(_pairs(listing)), []
    for done, (name, text) in enumerate(pairs, start=1):
        path = (listing.parent / name).absolute()
        height, width = read_image(path).shape[:2]
        row = {"image_filepath": str(path), "id": name, "text": text, "width": width, "height": height}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
        if on_progress and (done % 100 == 0 or done == len(pairs)):
            on_progress(done, len(pairs))
    write_text(manifest, "".join(rows))
    return manifest


def _pairs(listing: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of a list."""
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise OptionsError(f"no such list: {listing}; check --from-gt") from error
    except UnicodeDecodeError as error:
        raise OptionsError(f"{listing}: no UTF-8 text (byte {error.start}); convert it") from error
    if not any(line.strip() for line in lines):
        raise OptionsError(f"{listing}: is empty; it needs a line for each image")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _pair(line, f"{listing}, line {number}")


def _pair(line: str, where: str) -> tuple[str, str]:
    name, tab, text = line.partition("\t")
    if tab:
        return name.strip(), text.strip()
    name, comma, quoted = line.partition(",")
    quoted = quoted.strip()
    if not comma or len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"':
        raise OptionsError(f'{where}: expected `image.png, "text"`, or name and text with a tab between; mend the line')
    return name.strip(), quoted[1:-1].replace('\\"', '"').replace("\\\\", "\\")
