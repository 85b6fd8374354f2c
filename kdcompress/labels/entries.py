"""The entries of a manifest by their places, with little memory: one number for each shard, and nothing for a line."""

from __future__ import annotations

import hashlib
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

    def between(self, places: range) -> list[ManifestEntry]:
        """Entries of consecutive places."""
        first = places.start // self.block
        with self.manifest.open("rb") as file:
            file.seek(self.starts[first])
            place, found = first * self.block, []
            for _, line in _lines(file, 0):
                if place in places:
                    where = f"{self.manifest}, entry {place + 1}"
                    found.append(parse_line(line, where=where, folder=self.manifest.parent))
                place += 1
                if place >= places.stop:
                    break
        return found

    def spread(self, count: int) -> list[tuple[int, ManifestEntry]]:
        """At most ``count`` entries with their places, evenly over the manifest."""
        chosen = sorted({index * self.count // count for index in range(count)})
        return [(place, self.between(range(place, place + 1))[0]) for place in chosen]


def survey(manifest: Path, block: int) -> Entries:
    """Read a manifest through.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    if not manifest.is_file():
        raise ManifestError(f"manifest not found: {manifest}; check the path, or make it with `kdcompress prepare`")
    digest, starts = hashlib.sha256(), array("Q")
    count, timed, seconds, number = 0, 0, 0.0, 0
    with manifest.open("rb") as file:
        for start, line in _lines(file, 0):
            number += 1
            entry = parse_line(line, where=f"{manifest}, entry {number}", folder=manifest.parent)
            digest.update(f"{entry.id}\t{entry.text}\n".encode())
            if count % block == 0:
                starts.append(start)
            count += 1
            if entry.duration is not None:
                timed, seconds = timed + 1, seconds + entry.duration
    if not count:
        raise ManifestError(f"manifest is empty: {manifest}; it needs one JSON object a line")
    return Entries(manifest, count, digest.hexdigest(), seconds, timed, block, starts)


def _lines(file: Iterator[bytes], position: int) -> Iterator[tuple[int, str]]:
    """Lines that hold something, each with the byte that it starts at."""
    for raw in file:
        line = raw.decode("utf-8", errors="replace")
        if line.strip():
            yield position, line
        position += len(raw)
