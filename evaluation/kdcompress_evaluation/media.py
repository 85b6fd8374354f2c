"""Recordings and images of single utterances inside the page, so that a reader can hear and see them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from kdcompress_evaluation.tasks import AUDIO, IMAGE, TEXT

LIMIT = 200_000
"""Bytes of one file; larger ones are left out with a word."""
SMALL = 30_000
"""Bytes of an image that is put in as it is."""
HEIGHT = 96
"""Pixels of a larger one in the page."""
TOTAL = 6_000_000
"""Bytes of all files of a page."""
_AUDIO = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".webm": "audio/webm",
}
_IMAGES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
_TYPES = {AUDIO: _AUDIO, IMAGE: _IMAGES}


@dataclass(frozen=True)
class Medium:
    """What is shown of the input of an utterance."""

    kind: str
    """``audio``, ``image``, ``text`` (a source sentence), ``again`` (it stands above), or ``none``."""
    content: str
    """A ``data:`` URI, the sentence, the path, or why there is nothing."""
    anchor: str
    """Id of the element in the page, so that a second mention can point to it."""


class Media:
    """The inputs shown in one page: each file once, within limits.

    Args:
        kind: ``audio``, ``image`` or ``text``.
        prefix: of the ids in the page.
    """

    def __init__(self, kind: str, prefix: str = "") -> None:
        self._kind, self._prefix = kind, prefix
        self._anchors: dict[str, str] = {}
        self._bytes = 0

    def show(self, value: str, inside: bool) -> Medium:
        """Return what to show of an utterance.

        Args:
            value: its input: a path, or a sentence.
            inside: put the file into the page, unless it stands there already; otherwise its path is shown.
        """
        if self._kind == TEXT:
            return Medium("text", value, "")
        if value in self._anchors:
            return Medium("again", "", self._anchors[value])
        return self._embed(value) if inside else Medium("none", value, "")

    def _embed(self, value: str) -> Medium:
        """The file as a ``data:`` URI, or why it is left out."""
        path = Path(value)
        mime = _TYPES[self._kind].get(path.suffix.lower())
        if self._kind == IMAGE:
            mime, content, why = _picture(path, mime)
        elif mime is None:
            return Medium("none", f"not shown: a browser cannot play or show {path.suffix or 'such'} files", "")
        else:
            content, why = _read(path)
        if content is None:
            return Medium("none", why, "")
        if self._bytes + len(content) > TOTAL:
            return Medium("none", f"left out: the page holds {TOTAL / 1e6:.0f} MB of such files already", "")
        self._bytes += len(content)
        anchor = self._anchors[value] = f"{self._prefix}medium-{len(self._anchors) + 1}"
        return Medium(self._kind, f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}", anchor)


def _picture(path: Path, mime: str | None) -> tuple[str, bytes | None, str]:
    """An image file as it is where it is small, else drawn anew at the height of a line; or why it cannot be shown."""
    if mime is not None and path.is_file() and path.stat().st_size <= SMALL:
        return (mime, *_read(path))
    try:
        from PIL import Image

        from kdcompress_runtime.images import COLOUR, columns_of, read_image, resized

        pixels = read_image(path, COLOUR)
        height, width = pixels.shape[:2]
        if height > HEIGHT:
            height, width = HEIGHT, columns_of(width, height, HEIGHT)
        target = io.BytesIO()
        Image.fromarray(resized(pixels, height, width)).save(target, "PNG", optimize=True)
    except (OSError, ValueError, ImportError):
        return "", None, "left out: the file could not be read when this page was written"
    if len(target.getvalue()) > LIMIT:
        return "", None, f"left out: {len(target.getvalue()) / 1e3:.0f} kB, more than {LIMIT / 1e3:.0f}"
    return "image/png", target.getvalue(), ""


def _read(path: Path) -> tuple[bytes | None, str]:
    """The file as it is, or why it cannot be shown."""
    try:
        size = path.stat().st_size
        if size > LIMIT:
            return None, f"left out: {size / 1e3:.0f} kB, more than {LIMIT / 1e3:.0f}"
        return path.read_bytes(), ""
    except (OSError, ValueError):
        return None, "left out: the file could not be read when this page was written"
