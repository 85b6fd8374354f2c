"""What printer, lens, sensor and file do to an image: strokes, blur, resolution, noise, JPEG."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from kdcompress.data.rendering.tone import to_pillow, to_pixels

if TYPE_CHECKING:
    from kdcompress.data.rendering.tone import Pixels

SALT_VALUES = np.array([0, 255], dtype=np.uint8)


def strokes(image: Pixels, spread: float) -> Pixels:
    """Let dark strokes grow by ``spread`` pixels to each side, or shrink where it is below 0; ``(H, W, C)``."""
    pick = np.minimum if spread > 0 else np.maximum
    whole, part = divmod(abs(spread), 1.0)
    for weight in (*[1.0] * int(whole), part):
        if weight < 0.01:
            break
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = pick(pick(padded[:-2], padded[2:]), padded[1:-1])
        grown = pick(pick(rows[:, :-2], rows[:, 2:]), rows[:, 1:-1])
        share = int(weight * 256)
        mixed = image.astype(np.uint16) * (256 - share) + grown.astype(np.uint16) * share
        image = (mixed >> 8).astype(np.uint8)
    return image


def blurred(image: Pixels, sigma: float, length: float, angle: float) -> Pixels:
    """Blur ``(H, W, C)``: a Gaussian of ``sigma`` pixels, and a straight line of ``length`` pixels at ``angle``."""
    if sigma:
        image = to_pixels(to_pillow(image).filter(ImageFilter.GaussianBlur(sigma)))
    return _dragged(image, length, angle) if length else image


def _dragged(image: Pixels, length: float, angle: float) -> Pixels:
    """Mean of copies of ``(H, W, C)`` along a straight line."""
    height, width = image.shape[:2]
    reach = math.ceil(length / 2)
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge").astype(np.uint16)
    places = np.linspace(-length / 2, length / 2, 1 + min(2 * reach, 200))
    total = np.zeros(image.shape, dtype=np.uint16)
    for place in places:
        down, across = reach + round(place * math.sin(angle)), reach + round(place * math.cos(angle))
        total += padded[down : down + height, across : across + width]
    return (total // len(places)).astype(np.uint8)


def rescaled(image: Pixels, factor: float, rng: np.random.Generator) -> Pixels:
    """Shrink ``(H, W, C)`` by ``factor`` and enlarge it again, each by one of the usual filters."""
    height, width = image.shape[:2]
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
    down, up = (filters[int(which)] for which in rng.integers(0, 3, 2))
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    if up == Image.Resampling.BOX:  # blocks of pixels are harder to read than anything a camera does
        up = Image.Resampling.BILINEAR
    return to_pixels(to_pillow(image).resize(small, down).resize((width, height), up))


def noisy(image: Pixels, noise: float, speckle: float, salt: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise, noise in proportion to the light, and single black and white pixels to ``(H, W, C)``."""
    if noise or speckle:
        values = image.astype(np.float32)
        draws = rng.standard_normal(image.shape, dtype=np.float32)
        values += draws * (values * speckle + noise)
        image = values.clip(0, 255).astype(np.uint8)
    count = int(salt * image.shape[0] * image.shape[1])
    if count:
        image = image.copy()
        rows, columns = rng.integers(0, image.shape[0], count), rng.integers(0, image.shape[1], count)
        image[rows, columns] = SALT_VALUES[rng.integers(0, 2, count)][:, None]
    return image


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Write ``(H, W, C)`` as JPEG, and read it again."""
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return to_pixels(picture)
