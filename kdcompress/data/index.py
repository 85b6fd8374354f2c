"""Where each item of a manifest stands and how long it is, in a file that is read by memory map."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from kdcompress.files import replacing
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

RECORD = np.dtype(
    [("offset", "<u8"), ("number", "<u4"), ("units", "<u4"), ("min_units", "<u4"), ("crc32", "<u4")], align=False
)
"""One item: the byte its line begins at, its place among the entries, its length, the shortest that its reference fits
in, and the checksum of its line; 24 bytes."""
LONG_BYTES = 4 << 20
"""Of a manifest; a shorter one is passed over in about a second."""
_PACK = struct.Struct("<QIIII")
_HEADER_BYTES = 2048
_FORMAT = 1
_PREFIX, _SUFFIX = "items-", ".tmp"


@dataclass(frozen=True)
class Summary:
    """What one pass over a manifest found."""

    items: int
    skipped: int
    """Entries that were left out."""
    fingerprint: str
    """Of the whole manifest, see ``manifest_fingerprint``."""


@dataclass(frozen=True)
class Index:
    """Records of the items that can be used."""

    records: NDArray[Any]
    """``(items,)`` of ``RECORD``, mapped into memory."""
    summary: Summary


@dataclass(frozen=True)
class Line:
    """One line of a manifest that is not blank."""

    offset: int
    """Byte it begins at."""
    line_number: int
    """From 1, blank ones counted."""
    content: bytes

    @property
    def text(self) -> str:
        """Decoded as ``read_manifest`` does."""
        return self.content.decode("utf-8", errors="replace")


def read_lines(manifest: Path) -> Iterator[Line]:
    """Yield the lines that are not blank, one in memory at a time.

    Raises:
        ManifestError: the file is missing or holds no such line.
    """
    if not manifest.is_file():
        raise ManifestError(f"manifest not found: {manifest}; check the path, or make it with `kdcompress prepare`")
    offset, any_there = 0, False
    with manifest.open("rb") as lines:
        for number, content in enumerate(lines, start=1):
            if content.strip():
                any_there = True
                yield Line(offset, number, content)
            offset += len(content)
    if not any_there:
        raise ManifestError(f"manifest is empty: {manifest}; it needs one JSON object a line")


def lines_at(manifest: Path, records: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Yield each of the ``records`` with its line, of the manifest that they were made from.

    Raises:
        ManifestError: the manifest is not there any more, or holds something else in a line's place.
    """
    try:
        with manifest.open("rb") as file:
            for record in records:
                file.seek(int(record["offset"]))
                content = file.readline()
                if _checksum(content) != record["crc32"]:
                    raise ManifestError(
                        f"{manifest}, entry {record['number'] + 1}: was changed while it was in use; put the manifest "
                        "back as it was, or start again with the new one"
                    )
                yield record, content.decode("utf-8", errors="replace")
    except OSError as error:
        raise ManifestError(f"{manifest}: cannot be read any more ({error.strerror}); put the manifest back") from error


def packed(line: Line, number: int, units: int, min_units: int) -> bytes:
    """One record as bytes."""
    return _PACK.pack(line.offset, number, units, min_units, _checksum(line.content))


def _checksum(content: bytes) -> int:
    """Of a line without its end, which changes when another line is written after the last one."""
    return zlib.crc32(content.rstrip(b"\r\n"))


def is_long(manifest: Path) -> bool:
    """Whether a pass over the manifest takes so long that its index is worth keeping."""
    return manifest.is_file() and manifest.stat().st_size >= LONG_BYTES


def index_file(folder: Path, manifest: Path) -> Path:
    """Where a run keeps the index of a manifest.

    Named as what may be removed at any time: it is made again, and goes with the checkpoint when the run is finished.
    """
    name = hashlib.sha256(str(manifest.absolute()).encode()).hexdigest()[:8]
    return folder / f"{_PREFIX}{name}{_SUFFIX}"


def remove_indexes(folder: Path) -> None:
    """Remove the indexes that a run has kept."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # some systems hold on to what is mapped
            path.unlink()


def open_index(path: Path | None, key: dict[str, Any], build: Callable[[IO[bytes]], Summary]) -> Index:
    """Map the index at ``path`` if it was made under this very ``key``, else make it.

    Args:
        path: file of the index; a temporary one that is gone with the process when left out.
        key: what the index follows from.
        build: writes the records into an open file, one ``packed`` after the other, and returns what it found; whatever
            it raises leaves no file behind.
    """
    if path is None:
        with tempfile.TemporaryFile(prefix="kdcompress-items-") as file:
            return _mapped(file, _write(file, key, build))
    summary = _summary_of(path, key)
    if summary is None:
        with replacing(path) as temporary, temporary.open("w+b") as file:
            summary = _write(file, key, build)
    with path.open("rb") as file:
        return _mapped(file, summary)


def _write(file: IO[bytes], key: dict[str, Any], build: Callable[[IO[bytes]], Summary]) -> Summary:
    file.write(b" " * _HEADER_BYTES)
    summary = build(file)
    file.seek(0)
    header = json.dumps({"format": _FORMAT, "key": key, "summary": asdict(summary)}).encode()
    file.write(header.ljust(_HEADER_BYTES - 1) + b"\n")
    file.flush()
    return summary


def _summary_of(path: Path, key: dict[str, Any]) -> Summary | None:
    """What the index at ``path`` says of itself; None if it is of something else, or not whole."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(_HEADER_BYTES))
        if header["format"] != _FORMAT or header["key"] != key:
            return None
        summary = Summary(**header["summary"])
        whole = path.stat().st_size == _HEADER_BYTES + summary.items * RECORD.itemsize
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary if whole else None


def _mapped(file: IO[bytes], summary: Summary) -> Index:
    # a map has its own hold on the file: it stays when the file is closed, or has no name any more
    records = np.memmap(file, dtype=RECORD, mode="r", offset=_HEADER_BYTES, shape=(summary.items,))
    return Index(records, summary)
