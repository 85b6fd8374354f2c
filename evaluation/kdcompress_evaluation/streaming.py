"""One utterance in a stream: what is shown when, what is taken back, and when the endpoint comes."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.pauses import room_noise, speech_bounds
from kdcompress_evaluation.rows import StreamRow
from kdcompress_evaluation.systems.base import Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.systems.base import Item, Recognised, System

PAUSE_SECONDS = 3.0
"""Noise of the room behind an utterance whose endpoint is awaited."""
PIECE_SECONDS = 0.02
"""What a microphone gives at a time."""
CUT_SECONDS = 0.1
"""An endpoint this long before the end of speech cuts nothing: a word ends softly."""
_LONGEST_PIECE_SECONDS = 1.0
_SEED = 6
_DIGITS = 6
"""Kept of seconds: more are rounding."""


def measure_stream(system: System, item: Item, *, endpoint: bool = False) -> StreamRow:
    """Stream an item in the system's own chunks and look at the partial text after each.

    Args:
        system: one that streams.
        item: with audio; the field ``words`` of its line (a list of ``word``, ``start``, ``end``) gives the times of
            words, the recogniser does where that is missing or has another number of words than the final text.
        endpoint: stream it once more with a pause behind, and wait for the endpoint.

    Raises:
        KdcompressError: see ``System``.
    """
    samples, rate = item.audio(system.sample_rate)
    size = max(1, round((system.chunk_seconds or 0.0) * rate))
    stream = system.open_stream()
    partials: list[tuple[float, list[str]]] = []
    for start in range(0, len(samples), size):
        stream.accept(samples[start : start + size])
        partials.append((min(start + size, len(samples)) / rate, stream.partial().split()))
    begun = perf_counter()
    final = stream.finish()
    seconds = perf_counter() - begun
    words = final.text.split()
    fed = [*partials, (len(samples) / rate, words)]
    times, whose = _word_times(final, words, _stated_words(item.extra))
    wait, ended = _wait(system, item, samples, rate) if endpoint else (None, "")
    return StreamRow(
        text=final.text,
        first_partial=_first_partial(fed, times),
        delays=_delays(fed, times),
        word_times=whose,
        revised=_revised(fed),
        words=len(words),
        final_seconds=seconds,
        endpoint_wait=wait,
        endpoint=ended,
    )


def split_text(system: System, item: Item) -> str:
    """Text of a stream that gets the audio in pieces of random length, one sample to a second; the same every time."""
    samples, _ = item.audio(system.sample_rate)
    stream = system.open_stream()
    for piece in random_pieces(samples, system.sample_rate or 1, item.index):
        stream.accept(piece)
    return stream.finish().text


def random_pieces(samples: NDArray[np.float32], rate: int, index: int) -> Iterator[NDArray[np.float32]]:
    """Cut samples at random; lengths are evenly spread on a logarithmic scale."""
    draw = np.random.default_rng([_SEED, index])
    start = 0
    while start < len(samples):
        size = round(float(np.exp(draw.uniform(0.0, np.log(max(2.0, _LONGEST_PIECE_SECONDS * rate))))))
        yield samples[start : start + size]
        start += size


def _wait(system: System, item: Item, samples: NDArray[np.float32], rate: int) -> tuple[float | None, str]:
    """Seconds from the end of speech to the endpoint, and whether it came in time."""
    _, ends = speech_bounds(samples, rate)
    audio = np.concatenate([samples, room_noise(samples, PAUSE_SECONDS, rate, item.index)])
    stream = system.open_stream(endpoints=True)
    size = max(1, round(PIECE_SECONDS * rate))
    for start in range(0, len(audio), size):
        stream.accept(audio[start : start + size])
        ended = stream.endpoint()
        if ended is not None:
            if ended < ends - CUT_SECONDS:
                return None, "early"
            return round(min(start + size, len(audio)) / rate - ends, _DIGITS), "in time"
    return None, "missed"


def _delays(fed: Sequence[tuple[float, list[str]]], times: Sequence[Word]) -> tuple[float, ...]:
    """Seconds of audio from the end of each final word until it stood for good; nothing without times."""
    return tuple(round(at - word.end, _DIGITS) for at, word in zip(_standing_since(fed), times, strict=False))


def _standing_since(fed: Sequence[tuple[float, list[str]]]) -> list[float]:
    """Seconds of audio since which each word of the last text has stood in its place unchanged."""
    final = fed[-1][1]
    since = [fed[-1][0]] * len(final)
    open_words = set(range(len(final)))
    for at, words in reversed(fed):
        open_words = {i for i in open_words if i < len(words) and words[i] == final[i]}
        if not open_words:
            break
        for i in open_words:
            since[i] = at
    return since


def _revised(fed: Sequence[tuple[float, list[str]]]) -> int:
    """Words that the next text no longer has in their place; a last word may still grow."""
    return sum(
        index >= len(after)
        or not (after[index] == word or (index == len(before) - 1 and after[index].startswith(word)))
        for (_, before), (_, after) in pairwise(fed)
        for index, word in enumerate(before)
    )


def _first_partial(fed: Sequence[tuple[float, list[str]]], words: Sequence[Word]) -> float | None:
    """Seconds of audio from the beginning of the first word to the first text."""
    shown = next((at for at, text in fed if text), None)
    return round(shown - words[0].begin, _DIGITS) if shown is not None and words else None


def _word_times(final: Recognised, words: Sequence[str], stated: Sequence[Word]) -> tuple[tuple[Word, ...], str]:
    """Times of the final words, and whose they are."""
    if words and len(stated) == len(words):
        return tuple(stated), "manifest"
    if words and len(final.words) == len(words):
        return final.words, "recogniser"
    return (), ""


def _stated_words(extra: Mapping[str, Any]) -> list[Word]:
    """Words with times as the manifest gives them; none where they are missing or malformed."""
    rows = extra.get("words")
    try:
        return [Word(str(row["word"]), float(row["start"]), float(row["end"])) for row in rows or ()]
    except (TypeError, KeyError, ValueError):
        return []
