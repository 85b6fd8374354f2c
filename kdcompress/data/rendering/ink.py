"""Coverage of ink: a text drawn with a font, and what printers do to it. Values 0 (paper) to 1 (ink), float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kdcompress.data.rendering.fonts import open_font
from kdcompress.data.rendering.tone import smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ink = NDArray[np.float32]


class Setting(NamedTuple):
    """How a line is set; lengths are shares of the size of the font."""

    font: str
    size: int
    """Pixels."""
    spacing: float = 0.0
    """Added between characters."""
    tight: bool = True
    """Whether the image ends at the ink, or at the height that the font gives every line."""
    margins: tuple[float, float, float, float] = (0.1, 0.1, 0.1, 0.1)
    """Left, top, right, bottom; cut off where below 0."""
    underline: float = 0.0
    """Thickness."""
    above: str = ""
    """Text of the line before, of which the lower end is seen."""
    below: str = ""
    overlap: float = 0.0
    """How much of the neighbours is seen."""


def drawn(text: str, setting: Setting) -> Ink:
    """Draw a line ``(H, W)``: the text, its underline, and the ends of its neighbours."""
    font, size = open_font(setting.font, setting.size), setting.size
    ascent, descent = font.getmetrics()
    places, advance = _places(text, setting)
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    if not setting.tight:
        top, bottom, left = -ascent, descent, 0
    margin_left, margin_top, margin_right, margin_bottom = (round(part * size) for part in setting.margins)
    x, y = margin_left - left, margin_top - top
    width = max(2, int(margin_left - left + max(advance, right) + margin_right))
    height = max(4, int(y + bottom + margin_bottom))
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    for place, part in places:
        draw.text((x + place, y), part, fill=255, font=font, anchor="ls")
    if setting.underline:
        line = y + size * 0.12
        draw.rectangle((x, line, x + advance, line + max(0, setting.underline * size - 1)), fill=255)
    if setting.above:
        seen = font.getbbox(setting.above, anchor="ls")[3]
        draw.text((x, setting.overlap * size - seen), setting.above, fill=255, font=font, anchor="ls")
    if setting.below:
        seen = font.getbbox(setting.below, anchor="ls")[1]
        draw.text((x, height - setting.overlap * size - seen), setting.below, fill=255, font=font, anchor="ls")
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


def _places(text: str, setting: Setting) -> tuple[list[tuple[float, str]], float]:
    """What is drawn where, from left to right, and where the line ends."""
    font = open_font(setting.font, setting.size)
    if not setting.spacing:
        return [(0.0, text)], font.getlength(text)
    places, place, gap = [], 0.0, setting.spacing * setting.size
    for character in text:
        places.append((place, character))
        place += font.getlength(character) + gap
    return places, place - gap


def dotted(ink: Ink, rows: int, rng: np.random.Generator) -> Ink:
    """Print ``(H, W)`` with needles: ``rows`` rows of round dots."""
    height, width = ink.shape
    columns = max(1, round(width * rows / height))
    points = np.asarray(Image.fromarray(ink).resize((columns, rows), Image.Resampling.BOX))
    points = np.clip((points - 0.25) * 3, 0, 1) * rng.uniform(0.8, 1, points.shape).astype(np.float32)
    across = (np.arange(4, dtype=np.float32) - 1.5) ** 2
    dot = np.clip(rng.uniform(1.6, 2.2) - np.sqrt(across[:, None] + across[None]), 0, 1).astype(np.float32)
    printed: Ink = np.kron(points, dot)
    return printed


def faded(ink: Ink, loss: float, rng: np.random.Generator) -> Ink:
    """Let ``(H, W)`` lack ink in blotches, at the worst places the share ``loss``."""
    height, width = ink.shape
    return ink * (1 - np.float32(loss) * smooth_field(height, width, rng, cell=height * rng.uniform(0.15, 1.0)))


def streaked(ink: Ink, share: float, rng: np.random.Generator) -> Ink:
    """Let some columns of ``(H, W)`` lack ink, as dead dots of a thermal head do."""
    dead = rng.random(ink.shape[1]) < share
    return ink * np.where(dead, rng.random(ink.shape[1]) * 0.7, 1.0).astype(np.float32)[None]


def combed(ink: Ink, loss: float, rng: np.random.Generator) -> Ink:
    """Let every second or third row or column of ``(H, W)`` lack the share ``loss``: dots that do not touch."""
    changed, step = ink.copy(), int(rng.integers(2, 4))
    lines = changed[::step] if rng.random() < 0.5 else changed[:, ::step]
    lines *= np.float32(1 - loss)
    return changed


def grainy(ink: Ink, loss: float, rng: np.random.Generator) -> Ink:
    """Let single pixels of ``(H, W)`` lack ink up to the share ``loss``, as on rough paper."""
    return ink * (1 - np.float32(loss) * rng.random(ink.shape, dtype=np.float32) ** 2)
