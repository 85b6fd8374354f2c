"""The entries of a manifest by their places, with little memory: one number for each shard, and nothing for a line."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import ManifestEntry, parse_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Entries:
    """A manifest that was read through once."""

    manifest: Path
    """JSONL file; it must not change while it is used."""
    count: int
    """Entries."""
    fingerprint: str
    """As ``manifest_fingerprint``."""
    seconds: float
    """Durations of the lines that say them, added up."""
    timed: int
    """Lines that say them."""
    block: int
    """Entries between two ``starts``."""
    starts: array[int]
    """Byte at which every ``block``-th entry stands."""
    sums: array[int]
    """CRC-32 of the lines of each block."""

    def of_block(self, number: int) -> list[ManifestEntry]:
        """Entries of one block.

        Raises:
            ManifestError: the manifest was changed since.
        """
        found, checksum = [], 0
        with self.manifest.open("rb") as file:
            file.seek(self.starts[number])
            places = range(number * self.block, min((number + 1) * self.block, self.count))
            for place, (_, line) in zip(places, _lines(file, 0), strict=False):
                checksum = zlib.crc32(line, checksum)
                found.append(_entry(line, self.manifest, place + 1))
        if checksum != self.sums[number] or len(found) != len(places):
            raise ManifestError(f"{self.manifest}: was changed while it was in use; repeat the command")
        return found

    def spread(self, count: int) -> list[tuple[int, ManifestEntry]]:
        """At most ``count`` entries with their places, evenly over the manifest."""
        chosen = sorted({index * self.count // count for index in range(count)})
        return [(place, self.of_block(place // self.block)[place % self.block]) for place in chosen]


def survey(manifest: Path, block: int) -> Entries:
    """Read a manifest through.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    if not manifest.is_file():
        raise ManifestError(f"manifest not found: {manifest}; check the path, or make it with `kdcompress prepare`")
    digest, starts, sums = hashlib.sha256(), array("Q"), array("L")
    count, timed, seconds = 0, 0, 0.0
    with manifest.open("rb") as file:
        for start, line in _lines(file, 0):
            entry = _entry(line, manifest, count + 1)
            digest.update(f"{entry.id}\t{entry.text}\n".encode())
            if count % block == 0:
                starts.append(start)
                sums.append(0)
            sums[-1] = zlib.crc32(line, sums[-1])
            count += 1
            if entry.duration is not None:
                timed, seconds = timed + 1, seconds + entry.duration
    if not count:
        raise ManifestError(f"manifest is empty: {manifest}; it needs one JSON object a line")
    return Entries(manifest, count, digest.hexdigest(), seconds, timed, block, starts, sums)


def _entry(line: bytes, manifest: Path, number: int) -> ManifestEntry:
    content = line.decode("utf-8", errors="replace")
    return parse_line(content, where=f"{manifest}, entry {number}", folder=manifest.parent)


def _lines(file: Iterator[bytes], position: int) -> Iterator[tuple[int, bytes]]:
    """Lines that hold something, each with the byte that it starts at."""
    for line in file:
        if line.strip():
            yield position, line
        position += len(line)
