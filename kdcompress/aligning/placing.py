"""Where units of one kind are, from an alignment in units of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.aligning.aligned import Aligned, Segment


def spans_of(
    symbols: Sequence[str], words: NDArray[np.int64], shares: NDArray[np.float32], kind: str, aligned: Aligned
) -> NDArray[np.float64]:
    """Beginning and end of each unit of a text, ``(U, 2)``, in the time of the alignment.

    Units of the alignment's own kind have their segments. Several states of each phone divide its segment evenly; units
    made of letters that were aligned one by one have those of their letters; all others divide the time of their word
    by their shares.

    Args:
        symbols: the units.
        words: word of each, ``(U,)``.
        shares: see ``Inventory.shares``, ``(U,)``.
        kind: of the units, see ``Inventory.kind``.
        aligned: the item.

    Raises:
        ValueError: the text has a word that the alignment has not.
    """
    segments = aligned.segments
    if kind == aligned.kind and [segment.unit for segment in segments] == list(symbols):
        return np.array([(segment.start, segment.end) for segment in segments], dtype=np.float64).reshape(-1, 2)
    spans = np.zeros((len(symbols), 2))
    by_word: dict[int, list[Segment]] = {}
    for segment in segments:
        by_word.setdefault(segment.word, []).append(segment)
    for word in np.unique(words):
        places = np.flatnonzero(words == word)
        if int(word) not in by_word:
            raise ValueError(f"the alignment has no word {int(word) + 1} of {' '.join(aligned.words)!r}")
        inside = by_word[int(word)]
        spans[places] = _within([symbols[place] for place in places], shares[places], kind, aligned.kind, inside)
    return spans


def _within(
    symbols: list[str], shares: NDArray[np.float32], kind: str, aligned_kind: str, segments: list[Segment]
) -> NDArray[np.float64]:
    """Spans of the units of one word."""
    if kind == "senones" and aligned_kind == "phones" and len(symbols) % len(segments) == 0:
        return _divided(segments, len(symbols) // len(segments))
    letters = [symbol.replace(WORD_SEPARATOR, "") for symbol in symbols]
    heard = [segment.unit.replace(WORD_SEPARATOR, "") for segment in segments]
    if aligned_kind == "characters" and "".join(letters) == "".join(heard):
        return _of_letters(letters, [segment for segment, letter in zip(segments, heard, strict=True) if letter])
    # a separator has the silence behind its word
    sounds = [segment for segment, letter in zip(segments, heard, strict=True) if letter] or segments
    start, end = sounds[0].start, sounds[-1].end
    cuts = np.concatenate([[0.0], np.cumsum(shares, dtype=np.float64)])
    edges = start + (end - start) * cuts / cuts[-1]
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _divided(segments: list[Segment], parts: int) -> NDArray[np.float64]:
    """Each segment in so many equal parts."""
    edges = np.array([np.linspace(segment.start, segment.end, parts + 1) for segment in segments])
    return np.stack([edges[:, :-1].reshape(-1), edges[:, 1:].reshape(-1)], axis=1)


def _of_letters(letters: list[str], segments: list[Segment]) -> NDArray[np.float64]:
    """From the first letter of each unit to its last; a unit without letters has no time."""
    spans, place = [], 0
    for unit in letters:
        if unit:
            spans.append((segments[place].start, segments[place + len(unit) - 1].end))
            place += len(unit)
        else:
            moment = segments[place].start if place < len(segments) else segments[-1].end
            spans.append((moment, moment))
    return np.array(spans, dtype=np.float64)


def units_at(spans: NDArray[np.float64], moments: NDArray[np.float64]) -> NDArray[np.int64]:
    """Unit that each moment belongs to, -1 for none: ``(T,)`` from spans ``(U, 2)`` that rise and do not overlap."""
    if not len(spans):
        return np.full(len(moments), -1, dtype=np.int64)
    place = np.searchsorted(spans[:, 0], moments, side="right") - 1
    inside = (place >= 0) & (moments < spans[place.clip(min=0), 1])
    return np.where(inside, place, -1).astype(np.int64)
