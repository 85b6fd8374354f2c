"""Images of text lines, to what a model reads: columns from left to right, all of one height.

A model takes columns as it takes samples: the second axis of its input, ``(N, columns, height * channels)`` uint8. A
column holds its pixels from top to bottom, channels last. Files are decoded by Pillow; arrays need nothing.
"""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.byte_range import has_scheme, parse_byte_range, read_range
from kdcompress_runtime.errors import ImageError, ImageNotFoundError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

GREY, COLOUR = 1, 3
MAX_PIXELS = 64_000_000
"""Of a decoded file; a larger one is no text line, and may be made to exhaust memory."""
MAX_COLUMNS = 8000
"""Of a line at the height of the model: far longer than any line, and short enough for memory."""
_TOGETHER, _MOST_WEIGHTS = 64, 1 << 22
"""Pixels that are computed at a time, and most weights that are held for it."""
_LUMA = np.array([299, 587, 114], dtype=np.float32) / np.float32(1000)
"""Of red, green and blue, as ITU-R BT.601 has it, and Pillow."""


def read_image(source: str | Path, channels: int = GREY) -> Pixels:
    """Read an image file.

    Args:
        source: PNG, JPEG or whatever else Pillow reads; or ``file:offset:length``, such a file among the bytes of
            another.
        channels: 1 for grey, 3 for colour; what is transparent lies on white.

    Returns:
        ``(height, width, channels)`` uint8.

    Raises:
        ImageNotFoundError: there is no such file.
        ImageError: no image, cut short, or too large.
        MissingDependencyError: Pillow is not installed.
    """
    name = str(source)
    if has_scheme(name):
        raise ImageError(f"{name}: is in an object store; copy or mount it, and name a path")
    path = Path(source)
    try:
        if path.is_file():
            return decode_image(path.read_bytes(), name, channels)
        part = parse_byte_range(name)
        found = part is not None and Path(part.file).is_file()
    except OSError as error:  # a text in the place of a path may be longer than any name
        raise ImageError(
            f"{name:.80}: cannot be read ({error.strerror}); give an array, or the path of a file"
        ) from error
    if part is None or not found:
        raise ImageNotFoundError(f"image file not found: {path}; check the path")
    try:
        content = read_range(part)
    except InputError as error:  # it says so of audio
        raise ImageError(str(error)) from error
    return decode_image(content, name, channels)


def decode_image(content: bytes, name: str, channels: int = GREY) -> Pixels:
    """Do as ``read_image`` with the bytes of a file; ``name`` stands for it in messages."""
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(content)) as image:
            size = image.size
            pixels = None if math.prod(size) > MAX_PIXELS else _pixels(pillow, image, channels)
    except pillow.DecompressionBombError as error:
        raise ImageError(f"{name}: far too many pixels for a text line ({error}); cut the lines out") from error
    except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, struct.error) as error:
        # Pillow would name the buffer in memory
        why = "no kind that Pillow knows" if isinstance(error, pillow.UnidentifiedImageError) else error
        raise ImageError(f"{name}: cannot be read as an image ({why}); check the file, or write it again") from error
    if pixels is None:
        raise ImageError(f"{name}: {size[0]} x {size[1]} pixels are no text line; cut the lines out")
    return pixels.reshape(*pixels.shape[:2], channels)


def _pixels(pillow: Any, image: Any, channels: int) -> Pixels:  # noqa: ANN401 - Pillow need not be there
    """Grey ``(H, W)`` or colour ``(H, W, 3)`` of an image of Pillow, what is transparent on white."""
    image.load()
    if "A" in image.getbands() or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", seen.size, "white"), seen)
    elif image.mode.startswith("I"):  # 16 bits, which some versions of Pillow hold in 32
        deep = np.asarray(image)
        image = pillow.fromarray((deep >> 8 if image.mode != "I" or deep.max() > 255 else deep).astype(np.uint8))
    return np.asarray(image.convert("L" if channels == GREY else "RGB"), dtype=np.uint8)


