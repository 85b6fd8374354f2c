"""Manifest -> items that can be trained on, checked before the first update, read from their lines when used."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any, overload

from kdcompress.data.index import Index, Summary, lines_at, open_index, packed, read_lines
from kdcompress.data.text import Encoder, frames_needed
from kdcompress.errors import TargetTooLongError
from kdcompress_runtime.errors import InputError, ManifestError
from kdcompress_runtime.manifest import ManifestEntry, fingerprinted, parse_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from kdcompress.data.text import Units
    from kdcompress_runtime.vocabulary import Vocabulary

    Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)

REPORT_SECONDS = 10
"""A longer pass over a manifest says how far it is, as often."""
REPORT_LINES = 1000
"""The clock is looked at when so many more are read."""


@dataclass(frozen=True)
class Item:
    """One entry of a manifest with its labels and its length."""

    entry: ManifestEntry
    number: int
    """Place among the entries of the manifest, from 0; stored labels are found by it."""
    labels: tuple[int, ...]
    """Token ids of the reference."""
    units: int
    """Approximate length in input units (samples, frames), for bucketing."""
    min_units: int
    """Shortest input that the reference still fits in."""


class Items(Sequence[Item]):
    """Items of a manifest of any size: 24 bytes each in a mapped file, and a line that is parsed when asked for."""

    def __init__(self, manifest: Path, encode: Encoder, index: Index) -> None:
        self.manifest = manifest
        self._encode, self._index = encode, index

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """Lengths of all items in input units, ``(items,)``, mapped into memory."""
        lengths: NDArray[np.uint32] = self._index.records["units"]
        return lengths

    @property
    def fingerprint(self) -> str:
        """``manifest_fingerprint`` of the whole manifest."""
        return self._index.summary.fingerprint

    def __len__(self) -> int:
        return len(self._index.records)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Items: ...

    def __getitem__(self, index: int | slice) -> Item | Items:
        """One item, or a part of them that is as lazy as the whole.

        Raises:
            ManifestError: the manifest was changed since.
        """
        if isinstance(index, slice):
            return Items(self.manifest, self._encode, Index(self._index.records[index], self._index.summary))
        return next(self._read([self._index.records[index]]))

    def __iter__(self) -> Iterator[Item]:
        return self._read(self._index.records)

    def chosen(self, places: Iterable[int]) -> list[Item]:
        """Return the items at ``places``; the manifest is opened once."""
        return list(self._read(self._index.records[place] for place in places))

    def _read(self, records: Iterable[Any]) -> Iterator[Item]:
        for record, line in lines_at(self.manifest, records):
            _, number, units, min_units, _ = record.item()
            entry = parse_line(line, where=f"{self.manifest}, entry {number + 1}", folder=self.manifest.parent)
            labels = self._encode(entry.text, where=f"{self.manifest}, item {entry.id}")
            yield Item(entry, number, labels, units, min_units)


@dataclass(frozen=True)
class Limits:
    """What decides whether an entry can be trained on, and how long it is."""

    text_units: Units
    """What one token is: ``characters``, ``words`` or ``subwords``."""
    units_per_second: float
    """Input units (samples, frames) in a second."""
    units_per_frame: int
    """Input units for an output frame."""
    max_duration: float
    """Longest item, in ``measure``."""
    on_unusable: str
    """``error``, or ``skip`` with a warning that counts."""
    frames_per_unit: int = 1
    """Output frames for ``units_per_frame`` input units."""
    measure: str = "s"
    """What lengths are counted in, for messages."""

    def frames(self, units: int) -> int:
        """Output frames of so many input units."""
        return -(-units * self.frames_per_unit // self.units_per_frame)

    def units(self, frames: int) -> int:
        """Fewest whole input units of so many output frames."""
        return -(-frames * self.units_per_frame // self.frames_per_unit)


def load_items(
    manifest: Path,
    vocabulary: Vocabulary,
    limits: Limits,
    *,
    seconds: Callable[[ManifestEntry], float],
    kind: str = "audio",
    remedy: str = "correct the manifest",
    index: Path | None = None,
    on_progress: Progress | None = None,
) -> Items:
    """Pass over a manifest once and keep what can be trained on; memory does not grow with its length.

    Args:
        manifest: JSONL file.
        vocabulary: encodes the references.
        limits: see there.
        seconds: length of an entry whose line does not tell.
        kind: of inputs, as ``ManifestEntry.kind``; others are refused.
        remedy: what to do about a reference that needs more frames than its input has.
        index: file that keeps what the pass finds, for the next start; used as long as manifest (size and time of
            change), vocabulary and limits are the same. A temporary file when left out.
        on_progress: called as ``(bytes read, bytes of the manifest)`` now and then; logged when left out.

    Raises:
        TargetTooLongError: a reference needs more frames than its input has (``on_unusable`` is ``error``).
        InputError: an item is too long (likewise).
        ManifestError, VocabularyError: the manifest or a text cannot be used; or nothing is left.
    """
    encode = Encoder(vocabulary, limits.text_units)
    key = {**_state_of(manifest), "vocabulary": sha256(vocabulary.dumps().encode()).hexdigest(), **asdict(limits)}
    survey = _Survey(manifest, encode, limits, seconds, kind, remedy, on_progress or _logged(manifest))
    found = open_index(index, key, survey.write)
    if skipped := found.summary.skipped:
        logger.warning(
            "%s: left out %d of %d items that are too long or do not fit",
            manifest,
            skipped,
            skipped + len(found.records),
        )
    return Items(manifest, encode, found)


def _state_of(manifest: Path) -> dict[str, Any]:
    """What changes when a manifest does."""
    if not manifest.is_file():
        return {}  # the pass says so
    state = manifest.stat()
    return {"manifest": str(manifest.absolute()), "bytes": state.st_size, "changed_ns": state.st_mtime_ns}


@dataclass(frozen=True)
class _Survey:
    """One pass over a manifest."""

    manifest: Path
    encode: Encoder
    limits: Limits
    seconds: Callable[[ManifestEntry], float]
    kind: str
    remedy: str
    on_progress: Progress

    def write(self, file: IO[bytes]) -> Summary:
        """Write the record of every item that can be used."""
        kept, number, digest = 0, -1, sha256()
        said, total = time.monotonic(), self.manifest.stat().st_size if self.manifest.is_file() else 0
        name, folder = str(self.manifest), self.manifest.parent
        for number, line in enumerate(read_lines(self.manifest)):
            entry = parse_line(line.text, where=f"{name}, line {line.line_number}", folder=folder)
            digest.update(fingerprinted(entry))
            if (found := self._item(entry, number)) is not None:
                file.write(packed(line, number, found.units, found.min_units))
                kept += 1
            if number % REPORT_LINES == 0 and time.monotonic() - said > REPORT_SECONDS:
                said = time.monotonic()
                self.on_progress(line.offset, total)
        if not kept:
            raise ManifestError(
                f"{self.manifest}: no item is left; all {number + 1} are too long or have too long references"
            )
        return Summary(items=kept, skipped=number + 1 - kept, fingerprint=digest.hexdigest())

    def _item(self, entry: ManifestEntry, number: int) -> Item | None:
        """Return the item of an entry; None for one to leave out."""
        check_kind(entry, self.kind, self.manifest)
        labels = self.encode(entry.text, where=f"{self.manifest}, item {entry.id}")
        told = entry.duration if self.limits.measure == "s" else None  # the seconds of a line measure nothing else
        duration = self.seconds(entry) if told is None else told
        length = round(duration * self.limits.units_per_second)
        item = Item(entry, number, labels, length, self.limits.units(frames_needed(labels)))
        problem = _problem(item, duration, self.limits)
        if problem is None:
            return item
        if self.limits.on_unusable == "skip":
            return None
        remedy = self.remedy if isinstance(problem, TargetTooLongError) else "correct the manifest"
        raise type(problem)(f"{self.manifest}, item {entry.id}: {problem}; {remedy}, or set data.on_unusable to skip")


def check_kind(entry: ManifestEntry, kind: str, manifest: Path) -> None:
    """Refuse an entry whose input is of another kind than a task takes.

    Raises:
        ManifestError: it is.
    """
    if entry.kind != kind:
        raise ManifestError(
            f"{manifest}, item {entry.id}: is {entry.kind}, and the task of the recipe takes {kind}; "
            "change task and frontend, or the manifest"
        )


def _problem(item: Item, duration: float, limits: Limits) -> Exception | None:
    if duration > limits.max_duration:
        measure = limits.measure
        return InputError(
            f"{duration:.1f} {measure} is longer than data.max_duration {limits.max_duration:.1f} {measure}"
        )
    needed, frames = frames_needed(item.labels), limits.frames(item.units)
    if frames < needed:
        return TargetTooLongError(f"the reference needs {needed} frames, the input has {frames}")
    return None


def _logged(manifest: Path) -> Progress:
    return lambda done, total: logger.info("%s: read %d of %d MB", manifest, done >> 20, total >> 20)
