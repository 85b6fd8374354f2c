"""Files of a bundle, out of a folder or a ``.zip``. Nothing is ever unpacked to disk, and nothing strange is read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from kdcompress_runtime.errors import BundleError, BundleNotFoundError, BundleUnsafeError

if TYPE_CHECKING:
    from pathlib import Path
    from zipfile import ZipFile, ZipInfo

MAX_TEXT_BYTES = 2**26
"""Largest ``bundle.json`` or ``tokens.txt``: 64 MiB."""
MAX_MODEL_BYTES = 2**31
"""Largest model: an ONNX file cannot be larger than 2 GiB."""
MAX_RATIO = 100
"""Entries above ``MAX_TEXT_BYTES`` that were packed tighter than this are bombs; weights hardly shrink at all."""
_TEXT_SUFFIXES = (".json", ".txt")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1


def is_plain_name(name: str) -> bool:
    """Whether ``name`` is that of a file and leads nowhere: no folder, drive or parent, on any system."""
    return name not in {"", ".", ".."} and not any(mark in name for mark in "/\\:") and not _has_controls(name)


def read_file(path: Path, file: str) -> bytes:
    """Return the bytes of one file of a bundle.

    Args:
        path: folder or ``.zip``.
        file: a plain name.

    Raises:
        BundleNotFoundError: the bundle or the file is missing.
        BundleUnsafeError: the zip holds an entry that no bundle has, or the file is larger than any should be.
        BundleError: the zip or the file cannot be read.
    """
    if path.is_dir():
        return _read_from_folder(path, file)
    if not path.exists():
        raise BundleNotFoundError(f"bundle not found: {path}; give the folder or .zip that `kdcompress export` wrote")
    # most bundles are folders, and these two cost an app a tenth of its import time
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive)
            return archive.read(file)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise BundleError(f"{path}: neither a folder nor a readable .zip; export the bundle again") from error
    except KeyError as error:
        raise BundleNotFoundError(f"{path}: the zip holds no {file}; export the bundle again") from error


def _read_from_folder(path: Path, file: str) -> bytes:
    target = path / file
    if not target.is_file():
        raise BundleNotFoundError(f"{path}: no {file} here; give the folder or .zip that `kdcompress export` wrote")
    try:
        too_large = _too_large(file, target.stat().st_size)
        if too_large:
            raise BundleUnsafeError(f"{target}: {too_large}")
        return target.read_bytes()
    except OSError as error:
        raise BundleError(f"{target}: cannot be read ({error.strerror}); check its permissions") from error


def _check_entries(path: Path, archive: ZipFile) -> None:
    """Refuse the whole archive for one bad entry: whoever unpacks it by other means would meet it."""
    seen: set[str] = set()
    for entry in archive.infolist():
        problem = _wrong_entry(entry)
        # two names that differ in case are one file on half of the systems
        if entry.filename.casefold() in seen:
            problem = "it stands twice in the archive"
        seen.add(entry.filename.casefold())
        if problem:
            raise BundleUnsafeError(
                f"{path}: entry {entry.orig_filename!r} is refused: {problem}; "
                "take the bundle from where it was exported, or export it again"
            )


def _wrong_entry(entry: ZipInfo) -> str | None:
    """What is wrong with an entry of a zip, in words."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "it is a symbolic link" if kind == stat.S_IFLNK else "it is a device, no file"
    if entry.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    # The other methods unpack everything at once, whatever size the entry claims.
    if entry.compress_type not in {_STORED, _DEFLATED}:
        return f"compression method {entry.compress_type} is not deflate"
    name = entry.orig_filename  # zipfile cuts the other one at a NUL
    return _wrong_path(name) or _too_large(name, entry.file_size, entry.compress_size)


def _wrong_path(name: str) -> str | None:
    """Why the path of an entry could lead anywhere but into the bundle's folder, on any system."""
    if not name or "\\" in name or _has_controls(name):
        return "its name holds a backslash or control character, or nothing"
    if name.startswith("/") or (name[1:2] == ":" and name[0].isalpha()):
        return "its path is absolute"
    if ".." in name.split("/"):
        return "its path climbs out of the bundle"
    return None


def _has_controls(name: str) -> bool:
    return any(letter < " " or letter == "\x7f" for letter in name)


def _too_large(name: str, size: int, packed: int | None = None) -> str | None:
    """Why a file of ``size`` bytes, ``packed`` in the archive, is not read."""
    most = MAX_TEXT_BYTES if name.endswith(_TEXT_SUFFIXES) else MAX_MODEL_BYTES
    if size > most:
        return f"{size} bytes are more than a bundle has ({most} at most)"
    if packed is not None and size > MAX_TEXT_BYTES and size > MAX_RATIO * packed:
        return f"{packed} bytes that unpack to {size} are a zip bomb"
    return None
