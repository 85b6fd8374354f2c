"""Fonts on this machine, and which of them can show a text."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageFont

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts")
BUILT_IN = "builtin"
"""Name of the font that comes with Pillow."""
SUFFIXES = (".ttf", ".otf")
PACKAGES = "fonts-dejavu fonts-liberation fonts-freefont-ttf"
"""Of Debian and Ubuntu."""
PROBE_SIZE = 16
_ABSENT = "\U0010fffe"
"""No font has a glyph for it: what is drawn stands for whatever a font lacks."""


class FontSet:
    """Fonts to draw with; the same folders with the same files always give the same choice.

    Args:
        folders: where fonts are looked for, and in all folders below; font files; or ``builtin``, the font that comes
            with Pillow. The folders of the system when empty.

    Raises:
        OptionsError: a folder is not there, or there is no font that can be opened.
    """

    def __init__(self, folders: Sequence[str | Path] = ()) -> None:
        self.names = _found(folders)
        self._weights = [_weight(name) for name in self.names]
        self._shown: dict[str, dict[str, bool]] = {name: {} for name in self.names}

    def __len__(self) -> int:
        return len(self.names)

    def draw(self, text: str, rng: np.random.Generator) -> str | None:
        """Name of a font that has every character of a text; None where there is none.

        The plain ones, and those of one width or narrow ones, as printers have them, are drawn more often.
        """
        left = dict(enumerate(self._weights))
        while left:
            shares = np.cumsum(list(left.values()))
            place = int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))
            number = list(left)[min(place, len(left) - 1)]
            if self.shows(self.names[number], text):
                return self.names[number]
            del left[number]
        return None

    def shows(self, name: str, text: str) -> bool:
        """Say whether a font has every character of a text."""
        known = self._shown[name]
        for character in text:
            if character not in known:
                known[character] = _has(name, character)
            if not known[character]:
                return False
        return True

    def fingerprint(self) -> str:
        """SHA-256 of names and contents of the fonts."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(Path(name).name.encode())
            if name != BUILT_IN:
                digest.update(Path(name).read_bytes())
        return digest.hexdigest()


@lru_cache(maxsize=2048)
def open_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Open a font at a size in pixels; opened ones are kept.

    Raises:
        OSError: it cannot be opened.
    """
    if name == BUILT_IN:
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise OSError("Pillow was built without FreeType")
        return font
    return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)


def font_label(name: str) -> str:
    """Write a font as manifests have it: the name of its file."""
    return Path(name).stem


def _found(folders: Sequence[str | Path]) -> list[str]:
    places = [Path(folder) for folder in folders if str(folder) != BUILT_IN]
    for place in places:
        if not place.exists():
            raise OptionsError(f"no such folder of fonts: {place}; check --fonts")
    files: set[Path] = set()
    for place in places or ([] if folders else SYSTEM_FOLDERS):
        candidates = [place] if place.is_file() else place.rglob("*")
        files.update(path.absolute() for path in candidates if path.suffix.lower() in SUFFIXES)
    # by name, not by path: the same fonts in another folder give the same lines
    ordered = [str(path) for path in sorted(files, key=lambda path: (path.name, str(path)))]
    names = [name for name in ordered if _opens(name)]
    if any(str(folder) == BUILT_IN for folder in folders):
        names.append(BUILT_IN)
    if not names:
        where = ", ".join(map(str, places or SYSTEM_FOLDERS))
        raise OptionsError(
            f"no font (.ttf or .otf) that can be opened in {where}; install some, on Debian with "
            f"`apt-get install {PACKAGES}`, name a folder with --fonts, or take Pillow's own with --fonts {BUILT_IN}"
        )
    return names


def _opens(name: str) -> bool:
    """Say whether a font can be opened and has the letters of English."""
    try:
        return all(_has(name, letter) for letter in "Aa0")
    except OSError:
        return False


def _has(name: str, character: str) -> bool:
    if character.isspace():
        return True
    font = open_font(name, PROBE_SIZE)
    mask, absent = font.getmask(character), font.getmask(_ABSENT)
    return mask.getbbox() is not None and (mask.size != absent.size or bytes(mask) != bytes(absent))


def _weight(name: str) -> float:
    label = Path(name).stem.lower()
    weight = 1.0
    if any(word in label for word in ("mono", "narrow", "condensed", "courier", "typewriter", "ocr")):
        weight *= 2.0
    if any(word in label for word in ("italic", "oblique", "extralight", "serif")):
        weight *= 0.3
    return weight
