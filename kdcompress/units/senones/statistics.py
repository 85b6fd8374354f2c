"""Frames under an alignment, added up by phone in context and state: memory by context, whatever the hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.errors import VocabularyError
from kdcompress.units.content import places
from kdcompress.units.senones.moments import Statistics, statistics_of, summed
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.aligning.aligned import Aligned
    from kdcompress.units.senones.frames import FrameReader
    from kdcompress.units.senones.moments import Floats, Ints

    Rows = tuple[Ints, Floats, Floats]
    """Contexts ``(R, 4)``, visits ``(R,)``, moments ``(R, 1 + 2 D)``."""

SLACK_FRAMES = 10
"""An alignment may end so many frames after its item: its own frames are longer."""
ROWS = 1 << 16
"""So many rows are kept before those of the same context are added up."""


class Division(NamedTuple):
    """How time becomes frames, parts of phones, and pauses."""

    states: int = 1
    """Equal parts of each phone."""
    frame: float = 0.01
    """Length of a frame, in the unit of ``Segment.start``."""
    pause: float = 0.2
    """Between two segments: from here on each has silence for a neighbour, not the other."""


def gathered(
    items: Iterable[tuple[Aligned, NDArray[np.float32]]],
    phones: Sequence[str],
    division: Division,
    source: str = "alignment",
) -> Statistics:
    """Add up the frames of aligned items.

    Args:
        items: each with its frames ``(T, D)``.
        phones: phone by id; silence is not among them.
        division: see there.
        source: names the alignment in messages.

    Raises:
        VocabularyError: an item has a phone that is not among ``phones``.
        ManifestError: an item ends much before its alignment; or none has frames.
    """
    ids = places(phones)
    kept: list[Rows] = []
    waiting = 0
    for aligned, frames in items:
        kept.append(item_rows(aligned, frames, ids, division, source))
        waiting += len(kept[-1][0])
        if waiting > ROWS:
            kept, waiting = [_added(kept, phones, division.states)], 0
    if not any(len(rows[0]) for rows in kept):
        raise ManifestError(f"{source}: no phone of any item is aligned; align the manifest again")
    return statistics_of(phones, division.states, *_joined(kept))


def _joined(kept: Sequence[Rows]) -> Rows:
    contexts, visits, moments = zip(*(rows for rows in kept if len(rows[0])), strict=True)
    return np.concatenate(contexts), np.concatenate(visits), np.concatenate(moments)


def _added(kept: Sequence[Rows], phones: Sequence[str], states: int) -> Rows:
    found = statistics_of(phones, states, *_joined(kept))
    return found.contexts, found.visits, found.moments


def item_rows(
    aligned: Aligned, frames: NDArray[np.float32], ids: dict[str, int], division: Division, source: str = "alignment"
) -> Rows:
    """Moments of each part of each phone of one item: in order, ``U * states`` rows.

    A frame belongs to the part that its middle lies in, so of a phone shorter than its states some have none.

    Raises:
        VocabularyError, ManifestError: see ``gathered``.
    """
    segments, states = aligned.segments, division.states
    units = phone_ids(aligned, ids, source)
    if not segments:
        return np.zeros((0, 4), np.int64), np.zeros(0), np.zeros((0, 1 + 2 * frames.shape[1]))
    starts, ends = (np.array([getattr(segment, name) for segment in segments]) for name in ("start", "end"))
    if ends[-1] > (len(frames) + SLACK_FRAMES) * division.frame:
        raise ManifestError(
            f"{source}, item {aligned.id}: aligned up to {ends[-1]:g}, but its {len(frames)} frames end at "
            f"{len(frames) * division.frame:g}; align this manifest again, or correct the length of a frame"
        )
    middles = (np.arange(len(frames)) + 0.5) * division.frame
    place = np.searchsorted(starts, middles, side="right") - 1
    inside = (place >= 0) & (middles < ends[place])
    place, middles = place[inside], middles[inside]
    part = (states * (middles - starts[place]) / (ends[place] - starts[place])).astype(np.int64).clip(max=states - 1)
    values = frames[inside].astype(np.float64)
    rows = np.concatenate([np.ones((len(values), 1)), values, values**2], axis=1)
    around = neighbours(units, starts, ends, division.pause, len(ids)).repeat(states, axis=0)
    state = np.tile(np.arange(states), len(segments))
    contexts = np.concatenate([around, state[:, None]], axis=1)
    return contexts, np.ones(len(contexts)), summed(rows, place * states + part, len(contexts))


def phone_ids(aligned: Aligned, ids: dict[str, int], source: str) -> Ints:
    """Phone of each segment, ``(U,)``.

    Raises:
        VocabularyError: one is not among ``ids``.
    """
    try:
        return np.array([ids[segment.unit] for segment in aligned.segments], dtype=np.int64)
    except KeyError as error:
        raise VocabularyError(
            f"{source}, item {aligned.id}: {error.args[0]!r} is none of the {len(ids)} phones of the inventory; align "
            "in phones, with the same lexicon"
        ) from error


def neighbours(phones: Ints, starts: Floats, ends: Floats, pause: float, silence: int) -> Ints:
    """Left phone, phone, right phone, ``(U, 3)``: silence at the ends, and beside gaps of at least ``pause``."""
    # times that were written with few digits must not decide whether a gap is one
    apart = starts[1:] - ends[:-1] >= pause * (1 - 1e-6)
    left = np.concatenate([[silence], np.where(apart, silence, phones[:-1])])
    right = np.concatenate([np.where(apart, silence, phones[1:]), [silence]])
    found: Ints = np.stack([left, phones, right], axis=1).astype(np.int64)
    return found


def aligned_frames(
    manifest: Path, alignment: Iterable[Aligned], read: FrameReader, source: str = "alignment"
) -> Iterator[tuple[Aligned, NDArray[np.float32]]]:
    """Yield each aligned item with its frames; items that are not aligned are passed over.

    Raises:
        ManifestError: the alignment is of another manifest, or its items are not in the order of the manifest.
    """
    entries, number = enumerate(read_manifest(manifest)), -1
    for aligned in alignment:
        if aligned.place <= number:
            raise ManifestError(f"{source}: item {aligned.id} is not in the order of the manifest; align it again")
        number, entry = next((found for found in entries if found[0] == aligned.place), (aligned.place, None))
        if entry is None or entry.id != aligned.id:
            there = f"has {entry.id} there" if entry else "has fewer items"
            raise ManifestError(
                f"{source} is of another manifest: its item {number + 1} is {aligned.id}, and {manifest} {there}; "
                "align this manifest, or name the one that was aligned"
            )
        yield aligned, read(entry)
