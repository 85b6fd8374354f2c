"""An aligned item: the units of its reference, and when each is heard; and ``alignment.jsonl``, the file of many.

The first line of the file says what it is, then there is one item a line.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdcompress.errors import AlignmentError
from kdcompress.files import replacing
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

FORMAT, VERSION = "kdcompress-alignment", 1
SECONDS, INPUT_UNITS = "seconds", "input units"
DIGITS = 6
"""Decimals of times and scores in the file: a millionth of a second."""
AGAIN = "align the manifest again"


class Segment(NamedTuple):
    """One unit in time. Between segments there is silence (or background); segments never overlap."""

    unit: str
    """Symbol: a phone, a character, ..."""
    start: float
    """Seconds of audio from the beginning of the item; input units (pixels, tokens) elsewhere."""
    end: float
    """As ``start``, and after it."""
    word: int
    """Word of the text that it belongs to, from 0."""


@dataclass(frozen=True)
class Aligned:
    """One item of a manifest, aligned."""

    id: str
    """Of the manifest's entry."""
    place: int
    """Place among the entries of the manifest, from 0."""
    kind: str
    """Inventory of the units: ``phones``, ``characters``, ``subwords``, ``words``."""
    words: tuple[str, ...]
    """Words of the reference, as it is written."""
    segments: tuple[Segment, ...]
    """Every unit of the reference, in order."""
    duration: float
    """Of the item, as ``Segment.start``."""
    score: float
    """Mean log-probability a frame of the path; low where the text is not what is said."""