def check_image(image: NDArray[Any]) -> Pixels:
    """Return an image as ``(height, width, channels)``, 1 or 3 channels, uint8; a grey one may lack the last axis.

    Raises:
        ImageError: not such an array, or empty.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"an image is a numpy array (height, width) or (height, width, 3), found {type(image).__name__}"
        )
    if image.dtype != np.uint8:
        raise ImageError(f"the pixels of an image are uint8, 0 to 255, found {image.dtype}; scale and convert them")
    whole = image[:, :, None] if image.ndim == 2 else image
    if whole.ndim != 3 or whole.shape[2] not in {GREY, COLOUR}:
        raise ImageError(f"an image is (height, width), (height, width, 1) or (height, width, 3), found {image.shape}")
    if not whole.size:
        raise ImageError(f"the image is empty: {image.shape}")
    return whole


def in_channels(image: Pixels, channels: int) -> Pixels:
    """Turn ``(H, W, 1)`` or ``(H, W, 3)`` into grey or colour."""
    if image.shape[2] == channels:
        return image
    if channels == COLOUR:
        return np.repeat(image, COLOUR, axis=2)
    grey: Pixels = np.floor(image.astype(np.float32) @ _LUMA + np.float32(0.5)).astype(np.uint8)[:, :, None]
    return grey


def to_columns(image: NDArray[Any], height: int, channels: int = GREY) -> Pixels:
    """Bring an image to a height, width in proportion, and turn it into columns.

    Args:
        image: ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8; not changed.
        height: pixels of a column.
        channels: 1 for grey, 3 for colour.

    Returns:
        ``(columns, height * channels)`` uint8, at least one column.

    Raises:
        ImageError: not an image; or a line that would be longer than ``MAX_COLUMNS``.
    """
    pixels = in_channels(check_image(image), channels)
    width = columns_of(pixels.shape[1], pixels.shape[0], height)
    if width > MAX_COLUMNS:
        raise ImageError(
            f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels is {width} columns of height {height}, more "
            f"than {MAX_COLUMNS}; cut the line into parts"
        )
    sized = resized(pixels, height, width)
    return np.ascontiguousarray(sized.transpose(1, 0, 2).reshape(width, height * channels))


def columns_of(width: int, height: int, to_height: int) -> int:
    """Columns of an image of that size at another height."""
    return max(1, round(width * to_height / height))


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """Resize ``(H, W, C)`` with a triangle filter that widens where the image shrinks, as Pillow's ``BILINEAR``."""
    if image.shape[:2] == (height, width):
        return image
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    low = _resampled(planes, height).swapaxes(1, 2)  # (C, W, height)
    whole = _resampled(np.ascontiguousarray(low), width).transpose(2, 1, 0)
    pixels: Pixels = np.clip(np.floor(whole + np.float32(0.5)), 0, 255).astype(np.uint8)
    return pixels


def _resampled(planes: NDArray[np.float32], after: int) -> NDArray[np.float32]:
    """Resize the middle axis; some positions at a time, so that time and memory grow with the pixels alone."""
    before = planes.shape[1]
    if after == before:
        return planes
    scale = before / after
    reach = max(scale, 1.0)
    together = max(1, min(_TOGETHER, int(_MOST_WEIGHTS / (4 * reach))))
    found = np.empty((len(planes), after, planes.shape[2]), dtype=np.float32)
    for start in range(0, after, together):
        stop = min(start + together, after)
        centres = (np.arange(start, stop) + 0.5) * scale
        first, last = max(math.floor(centres[0] - reach), 0), min(math.ceil(centres[-1] + reach), before)
        distance = np.abs(np.arange(first, last) + 0.5 - centres[:, None]) / reach
        weights = np.maximum(0.0, 1.0 - distance)
        shares = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        found[:, start:stop] = shares @ planes[:, first:last]
    return found


def _pillow() -> Any:  # noqa: ANN401 - a module that need not be there
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("reading image files needs Pillow; install kdcompress[image]") from error
    return Image
