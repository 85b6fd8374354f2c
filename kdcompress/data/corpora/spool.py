"""Finding what is repeated among many millions of items: on disk, with memory for a small part of them."""

from __future__ import annotations

import shutil
import tempfile
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

BUCKETS = 32
FLUSH_EVERY = 1 << 13


class Spool:
    """Texts with their places, by the hash of the text; equal texts come together when it is read.

    A bucket is in memory at a time: 1/32 of the items, 16 bytes each. Hashes have 64 bits: among a hundred million
    different texts, two are alike with a chance of 1 in 3700.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=".spool.", dir=folder))
        self._pending = [array("q") for _ in range(BUCKETS)]

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, text: str, place: int) -> None:
        """Note that ``text`` stands at ``place`` (0 or more)."""
        # Python's own hash differs from process to process, which is enough: nothing of this outlives the process
        key = hash(text)
        pending = self._pending[key % BUCKETS]
        pending.append(key)
        pending.append(place)
        if len(pending) >= FLUSH_EVERY:
            self._flush(key % BUCKETS)

    def groups(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield for every bucket its places, and where each text begins among them.

        Places have shape ``(n,)``, those of equal texts together and ascending; the second array ``(texts,)``.
        """
        for bucket in range(BUCKETS):
            self._flush(bucket)
            path = self._folder / str(bucket)
            if not path.is_file():
                continue
            keys, places = np.fromfile(path, dtype=np.int64).reshape(-1, 2).T
            order = np.lexsort((places, keys))
            keys, places = keys[order], places[order]
            yield places, np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))

    def repeated(self) -> Iterator[NDArray[np.int64]]:
        """Yield the places of every text that stands at more than one, in the order of places."""
        for places, starts in self.groups():
            ends = np.append(starts[1:], len(places))
            for index in np.flatnonzero(ends - starts > 1):
                yield places[starts[index] : ends[index]]

    def _flush(self, bucket: int) -> None:
        if not self._pending[bucket]:
            return
        with (self._folder / str(bucket)).open("ab") as file:
            self._pending[bucket].tofile(file)
        self._pending[bucket] = array("q")
