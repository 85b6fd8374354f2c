"""How far two alignments of the same items are apart: two aligners, or one and the marks of a corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.aligning.aligned import INPUT_UNITS, SECONDS, Alignments, read_alignments
from kdcompress.aligning.word_spans import word_spans
from kdcompress.errors import AlignmentError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.aligning.word_spans import WordSpan

WITHIN = {SECONDS: (0.02, 0.05, 0.1), INPUT_UNITS: (2.0, 5.0, 10.0)}
"""Limits by the unit of time."""


@dataclass(frozen=True)
class Differences:
    """Of boundaries, in the time of the alignments."""

    boundaries: int
    mean: float
    """Of the second minus the first: above zero where the second is later."""
    mean_absolute: float
    median_absolute: float
    within: tuple[float, ...]
    """Share of boundaries that are not farther apart than the limits."""


@dataclass(frozen=True)
class Comparison:
    """Two alignments."""

    time: str
    """``seconds`` or ``input units``."""
    limits: tuple[float, ...]
    """See ``Differences.within``."""
    items: int
    """In both."""
    words: int
    """In both, at the same place."""
    other_words: int
    """Words of common items that are only in one."""
    starts: Differences
    ends: Differences

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def compare_alignments(first: str | Path, second: str | Path) -> Comparison:
    """Compare beginnings and ends of the words that are in both: same item (by id), same place, same word.

    Raises:
        AlignmentError: a file is damaged, two items of one have the same id, times have other units, or nothing is in
            both.
    """
    own, other = Alignments.read(first), Alignments.read(second)
    if own.header.time != other.header.time:
        raise AlignmentError(f"{first} counts {own.header.time}, {second} {other.header.time}; they cannot be compared")
    places: dict[str, int] = {}
    for item in read_alignments(second):
        if places.setdefault(item.id, item.place) != item.place:
            raise AlignmentError(f"{second}: two items have the id {item.id!r}; give each its own in the manifest")
    pairs: list[tuple[WordSpan, WordSpan]] = []
    items = lone = 0
    for item in read_alignments(first):
        found = other.get(places[item.id]) if item.id in places else None
        if found is not None:
            items += 1
            there = {(span.place, span.word): span for span in word_spans(found)}
            spans = word_spans(item)
            common = [(span, there[span.place, span.word]) for span in spans if (span.place, span.word) in there]
            lone += len(spans) + len(there) - 2 * len(common)
            pairs += common
    if not pairs:
        raise AlignmentError(f"{first} and {second} have no word in common; are they of the same items?")
    times = np.array([[(a.start, b.start), (a.end, b.end)] for a, b in pairs])
    limits = WITHIN[own.header.time]
    starts, ends = (differences(times[:, edge, 1] - times[:, edge, 0], limits) for edge in (0, 1))
    return Comparison(own.header.time, limits, items, len(pairs), lone, starts, ends)


def differences(values: NDArray[np.float64], limits: Iterable[float] = WITHIN[SECONDS]) -> Differences:
    """Sum differences up; ``(n,)``, at least one."""
    distance = np.abs(values)
    return Differences(
        boundaries=len(values),
        mean=float(values.mean()),
        mean_absolute=float(distance.mean()),
        median_absolute=float(np.median(distance)),
        within=tuple(float((distance <= limit + 1e-9).mean()) for limit in limits),
    )
