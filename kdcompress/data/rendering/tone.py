"""Light and ink of an image: contrast, brightness, gamma, inversion, uneven light."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


class Tone(NamedTuple):
    """What becomes of grey values; the defaults change nothing."""

    contrast: float = 1.0
    """Factor on the distance from the ground."""
    brightness: float = 0.0
    """Added; a share of the range."""
    gamma: float = 1.0
    """Exponent on values from 0 to 1."""
    invert: bool = False


def to_pillow(image: Pixels) -> Image.Image:
    """Turn ``(H, W, C)`` into an image of Pillow."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def to_pixels(image: Image.Image) -> Pixels:
    """Turn an image of Pillow into ``(H, W, C)``."""
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def ground_of(image: Pixels) -> tuple[int, ...]:
    """Value of each channel around the text ``(H, W, C)``: the middle one of the first and last rows."""
    rows = np.concatenate([image[0], image[-1]])
    rows.partition(len(rows) // 2, axis=0)
    return tuple(int(value) for value in rows[len(rows) // 2])


def toned(image: Pixels, tone: Tone, ground: tuple[int, ...]) -> Pixels:
    """Change the values of ``(H, W, C)``, through one table a channel."""
    if tone == Tone():
        return image
    base = np.array(ground, dtype=np.float32)[:, None]
    values = base + (np.arange(256, dtype=np.float32) - base) * tone.contrast + tone.brightness * 255
    values = (values.clip(0, 255) * (1 / 255)) ** tone.gamma * 255
    tables = np.round(255 - values if tone.invert else values).astype(np.uint8)
    if len(tables) == 1:
        grey: Pixels = tables[0][image]
        return grey
    return np.stack([table[image[:, :, channel]] for channel, table in enumerate(tables)], axis=2)


def smooth_field(height: int, width: int, rng: np.random.Generator, *, cell: float) -> NDArray[np.float32]:
    """Return smooth random values from 0 to 1 ``(H, W)``, one draw each ``cell`` pixels."""
    points = rng.random((2 + int(height / cell), 2 + int(width / cell)), dtype=np.float32)
    field = np.asarray(Image.fromarray(points).resize((width, height), Image.Resampling.BICUBIC))
    low, high = float(field.min()), float(field.max())
    scaled: NDArray[np.float32] = (field - low) * (1 / max(high - low, 1e-6))
    return scaled


def shade(image: Pixels, dark: float, rng: np.random.Generator) -> Pixels:
    """Light ``(H, W, C)`` unevenly; the darkest place lacks the share ``dark`` of its light."""
    height, width = image.shape[:2]
    light = 1 - dark * smooth_field(height, width, rng, cell=height * 2)
    return (image * light[:, :, None]).astype(np.uint8)
