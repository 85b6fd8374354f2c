"""Kaldi's tables: a key and the rest of the line, sorted by key, read side by side without holding them."""

from __future__ import annotations

import heapq
import tempfile
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SORT_LINES = 200_000
"""Lines that are sorted in memory at a time where a table is not in order."""

Entry = tuple[str, str]


def read_table(path: Path) -> Iterator[Entry]:
    """Yield key and rest of every line that is not blank."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        yield from _entries(lines)


def read_sorted(path: Path) -> Iterator[Entry]:
    """As ``read_table``, by ascending key; a table that is out of order is sorted through temporary files."""
    if _is_sorted(path):
        return read_table(path)
    return _sorted(path)


class Lookup:
    """Values of a table that is sorted by key, asked for by ascending keys. A table that is not there has none."""

    def __init__(self, path: Path) -> None:
        self._entries = read_sorted(path) if path.is_file() else iter(())
        self._ahead = next(self._entries, None)
        self._used = False

    def get(self, key: str) -> str | None:
        """Return the value of ``key``; the same key may be asked again, a smaller one not."""
        for _ in self.passed(key):
            pass
        if self._ahead is not None and self._ahead[0] == key:
            self._used = True
            return self._ahead[1]
        return None

    def passed(self, key: str | None) -> Iterator[str]:
        """Go on to ``key`` (None: to the end) and yield the keys on the way that nobody asked for."""
        while self._ahead is not None and (key is None or self._ahead[0] < key):
            if not self._used:
                yield self._ahead[0]
            before = self._ahead[0]
            self._ahead = next(self._entries, None)
            # a second line with the same key is as good as asked for
            self._used = self._used and self._ahead is not None and self._ahead[0] == before


def _entries(lines: TextIO) -> Iterator[Entry]:
    for line in lines:
        parts = line.split(maxsplit=1)
        if parts:
            yield parts[0], parts[1].rstrip() if len(parts) > 1 else ""


def _is_sorted(path: Path) -> bool:
    last = ""
    for key, _ in read_table(path):
        if key < last:
            return False
        last = key
    return True


def _sorted(path: Path) -> Iterator[Entry]:
    with ExitStack() as opened:
        entries = read_table(path)
        runs = []
        while part := sorted(islice(entries, SORT_LINES), key=_key):
            file = opened.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            file.writelines(f"{key} {rest}\n" for key, rest in part)
            file.seek(0)
            runs.append(_entries(file))
        yield from heapq.merge(*runs, key=_key)


def _key(entry: Entry) -> str:
    return entry[0]
