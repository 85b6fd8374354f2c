"""Counting the lines of manifests once, with memory that does not grow with them."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.data.corpora.places import split_number
from kdcompress.data.corpora.splits import is_held_out
from kdcompress.data.corpora.spool import Spool
from kdcompress_runtime.manifest import TEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

EXTREMES = 10
"""Items that are named at each end."""
SAME_TEXTS = 10
SHARED_SPEAKERS = 20
BINS_A_DOUBLING = 20
"""Resolution of the median: 3.5 %."""


class Extremes:
    """The items with the smallest or the largest values, the first seen among equals."""

    def __init__(self, *, largest: bool) -> None:
        self._sign = 1 if largest else -1
        self._heap: list[tuple[float, int, dict[str, Any]]] = []
        self._seen = 0

    def add(self, value: float, item: Callable[[], dict[str, Any]]) -> None:
        """Look at an item; ``item`` describes it, and is called only where it is kept."""
        self._seen += 1
        key = self._sign * value
        if len(self._heap) < EXTREMES:
            heapq.heappush(self._heap, (key, -self._seen, item()))
        elif key > self._heap[0][0]:
            heapq.heapreplace(self._heap, (key, -self._seen, item()))

    def items(self) -> list[dict[str, Any]]:
        """Return them, the most extreme first."""
        return [item for _, _, item in sorted(self._heap, key=lambda one: one[:2], reverse=True)]


@dataclass
class SplitFigures:
    """What one split holds."""

    items: int = 0
    seconds: float = 0.0
    without_duration: int = 0
    shortest: float = math.inf
    longest: float = 0.0
    words: int = 0
    without_speaker: int = 0
    speakers: int = 0
    characters: Counter[str] = field(default_factory=Counter)
    sample_rates: Counter[int] = field(default_factory=Counter)
    texts_in_training: int = 0

    def described(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        timed = self.items - self.without_duration
        return {
            "items": self.items,
            "hours": round(self.seconds / 3600, 4),
            "items_without_duration": self.without_duration,
            "shortest_seconds": round(self.shortest, 3) if timed else None,
            "mean_seconds": round(self.seconds / timed, 3) if timed else None,
            "longest_seconds": round(self.longest, 3) if timed else None,
            "speakers": self.speakers,
            "items_without_speaker": self.without_speaker,
            "words": self.words,
            "characters": sum(self.characters.values()),
            "texts_also_in_training": self.texts_in_training,
            "sample_rates": {str(rate): count for rate, count in sorted(self.sample_rates.items())},
        }


@dataclass
class SharedSpeakers:
    """Speakers that are in several splits."""

    count: int = 0
    leaking: int = 0
    """Those that are in a split for training and in one that is held out."""
    first: list[tuple[int, list[str]]] = field(default_factory=list)
    """A place and the splits of some of them."""


class Tally:
    """Goes through the lines of manifests once."""

    def __init__(self, splits: Sequence[str], scratch: Path) -> None:
        self.splits = tuple(splits)
        self.figures = {split: SplitFigures() for split in splits}
        self.speakers, self.texts = Spool(scratch), Spool(scratch)
        self.shortest, self.longest = Extremes(largest=False), Extremes(largest=True)
        self.fastest, self.slowest = Extremes(largest=True), Extremes(largest=False)
        self.speeds: Counter[int] = Counter()
        self.empty, self.empty_ids = 0, list[str]()
        self.seen_at: dict[str, str] = {}
        """The first item with each character."""

    def add(self, split: str, row: Mapping[str, Any], place: int) -> None:
        """Count one line."""
        figures = self.figures[split]
        text = text_of(row)
        figures.items += 1
        figures.characters.update(text)
        figures.words += len(text.split())
        for character in set(text).difference(self.seen_at):
            self.seen_at[character] = row["id"]
        if row.get("speaker"):
            self.speakers.add(row["speaker"], place)
        else:
            figures.without_speaker += 1
        if text:
            self.texts.add(text, place)
        else:
            self.empty += 1
            if len(self.empty_ids) < EXTREMES:
                self.empty_ids.append(row["id"])
        if "sample_rate" in row:
            figures.sample_rates[row["sample_rate"]] += 1
        self._time(split, row, text)

    def _time(self, split: str, row: Mapping[str, Any], text: str) -> None:
        figures, seconds = self.figures[split], row.get("duration")
        if seconds is None:
            figures.without_duration += 1
            return
        figures.seconds += seconds
        figures.shortest, figures.longest = min(figures.shortest, seconds), max(figures.longest, seconds)

        def described() -> dict[str, Any]:
            return {"id": row["id"], "split": split, "seconds": round(seconds, 3), "text": text[:200]}

        self.shortest.add(seconds, described)
        self.longest.add(seconds, described)
        if text and seconds > 0.0:
            speed = len(text) / seconds
            self.speeds[round(math.log2(speed) * BINS_A_DOUBLING)] += 1
            self.fastest.add(speed, described)
            self.slowest.add(speed, described)

    def count_speakers(self) -> SharedSpeakers:
        """Fill in the speakers of each split; return those that are in several."""
        shared = SharedSpeakers()
        trained = self._trained()
        for places, starts in self.speakers.groups():
            present = np.zeros((len(starts), len(self.splits)), dtype=bool)
            present[_group_of(places, starts), split_number(places)] = True
            for split, count in zip(self.splits, present.sum(axis=0), strict=True):
                self.figures[split].speakers += int(count)
            in_training, held_out = present[:, trained].any(axis=1), present[:, ~trained].any(axis=1)
            shared.count += int((present.sum(axis=1) > 1).sum())
            shared.leaking += int((in_training & held_out).sum())
            for group in np.flatnonzero(present.sum(axis=1) > 1)[:SHARED_SPEAKERS]:
                names = [split for split, there in zip(self.splits, present[group], strict=True) if there]
                shared.first.append((int(places[starts[group]]), names))
        # those that leak come first
        shared.first.sort(key=lambda one: (len({is_held_out(split) for split in one[1]}) < 2, one[0]))
        del shared.first[SHARED_SPEAKERS:]
        return shared

    def count_texts(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the number of different texts, and count and place of the most frequent; see what is in training."""
        different, frequent = 0, list[tuple[int, int]]()
        trained = self._trained()
        for places, starts in self.texts.groups():
            different += len(starts)
            group, number = _group_of(places, starts), split_number(places)
            in_training = np.zeros(len(starts), dtype=bool)
            in_training[group[trained[number]]] = True
            for index, split in enumerate(self.splits):
                if not trained[index]:
                    self.figures[split].texts_in_training += int(in_training[group[number == index]].sum())
            counts = np.diff(np.append(starts, len(places)))
            top = np.argsort(-counts, kind="stable")[:SAME_TEXTS]
            frequent += [(int(counts[one]), int(places[starts[one]])) for one in top if counts[one] > 1]
        return different, sorted(frequent, key=lambda one: (-one[0], one[1]))[:SAME_TEXTS]

    def _trained(self) -> NDArray[np.bool_]:
        return np.array([not is_held_out(split) for split in self.splits])


def _group_of(places: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the group of every place."""
    begins = np.zeros(len(places), dtype=np.int64)
    begins[starts[1:]] = 1
    return begins.cumsum()


def text_of(row: Mapping[str, Any]) -> str:
    """Return the reference of a manifest line."""
    text: str = next(row[name] for name in TEXT_FIELDS if name in row)
    return text
