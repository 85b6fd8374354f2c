"""Inputs by their place: a file, a range of bytes in one, or either in an object store."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.audio import decode_audio, read_audio
from kdcompress_runtime.byte_range import ByteRange, check_length, has_scheme, parse_byte_range, read_range
from kdcompress_runtime.errors import AudioError, AudioFileNotFoundError, MissingDependencyError
from kdcompress_runtime.images import decode_image, read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_samples(source: str, sample_rate: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Read audio from wherever it is; an object store is asked once, for no more than the range.

    Args:
        source: path, ``file:offset:length``, or an address such as ``s3://bucket/file``, with or without a range.
        sample_rate: Hz to resample to; the file's own rate when left out.

    Raises:
        AudioFileNotFoundError, AudioError: see ``read_audio``; or the store does not answer.
        MissingDependencyError: what reads such addresses is not installed.
    """
    if has_scheme(source):
        return decode_audio(read_bytes(source), source, sample_rate)
    return read_audio(source, sample_rate)


def read_pixels(source: str, channels: int = 1) -> NDArray[np.uint8]:
    """Read an image ``(H, W, channels)`` uint8 from wherever it is; an object store is asked once.

    Raises:
        ImageNotFoundError, ImageError: see ``read_image``.
        AudioFileNotFoundError, AudioError: the store does not give it.
        MissingDependencyError: Pillow, or what reads such addresses, is not installed.
    """
    if has_scheme(source):
        return decode_image(read_bytes(source), source, channels)
    return read_image(source, channels)


def read_bytes(source: str) -> bytes:
    """Read the bytes of an input, as they are.

    Raises:
        AudioFileNotFoundError, AudioError, MissingDependencyError: see ``read_samples``.
    """
    part = parse_byte_range(source)
    if has_scheme(source):
        return _from_store(source, part)
    path = Path(source)
    if path.is_file():
        return path.read_bytes()
    if part:
        return read_range(part)
    raise AudioFileNotFoundError(f"file not found: {path}; check the path")


def _from_store(source: str, part: ByteRange | None) -> bytes:
    address = part.file if part else source
    store, path = _store(address)
    start, stop = (part.offset, part.offset + part.length) if part else (None, None)
    try:
        content: bytes = store.cat_file(path, start=start, end=stop)
    except FileNotFoundError as error:
        raise AudioFileNotFoundError(f"{source}: there is no such file; check the address") from error
    except Exception as error:
        raise AudioError(f"{source}: the store does not give it ({error}); check address, network and login") from error
    if part:
        check_length(part, len(content))
    return content


def _store(address: str) -> tuple[Any, str]:
    """What reads addresses of this scheme (fsspec keeps one for each), and the address as it wants it."""
    scheme = address.partition("://")[0]
    try:
        store, path = import_module("fsspec").core.url_to_fs(address)
    except ImportError as error:
        raise MissingDependencyError(
            f"{address}: reading {scheme}:// needs fsspec and its package for {scheme} ({error}); install them with "
            "pip, or copy the files here"
        ) from error
    except ValueError as error:
        raise AudioError(f"{address}: nothing reads {scheme}:// addresses ({error}); check the address") from error
    return store, path
