"""An aligned item: the units of its reference, and when each is heard. One JSON object a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