@dataclass(frozen=True)
class Header:
    """First line of the file."""

    kind: str
    """Inventory of the units, see ``Aligned.kind``."""
    time: str = SECONDS
    """``seconds`` of audio, or ``input units`` where there is none."""
    manifest: str = ""
    """``manifest_fingerprint``; empty where nobody has told."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Who aligned: name and SHA-256 of the run, and the options; or a corpus."""

    def line(self) -> str:
        """Return the line, with its end."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, ensure_ascii=False) + "\n"


def write_alignments(path: str | Path, rows: Iterable[Aligned], header: Header | None = None) -> int:
    """Write items, in the order of the manifest; the file is there whole or not at all.

    Args:
        path: file to write.
        rows: items, one in memory at a time.
        header: what the file says of itself; the kind of the first item in seconds when left out.

    Returns:
        How many were written.

    Raises:
        AlignmentError: units of two kinds.
    """
    path, items = Path(path), iter(rows)
    if header is None:
        first = next(items, None)
        header = Header(kind=first.kind if first else "")
        items = iter(()) if first is None else chain([first], items)
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(header.line())
        for item in items:
            if item.kind != header.kind:
                raise AlignmentError(f"{path}, id {item.id}: units are {item.kind}, of the file {header.kind}")
            file.write(item_line(item))
            count += 1
    return count


def item_line(item: Aligned) -> str:
    """One line of the file, with its end."""
    segments = [(unit, round(start, DIGITS), round(end, DIGITS), word) for unit, start, end, word in item.segments]
    content = {
        "id": item.id,
        "place": item.place,
        "words": item.words,
        "segments": segments,
        "duration": round(item.duration, DIGITS),
        "score": round(item.score, DIGITS),
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def read_header(path: str | Path) -> Header:
    """Read what a file says of itself.

    Raises:
        AlignmentError: it is missing, or no alignment that this version reads.
    """
    path = Path(path)
    if not path.is_file():
        raise AlignmentError(f"alignment not found: {path}; make it with `kdcompress align`")
    with path.open(encoding="utf-8", errors="replace") as file:
        return _header(file.readline(), path)


def _header(line: str, path: Path) -> Header:
    try:
        content = json.loads(line)
        known, version = content["format"] == FORMAT, content["version"]
        header = Header(content["kind"], content["time"], content["manifest"], content["source"])
    except (KeyError, TypeError, json.JSONDecodeError):
        known = False
    if not known:
        raise AlignmentError(f"{path}, line 1: not what `kdcompress align` writes; give its alignment.jsonl")
    if version != VERSION:
        raise AlignmentError(f"{path}: alignment of version {version}, only {VERSION} can be read; {AGAIN}")
    return header


def read_alignments(path: str | Path) -> Iterator[Aligned]:
    """Yield the items of a file, one in memory at a time.

    Raises:
        AlignmentError: see ``read_header``; or a line is damaged, and the message names it.
    """
    kind, path = read_header(path).kind, Path(path)
    with path.open(encoding="utf-8", errors="replace") as file:
        file.readline()
        for number, line in enumerate(file, start=2):
            yield parse_item(line, kind, f"{path}, line {number}")


def parse_item(line: str, kind: str, where: str) -> Aligned:
    """Read one line; ``where`` names the place in messages.

    Raises:
        AlignmentError: it is damaged.
    """
    try:
        row = json.loads(line)
        words = tuple(map(str, row["words"]))
        segments = tuple(Segment(str(unit), float(a), float(b), int(word)) for unit, a, b, word in row["segments"])
        times = (float(row["duration"]), float(row["score"]))
        item = Aligned(str(row["id"]), int(row["place"]), kind, words, segments, *times)
    except (KeyError, TypeError, ValueError) as error:
        raise AlignmentError(f"{where}: damaged ({type(error).__name__}: {error}); {AGAIN}") from error
    if problem := _problem(item):
        raise AlignmentError(f"{where}: damaged ({problem}); {AGAIN}")
    return item


def _problem(item: Aligned) -> str:
    """What cannot be, or nothing."""
    edges = [edge for segment in item.segments for edge in segment[1:3]]
    if any(not before <= after for before, after in zip([0.0, *edges], edges, strict=False)):
        return "times of segments fall, or overlap"
    numbers = [segment.word for segment in item.segments]
    if numbers and not (numbers[0] >= 0 and numbers[-1] < len(item.words) and numbers == sorted(numbers)):
        return f"the words of segments are not those of the {len(item.words)} words in order"
    return ""


@dataclass(frozen=True)
class Alignments:
    """Items by their place in the manifest. Eight bytes an item in memory; a line is read when it is asked for."""

    path: Path
    header: Header
    _offsets: NDArray[np.int64]
    """Where in the file the line of each place begins, -1 for none."""

    @classmethod
    def read(cls, path: str | Path, manifest: str | Path | None = None) -> Alignments:
        """Pass over a file once, and see that it is about ``manifest``.

        Raises:
            AlignmentError: see ``read_alignments``; two lines of one place; or it is about another manifest.
            ManifestError: there is no such manifest.
        """
        path, header = Path(path), read_header(path)
        offsets: list[int] = []
        with path.open("rb") as file:
            position = len(file.readline())
            for number, line in enumerate(file, start=2):
                place = parse_item(line.decode(errors="replace"), header.kind, f"{path}, line {number}").place
                if place < 0 or (place < len(offsets) and offsets[place] >= 0):
                    raise AlignmentError(f"{path}, line {number}: damaged (place {place} a second time); {AGAIN}")
                offsets += [-1] * (place + 1 - len(offsets))
                offsets[place] = position
                position += len(line)
        found = cls(path, header, np.array(offsets, dtype=np.int64))
        if manifest is not None:
            found.check(manifest)
        return found

    def check(self, manifest: str | Path) -> None:
        """See that the file is about ``manifest``: by its fingerprint, or where it has none by the ids of all items.

        Raises:
            AlignmentError: it is not.
            ManifestError: there is no such manifest.
        """
        if self.header.manifest:
            same = self.header.manifest == manifest_fingerprint(manifest)
        else:
            ids = [entry.id for entry in read_manifest(manifest)]
            same = all(item.place < len(ids) and item.id == ids[item.place] for item in read_alignments(self.path))
        if not same:
            raise AlignmentError(f"{self.path}: aligned another manifest than {manifest} (other ids or texts); {AGAIN}")

    def get(self, place: int) -> Aligned | None:
        """Return the item at a place of the manifest; None for one that was left out.

        Raises:
            AlignmentError: the file was changed since it was opened.
        """
        if not 0 <= place < len(self._offsets) or self._offsets[place] < 0:
            return None
        try:
            with self.path.open("rb") as file:
                file.seek(int(self._offsets[place]))
                item = parse_item(file.readline().decode(errors="replace"), self.header.kind, str(self.path))
        except OSError as error:
            raise AlignmentError(f"{self.path}: cannot be read any more ({error.strerror}); start again") from error
        if item.place != place:
            raise AlignmentError(f"{self.path}: was changed since it was opened; start again")
        return item

    def __len__(self) -> int:
        """Return the number of items that are aligned."""
        return int((self._offsets >= 0).sum())
