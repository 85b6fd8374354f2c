"""Frames of features by their place: a ``.npy`` file, or a member of a ``.npz`` archive. Nothing is unpickled."""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np

from kdcompress.errors import FeaturesError, FeaturesNotFoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_runtime.manifest import ManifestEntry

OPEN_ARCHIVES = 8
"""Archives whose tables of contents are kept; a corpus has one a split, or one a shard."""
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ONE_HEADER_AT_A_TIME = Lock()
"""NumPy reads headers with ``ast``, whose depth before Python 3.11.8 is counted for all threads together: two that
parse at once may fail with a SystemError (python/cpython#106905)."""
_BROKEN = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What a damaged or encrypted archive raises."""


class Header(NamedTuple):
    """What a ``.npy`` file says before its values."""

    frames: int
    order: Literal["C", "F"]
    """``F`` for Fortran's."""
    dtype: np.dtype[Any]


class FeatureFiles:
    """Reads the frames of manifest entries, from any thread. Memory: a few tables of contents, and what is read."""

    def __init__(self, feature_dim: int) -> None:
        self.feature_dim = feature_dim
        # kept until the object goes: to open an archive is to read its whole table of contents
        self._archive = lru_cache(OPEN_ARCHIVES)(ZipFile)

    def read(self, entry: ManifestEntry) -> NDArray[np.float32]:
        """Frames of an entry, ``(frames, feature_dim)`` float32.

        Raises:
            FeaturesNotFoundError: there is no such file, or no such member.
            FeaturesError: it is no array of finite floats of that shape, or is damaged.
        """
        with self._open(entry) as file:
            header = self._header(file, entry.input)
            size = header.frames * self.feature_dim * header.dtype.itemsize
            try:
                content = file.read(size)
            except _BROKEN as error:
                raise FeaturesError(f"{entry.input}: damaged ({error}); get or write the file again") from error
        if len(content) < size:
            raise FeaturesError(f"{entry.input}: ends after {len(content)} of {size} bytes; get the file again")
        values = np.frombuffer(content, header.dtype).reshape((header.frames, self.feature_dim), order=header.order)
        with np.errstate(over="ignore"):
            frames = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(frames).all():
            raise FeaturesError(f"{entry.input}: holds NaN or infinity; mend or leave out the item")
        return frames

    def frames(self, entry: ManifestEntry) -> int:
        """Number of frames of an entry, from the header alone; for the errors see ``read``."""
        with self._open(entry) as file:
            return self._header(file, entry.input).frames

    def _open(self, entry: ManifestEntry) -> IO[bytes]:
        key = entry.extra.get("feature_key")
        if key is None:
            return _open_file(entry.input)
        archive = entry.input.removesuffix(f"#{key}")
        if not Path(archive).is_file():
            raise FeaturesNotFoundError(f"archive not found: {archive}; check feature_archive in the manifest")
        try:
            return self._archive(archive).open(f"{key}.npy")
        except KeyError as error:
            raise FeaturesNotFoundError(f"{archive}: holds no {key!r}; check feature_key in the manifest") from error
        except (OSError, *_BROKEN) as error:
            raise FeaturesError(f"{archive}: cannot be read as .npz ({error}); get or write the file again") from error

    def _header(self, file: IO[bytes], where: str) -> Header:
        try:
            version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            with _ONE_HEADER_AT_A_TIME:
                shape, fortran, dtype = _HEADERS[version](file)
        except (ValueError, KeyError, *_BROKEN) as error:
            raise FeaturesError(f"{where}: is no .npy array ({error}); write it with numpy.save") from error
        if dtype.kind != "f" or dtype.hasobject:
            raise FeaturesError(f"{where}: holds {dtype}; frames are float32")
        if len(shape) != 2 or shape[1] != self.feature_dim:
            raise FeaturesError(
                f"{where}: has the shape {shape}, not (frames, {self.feature_dim}); correct frontend.feature_dim, or "
                "the file"
            )
        if not shape[0]:
            raise FeaturesError(f"{where}: holds no frames; leave out the item")
        return Header(shape[0], "F" if fortran else "C", dtype)


def _open_file(path: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise FeaturesNotFoundError(f"file not found: {path}; check feature_filepath in the manifest") from error
    except OSError as error:
        raise FeaturesError(f"{path}: cannot be read ({error.strerror}); check the file") from error
