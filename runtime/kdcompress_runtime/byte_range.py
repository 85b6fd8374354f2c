"""``file:offset:length``: bytes of a larger file in the place of a file of their own, such as a recording in a tar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from kdcompress_runtime.errors import AudioError, AudioFileNotFoundError

_RANGE = re.compile(r"(.+):(\d+):(\d+)", re.DOTALL)


class ByteRange(NamedTuple):
    """Where the bytes are; written as fairseq's manifests do."""

    file: str
    """Path, or address in an object store."""
    offset: int
    """Bytes before the first one."""
    length: int
    """How many."""

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}:{self.length}"


def parse_byte_range(source: str) -> ByteRange | None:
    """Read ``file:offset:length``; None for what is written otherwise, so names a whole file."""
    found = _RANGE.fullmatch(source)
    return ByteRange(found[1], int(found[2]), int(found[3])) if found else None


def has_scheme(source: str) -> bool:
    """Whether a source is an address such as ``s3://bucket/file`` and no path."""
    return "://" in source


def read_range(part: ByteRange) -> bytes:
    """Read the bytes of a range with one look at the file.

    Raises:
        AudioFileNotFoundError: there is no such file.
        AudioError: the file is too short to hold them.
    """
    path = Path(part.file)
    if not path.is_file():
        raise AudioFileNotFoundError(f"{part}: file not found: {path}; check the path")
    with path.open("rb") as file:
        file.seek(part.offset)
        content = file.read(part.length)
    check_length(part, len(content))
    return content


def check_length(part: ByteRange, found: int) -> None:
    """Compare what was read with what was asked for.

    Raises:
        AudioError: it is less.
    """
    if found < part.length:
        raise AudioError(
            f"{part}: outside the file, which holds {found} of these {part.length} bytes; "
            "copy the file again, or pack the recordings again"
        )
