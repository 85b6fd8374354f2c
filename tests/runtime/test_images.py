"""Images to columns: resized as Pillow does, files of every kind, and what is no image."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdcompress_runtime import ImageError
from kdcompress_runtime.images import COLOUR, GREY, columns_of, decode_image, read_image, resized, to_columns


def drawn(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Noise, flat parts and edges."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, channels), np.uint8)
    image[height // 2 :, : width // 2] = random.choice([0, 255])
    return image


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3]))
def test_resizing_is_that_of_pillow(height, width, to_height, to_width, channels):
    image = drawn(height, width, channels, seed=height * 100 + width)
    found = resized(image, to_height, to_width)
    whole = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    expected = np.asarray(whole.resize((to_width, to_height), Image.Resampling.BILINEAR))
    assert found.shape == (to_height, to_width, channels)
    difference = np.abs(found.astype(int) - expected.reshape(found.shape).astype(int))
    assert difference.max() <= 1


def test_resizing_is_the_same_for_grey_in_three_channels():
    grey = drawn(47, 130, 1)
    np.testing.assert_array_equal(to_columns(np.repeat(grey, 3, axis=2), 32, GREY), to_columns(grey, 32, GREY))


def test_a_column_runs_from_top_to_bottom_with_its_channels_together():
    image = drawn(8, 5, 3)
    columns = to_columns(image, 8, COLOUR)
    assert columns.shape == (5, 24)
    assert columns.flags.c_contiguous
    np.testing.assert_array_equal(columns.reshape(5, 8, 3), image.transpose(1, 0, 2))
    np.testing.assert_array_equal(to_columns(image[:, :, 0], 8), image[:, :, 0].T)


def test_grey_of_colour_is_that_of_pillow():
    image = drawn(31, 40, 3)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    found = to_columns(image, 31, GREY).T
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("width", "height", "expected"), [(1, 500, 1), (100, 50, 64), (3, 3, 32), (10_000, 3200, 100)])
def test_width_goes_in_proportion(width, height, expected):
    assert columns_of(width, height, 32) == expected


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_read(mode, channels):
    plain = Image.fromarray(np.full((9, 12), 255, np.uint8))
    form = "TIFF" if mode in {"CMYK", "F", "I"} else "PNG"
    image = Image.fromarray(np.full((9, 12), 65535, np.uint16)) if mode == "I;16" else plain.convert(mode)
    found = decode_image(encoded(image, form), "a", channels)
    assert found.shape == (9, 12, channels)
    assert found.dtype == np.uint8
    assert (found == 255).all()


def test_what_is_transparent_lies_on_white():
    image = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 3, 4))
    found = decode_image(encoded(image), "a")[:, :, 0]
    np.testing.assert_array_equal(found, [[0, 0, 0, 255, 255, 255]] * 4)


def test_a_file_inside_another_is_read(tmp_path):
    content = encoded(Image.fromarray(drawn(8, 9, 3)))
    (tmp_path / "many.tar").write_bytes(b"before" + content + b"after")
    (tmp_path / "one.png").write_bytes(content)
    part = f"{tmp_path / 'many.tar'}:6:{len(content)}"
    np.testing.assert_array_equal(read_image(part, COLOUR), read_image(tmp_path / "one.png", COLOUR))
    with pytest.raises(ImageError, match=r"many\.tar"):
        read_image(f"{tmp_path / 'many.tar'}:6:99999")


@pytest.mark.parametrize(
    "content", [b"", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_refused(tmp_path, content):
    file = tmp_path / "line.png"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=r"line\.png: cannot be read as an image"):
        read_image(file)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_damaged_files_are_refused_or_read(form):
    """Whatever is cut off or flipped: one of our errors, or an image."""
    content = encoded(Image.fromarray(drawn(24, 40, 3)), form)
    random = np.random.default_rng(5)
    broken = [content[: int(part * len(content))] for part in (0.1, 0.5, 0.9)]
    for _ in range(60):
        flipped = bytearray(content)
        for position in random.integers(0, min(len(content), 300), 3):
            flipped[position] ^= 1 << int(random.integers(8))
        broken.append(bytes(flipped))
    for one in broken:
        try:
            assert decode_image(one, "a").shape[2] == 1
        except ImageError as error:  # noqa: PERF203
            assert str(error).startswith("a: ")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("side", [9_000, 30_000])
@pytest.mark.filterwarnings("ignore:Image size")
def test_images_made_to_exhaust_memory_are_refused(side):
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    with pytest.raises(ImageError, match="cut the lines out"):
        decode_image(content + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")), "huge.png")


def test_a_text_in_the_place_of_a_path_is_one_sentence():
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("never a path " * 500)
