"""Paper and colours: what a line is printed on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kdcompress.data.rendering.tone import smooth_field
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.images import read_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.data.rendering.ink import Ink
    from kdcompress.data.rendering.tone import Pixels

    Colour = NDArray[np.float32]

LEAST_CONTRAST = 70.0
"""Grey levels between ink and paper; less is hard to read once it is blurred."""
SUFFIXES = (".png", ".jpg", ".jpeg")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Backgrounds:
    """Images that lines are printed on; opened when drawn.

    Raises:
        OptionsError: the folder is not there, or holds no image.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise OptionsError(f"no such folder of backgrounds: {folder}; check --backgrounds")
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise OptionsError(f"{folder}: no image ({', '.join(SUFFIXES)}) to print on; check --backgrounds")

    def draw(self, height: int, width: int, channels: int, rng: np.random.Generator) -> Colour:
        """Cut a piece ``(H, W, C)`` out of one of the images.

        Raises:
            ImageError: it cannot be read.
        """
        image = read_image(self.files[int(rng.integers(len(self.files)))], channels)
        grow = max(height / image.shape[0], width / image.shape[1], 1.0)
        piece_height, piece_width = int(height / grow) or 1, int(width / grow) or 1
        top = int(rng.integers(image.shape[0] - piece_height + 1))
        left = int(rng.integers(image.shape[1] - piece_width + 1))
        piece = image[top : top + piece_height, left : left + piece_width]
        whole = Image.fromarray(piece[:, :, 0] if channels == 1 else piece).resize((width, height))
        return np.asarray(whole, dtype=np.float32).reshape(height, width, channels)

    def fingerprint(self) -> str:
        """SHA-256 of names and sizes of the images."""
        listed = "\n".join(f"{path.name} {path.stat().st_size}" for path in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()


def receipt_colours(channels: int, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Draw ink and paper ``(C,)``: dark on white or nearly white, at times on grey."""
    kind = rng.random()
    paper = rng.uniform(244, 256) if kind < 0.7 else rng.uniform(215, 244) if kind < 0.9 else rng.uniform(140, 215)
    ink = rng.uniform(0, 60) if rng.random() < 0.75 else rng.uniform(0, paper - LEAST_CONTRAST)
    tint = rng.normal(0, 6, (2, channels)) if channels > 1 else np.zeros((2, 1))
    return _clipped(ink + tint[0]), _clipped(paper + tint[1])


def any_colours(channels: int, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Draw ink and paper ``(C,)`` of any colours far enough apart; in two of three the ink is the darker one."""
    while True:
        pair = rng.uniform(0, 255, (2, channels)).astype(np.float32)
        light = pair @ (_LUMA if channels > 1 else np.ones(1, dtype=np.float32))
        if abs(light[0] - light[1]) > LEAST_CONTRAST:
            break
    darker, lighter = pair[np.argsort(light)]
    return (darker, lighter) if rng.random() < 2 / 3 else (lighter, darker)


def _clipped(colour: NDArray[np.float64]) -> Colour:
    return np.clip(colour, 0, 255).astype(np.float32)


def plain(paper: Colour, height: int, width: int, rng: np.random.Generator) -> Colour:
    """Paper ``(H, W, C)``: even, unevenly stained, or of a rough texture."""
    sheet = np.broadcast_to(paper, (height, width, len(paper)))
    kind = rng.random()
    if kind < 0.6:
        return sheet
    if kind < 0.8:
        return sheet - smooth_field(height, width, rng, cell=height * 1.5)[:, :, None] * np.float32(rng.uniform(10, 60))
    texture = rng.standard_normal((height, width, 1), dtype=np.float32)
    return sheet + texture * np.float32(rng.uniform(2, 10))


def printed(ink: Ink, colour: Colour, sheet: Colour) -> Pixels:
    """Put ink ``(H, W)`` of a colour ``(C,)`` on paper ``(H, W, C)``."""
    cover = ink[:, :, None]
    return (sheet + (colour - sheet) * cover).clip(0, 255).astype(np.uint8)
