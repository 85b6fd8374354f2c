"""Tars of recordings: written so that every member's place is known, and read for the places of theirs."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from kdcompress.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = tarfile.BLOCKSIZE


class TarWriter:
    """A plain tar, written from front to back; equal members give equal bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    def add(self, name: str, content: bytes) -> int:
        """Append a member and return the byte its content begins at."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o644
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        start = self.size
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return start

    def close(self) -> str:
        """Write the end and return the SHA-256 of all of it, in hexadecimal."""
        self._write(bytes(2 * BLOCK))
        return self._digest.hexdigest()

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self.size += len(content)


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    """Byte its content begins at."""
    size: int


@dataclass
class Sample:
    """Members that belong together: neighbours whose names agree up to the first dot (WebDataset)."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """By what follows the first dot, in small letters: ``flac``, ``json``, ``txt``."""


def samples_of(tar: Path) -> Iterator[Sample]:
    """Yield the samples of a tar, one in memory at a time; contents are passed over.

    Raises:
        PackError: no plain tar, or damaged.
    """
    sample: Sample | None = None
    for member in members_of(tar):
        folder, slash, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = folder + slash + stem
        if sample is not None and sample.key != key:
            yield sample
            sample = None
        sample = sample or Sample(key)
        sample.members[suffix.lower()] = member
    if sample is not None:
        yield sample


def members_of(path: Path) -> Iterator[Member]:
    """Yield the files in a tar.

    Raises:
        PackError: see ``samples_of``.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            end = 0
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                end = info.offset_data + -(-info.size // BLOCK) * BLOCK if info.isreg() else tar.offset
                if info.isreg():
                    yield Member(info.name, info.offset_data, info.size)
    except FileNotFoundError as error:
        raise PackError(f"{path}: there is no such tar; check the path") from error
    except tarfile.TarError as error:
        raise PackError(
            f"{path}: cannot be read as a plain tar ({error}); a compressed one must be unpacked to a plain one, "
            "a damaged one copied again"
        ) from error
    _check_end(path, end)


def _check_end(path: Path, end: int) -> None:
    """Refuse a tar that stops in the middle; the library takes a damaged header for the end."""
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(BLOCK)
    if len(block) < BLOCK or any(block):
        raise PackError(f"{path}: damaged or cut short after {end} bytes: no end mark there; copy the file again")


def content_of(tar: Path, member: Member) -> bytes:
    """Read a member."""
    with tar.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def record_of(tar: Path, member: Member) -> dict[str, Any]:
    """Read a member that holds one JSON object.

    Raises:
        PackError: it holds something else.
    """
    import json

    try:
        found = json.loads(content_of(tar, member))
    except ValueError as error:
        raise PackError(f"{tar}, {member.name}: not valid JSON ({error}); write the tar again") from error
    if not isinstance(found, dict):
        raise PackError(f"{tar}, {member.name}: expected a JSON object, found {type(found).__name__}")
    return found
