"""Words in time, from the units of an alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from kdcompress.aligning.aligned import Aligned


class WordSpan(NamedTuple):
    """One word in time."""

    place: int
    """Among the words of the item, from 0."""
    word: str
    start: float
    """As ``Segment.start``."""
    end: float


def word_spans(item: Aligned) -> list[WordSpan]:
    """From the first sound of each word to its last; a lone ``▁`` is none, and words without units are left out."""
    found: dict[int, WordSpan] = {}
    for segment in item.segments:
        if segment.unit != WORD_SEPARATOR:
            first = found.get(segment.word)
            start = segment.start if first is None else first.start
            found[segment.word] = WordSpan(segment.word, item.words[segment.word], start, segment.end)
    return list(found.values())
