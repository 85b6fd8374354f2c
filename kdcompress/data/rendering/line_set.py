"""A folder of rendered lines: images in folders of 1,000 and a manifest; a stopped command goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (a NamedTuple shows it)
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from PIL import Image
from PIL import __version__ as pillow_version

from kdcompress.data.prepared import SETTINGS_FILE, PreparedFolder
from kdcompress.data.rendering.renderer import RENDERING_VERSION
from kdcompress.files import write_text
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcompress.data.rendering.renderer import Rendered, Renderer

    Progress = Callable[[int, int], None]

MANIFEST = "train.jsonl"
PART = ".part.jsonl"
FOLDER_ITEMS = 1000
JPEG_QUALITY = 92
MOST = 100_000_000


class LineSet(NamedTuple):
    """What is written where."""

    output: Path
    lines: int
    seed: int = 1
    format: Literal["jpg", "png"] = "jpg"


def write_lines(renderer: Renderer, wanted: LineSet, on_progress: Progress | None = None) -> Path:
    """Write lines 0 to ``count - 1`` of a seed as images, and ``train.jsonl``.

    Lines are written to ``.NAME.partial`` beside the output, which is moved into place when it is whole. Every 1,000
    lines their part of the manifest is kept: the same command goes on after the last of them.

    Args:
        renderer: draws the lines.
        wanted: output folder, how many lines, their seed and format.
        on_progress: called with lines done and lines in all.

    Returns:
        Path of the manifest. A line has image_filepath, text, width, height and font.

    Raises:
        OptionsError: count or seed make no sense; the output holds something else, or was made with other settings;
            texts and fonts do not fit.
        OSError: it cannot be written, or the disk is full.
    """
    if not 0 < wanted.lines <= MOST:
        raise OptionsError(f"--count must be 1 to {MOST:,}, found {wanted.lines}")
    if wanted.seed < 0:
        raise OptionsError(f"--seed must be 0 or more, found {wanted.seed}")
    folder = PreparedFolder(wanted.output, _settings(renderer, wanted))
    if folder.is_ready():
        return wanted.output / MANIFEST
    renderer(wanted.seed, 0)  # texts and fonts that do not fit are told before anything is written
    if wanted.output.exists():
        wanted.output.rmdir()  # it is empty
    building = wanted.output.with_name(f".{wanted.output.name}.partial")
    _begin(building, folder)
    if not (building / MANIFEST).is_file():
        firsts = range(0, wanted.lines, FOLDER_ITEMS)
        parts = [_write_part(renderer, building, wanted, first, on_progress) for first in firsts]
        write_text(building / MANIFEST, "".join(part.read_text(encoding="utf-8") for part in parts))
    for part in building.glob(f"*{PART}"):
        part.unlink()
    building.replace(wanted.output)
    return wanted.output / MANIFEST


def _settings(renderer: Renderer, wanted: LineSet) -> dict[str, Any]:
    return {
        "kind": "rendered lines",
        "version": RENDERING_VERSION,
        "pillow": pillow_version,
        **{name: getattr(wanted, name) for name in ("lines", "seed", "format")},
        **renderer.settings(),
    }


def _begin(building: Path, folder: PreparedFolder) -> None:
    """Go on with what is there where it follows from the same settings.

    Raises:
        OptionsError: it does not.
    """
    marker = building / SETTINGS_FILE
    content = json.dumps({**folder.settings, "fingerprint": folder.fingerprint()}, indent=2) + "\n"
    if marker.is_file():
        PreparedFolder(building, folder.settings).is_ready()
    else:
        building.mkdir(parents=True, exist_ok=True)
        write_text(marker, content)


def _write_part(renderer: Renderer, building: Path, wanted: LineSet, first: int, on_progress: Progress | None) -> Path:
    """Write up to 1,000 lines unless that was done; returns their part of the manifest."""
    name = f"{first // FOLDER_ITEMS:05d}"
    part, folder = building / f"{name}{PART}", building / "images" / name
    last = min(first + FOLDER_ITEMS, wanted.lines)
    if not part.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for number in range(first, last):
            line = renderer(wanted.seed, number)
            path = folder / f"{number:08d}.{wanted.format}"
            save_line(line, path)
            rows.append(json.dumps(_row(line, path.relative_to(building)), ensure_ascii=False) + "\n")
            if on_progress and number % 50 == 49:
                on_progress(number + 1, wanted.lines)
        write_text(part, "".join(rows))
    if on_progress:
        on_progress(last, wanted.lines)
    return part


def _row(line: Rendered, path: Path) -> dict[str, Any]:
    height, width = line.image.shape[:2]
    return {
        "image_filepath": path.as_posix(),
        "text": line.text,
        "width": width,
        "height": height,
        "font": line.font,
    }


def save_line(line: Rendered, path: Path) -> None:
    """Write the image of a line; the suffix says how."""
    picture = Image.fromarray(line.image[:, :, 0] if line.image.shape[2] == 1 else line.image)
    picture.save(path, quality=JPEG_QUALITY) if path.suffix == ".jpg" else picture.save(path)
