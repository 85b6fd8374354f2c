"""From a CTC path to spans of time. Labels are spikes there, near their sound, and blank is most of the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Times = NDArray[np.float64]

CONTRAST = 1.0
"""Least difference between loud and quiet (the 95th and 5th percentile, in nats of energy) that tells them apart."""
LEVEL = 0.15
"""Where between quiet and loud a frame begins to count as active."""
TIMES = ("before", "after", "inside", "reach", "wrong", "silence", "shortest")
"""Options that are times."""


@dataclass(frozen=True)
class SegmentOptions:
    """How blank frames are given to units. Times are seconds, or input units where there is no audio."""

    blank_penalty: float = 0.0
    """Nats taken from the blank before the path is sought, so that labels hold more frames than their spike."""
    before: float = 0.0
    """How far a word begins before its first label, where nothing tells; labels of letters are rather early."""
    after: float = 0.05
    """How far a word lasts after its last label, where nothing tells."""
    inside: float = 0.5
    """How far each of two units of a word reaches into the gap between them; there is hardly ever silence."""
    trim: bool = True
    """Whether words end where the input falls quiet, if there is something that tells; see ``Activity``."""
    reach: float = 0.2
    """With ``trim``: how far a word may last until it falls quiet, on either side."""
    wrong: float = 0.2
    """With ``trim``: how far inside a word, as the path has it, there may be silence."""
    silence: float = 0.03
    """With ``trim``: what is quiet for less is part of a sound."""
    shortest: float = 0.02
    """Units last at least so long, where their word has room."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OptionsError: one is negative or not finite.
        """
        for name in ("blank_penalty", *TIMES):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionsError(f"{name} must be 0 or more, and finite; found {getattr(self, name)}")

    def scaled(self, factor: float) -> SegmentOptions:
        """Return options whose times are multiplied, for inputs that have so many units in a second."""
        return replace(self, **{name: getattr(self, name) * factor for name in TIMES})


PATH_ALONE = SegmentOptions(before=0.0, after=0.0, inside=0.0, trim=False, shortest=0.0)
"""Every unit has the frames that the path gives it, and no more."""
WHOLE_WORDS = SegmentOptions(before=0.4, after=0.4, reach=1.0)
"""For tokens that are words: one label somewhere in each."""


class Activity(NamedTuple):
    """How much happens at each moment of an item: for audio the log of its energy."""

    values: NDArray[np.float32]
    """``(F,)``, any level."""
    frame: float
    """Time of one value."""

    def quiet(self) -> NDArray[np.bool_] | None:
        """Frames where nothing happens, ``(F,)``; None where quiet and loud cannot be told apart."""
        if not len(self.values):
            return None
        low, high = np.percentile(self.values, (5, 95))
        return None if high - low < CONTRAST else self.values < low + LEVEL * (high - low)


def spans_on_path(states: NDArray[np.int64], frame: float, duration: float) -> Times:
    """First and last moment of each unit on a path: ``(U, 2)``.

    Args:
        states: unit of each frame, ``(T,)``, -1 for blank; every unit has at least one frame.
        frame: time of a frame; frame t is about ``[t * frame, (t + 1) * frame)``.
        duration: of the item; nothing lies beyond it.
    """
    units, first, counts = np.unique(states[states >= 0], return_index=True, return_counts=True)
    frames = np.flatnonzero(states >= 0)
    begins, ends = frames[first], frames[first + counts - 1] + 1
    spans = np.stack([begins, ends], axis=1) * float(frame) if len(units) else np.zeros((0, 2))
    return np.minimum(spans, duration)


def spread(
    on_path: Times,
    words: NDArray[np.int64],
    letters: NDArray[np.bool_],
    duration: float,
    *,
    options: SegmentOptions,
    activity: Activity | None = None,
) -> Times:
    """Give blank frames to the units beside them: ``(U, 2)``, rising, without overlap.

    First it is settled where words begin and end: each reaches as far from its labels as the options say, and what is
    farther is silence; with ``activity`` the longest quiet time about each gap between words is silence, also where the
    model was early or late and a label lies in it. Inside a word gaps are divided between the units on both sides. A
    separator (``▁``) is no sound: it has what the words beside it leave.

    Args:
        on_path: see ``spans_on_path``.
        words: word of each unit, ``(U,)``; they never fall.
        letters: False for a separator between words, ``(U,)``.
        duration: of the item.
        options: see there.
        activity: of the item; ignored without ``options.trim``.
    """
    spans, sounding = on_path.copy(), np.flatnonzero(letters)
    if len(sounding):
        spans[sounding] = _spread(on_path[sounding], words[sounding], duration, options, activity)
    for place in np.flatnonzero(~letters):
        # a separator is no word's beginning and end at once: what comes next, if anything does, is a letter
        start = spans[place - 1, 1] if place else 0.0
        following = np.flatnonzero(letters[place:])
        end = spans[place + following[0], 0] if len(following) else duration
        spans[place] = start, max(start, end)
    return spans


def _spread(
    on_path: Times, words: NDArray[np.int64], duration: float, options: SegmentOptions, activity: Activity | None
) -> Times:
    """Units that are all sounds."""
    firsts = np.flatnonzero(np.concatenate([[True], words[1:] != words[:-1]]))
    lasts = np.append(firsts[1:], len(words)) - 1
    begins, ends = _reached(on_path[firsts, 0], on_path[lasts, 1], duration, options)
    if activity and options.trim:
        silences = _silences(on_path, firsts, lasts, options, activity)
        begins, ends = _until_quiet(on_path[firsts, 0], on_path[lasts, 1], silences, options, (begins, ends))
    numbers = np.repeat(np.arange(len(firsts)), lasts - firsts + 1)
    spans = on_path.clip(begins[numbers, None], ends[numbers, None])
    gaps = np.maximum(spans[1:, 0] - spans[:-1, 1], 0.0)
    given = np.where(numbers[1:] == numbers[:-1], np.minimum(gaps / 2, options.inside), 0.0)
    spans[:-1, 1] += given
    spans[1:, 0] -= given
    spans[firsts, 0], spans[lasts, 1] = begins, ends
    for word, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        spans[first : last + 1] = _not_shorter(spans[first : last + 1], begins[word], ends[word], options.shortest)
    return spans


def _not_shorter(spans: Times, begin: float, end: float, shortest: float) -> Times:
    """Widen the units of a word to ``shortest`` at the cost of their neighbours, or as evenly as there is room."""
    least = min(shortest, (end - begin) / len(spans))
    needed = np.concatenate([[0.0], np.cumsum(np.tile([least, 0.0], len(spans)))[:-1]])
    edges = np.maximum.accumulate(spans.reshape(-1) - needed) + needed
    latest = end - (needed[-1] - needed)
    widened: Times = np.minimum(edges, latest).clip(begin, end).reshape(-1, 2)
    return widened


def _reached(begins: Times, ends: Times, duration: float, options: SegmentOptions) -> tuple[Times, Times]:
    """Words widened at both ends; where both want the same, each gets its share."""
    gaps = np.maximum(np.append(begins, duration) - np.insert(ends, 0, 0.0), 0.0)
    before = np.full(len(gaps), options.before)
    after = np.full(len(gaps), options.after)
    after[0] = before[-1] = 0.0
    share = np.minimum(1.0, gaps / np.maximum(before + after, 1e-12))
    return begins - (before * share)[:-1], ends + (after * share)[1:]


def _silences(
    on_path: Times,
    firsts: NDArray[np.int64],
    lasts: NDArray[np.int64],
    options: SegmentOptions,
    activity: Activity,
) -> Times:
    """Silence in front of each word, and behind the last one: ``(words + 1, 2)``, NaN for none.

    It is looked for in the gap as the path has it, and as far into both words as the path may be wrong, but not over
    another unit of theirs.
    """
    inner_ends = np.where(lasts > firsts, on_path[lasts - 1, 1], on_path[lasts, 0])
    inner_begins = np.where(lasts > firsts, on_path[np.minimum(firsts + 1, len(on_path) - 1), 0], on_path[firsts, 1])
    starts = np.insert(np.maximum(on_path[lasts, 1] - options.wrong, inner_ends), 0, 0.0)
    stops = np.append(np.minimum(on_path[firsts, 0] + options.wrong, inner_begins), np.inf)
    found, quiet, settled = np.full((len(starts), 2), np.nan), activity.quiet(), 0.0
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        # the silence in front of a word is not looked for again behind it
        run = (
            None
            if quiet is None
            else _longest_quiet(quiet, max(start, settled) / activity.frame, stop / activity.frame)
        )
        if run is not None and (run[1] - run[0]) * activity.frame >= options.silence - 1e-9:
            found[number] = run[0] * activity.frame, run[1] * activity.frame
            settled = found[number, 1]
    return found


def _until_quiet(
    first: Times, last: Times, silences: Times, options: SegmentOptions, otherwise: tuple[Times, Times]
) -> tuple[Times, Times]:
    """Begin and end words at the silences, as far as they reach; where there is none, as they do ``otherwise``."""
    earliest, latest = first - max(options.reach, options.before), last + max(options.reach, options.after)
    begins = np.where(np.isnan(silences[:-1, 1]), otherwise[0], np.maximum(silences[:-1, 1], earliest))
    ends = np.where(np.isnan(silences[1:, 0]), otherwise[1], np.minimum(silences[1:, 0], latest))
    # where the path is very wrong these may cross
    rising = np.maximum.accumulate(np.stack([begins, ends], axis=1).reshape(-1))
    return rising[::2], rising[1::2]


def _longest_quiet(quiet: NDArray[np.bool_], start: float, stop: float) -> tuple[int, int] | None:
    """First and last edge of the longest run of quiet frames that lie between two moments; None without any."""
    low, high = int(np.ceil(start - 1e-6)), int(min(len(quiet), stop + 1e-6))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet[low:high].astype(np.int8), [0]])))
    if not len(edges):
        return None
    runs = edges.reshape(-1, 2)
    longest = runs[np.argmax(runs[:, 1] - runs[:, 0])]
    return low + int(longest[0]), low + int(longest[1])
