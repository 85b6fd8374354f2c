"""TextGrids of Praat, long form: tiers of words and units, silence as empty intervals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdcompress.aligning.word_spans import word_spans
from kdcompress.files import write_text
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdcompress.aligning.aligned import Aligned

    Interval = tuple[float, float, str]

UNSAFE = re.compile(r"[^\w.-]+")
"""What a file's name should not hold."""
DIGITS = 6


def text_grid(item: Aligned) -> str:
    """Return an item as a TextGrid: separators are silence, and units without length, which Praat lacks, left out."""
    words = [(span.start, span.end, span.word) for span in word_spans(item)]
    sounds = [segment for segment in item.segments if segment.unit != WORD_SEPARATOR]
    units = [(sound.start, sound.end, sound.unit.replace(WORD_SEPARATOR, "")) for sound in sounds]
    tiers = {
        "words": filled(words, item.duration),
        item.kind if item.kind != "words" else "units": filled(units, item.duration),
    }
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *_span(0.0, item.duration, "")]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += [*_span(0.0, item.duration, "        "), f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                *_span(start, end, " " * 12),
                f"            text = {_quoted(text)}",
            ]
    return "\n".join(lines) + "\n"


def filled(intervals: Iterable[Interval], duration: float) -> list[Interval]:
    """Fill what is between intervals, and around them, with silence; an item without length has no interval."""
    found: list[Interval] = []
    now = 0.0
    for begin, stop, text in [*intervals, (duration, duration, "")]:
        start, end = round(begin, DIGITS), round(stop, DIGITS)
        if start > now:
            found.append((now, start, ""))
        if end > start:
            found.append((start, end, text))
        now = max(now, end)
    return found


def _span(start: float, end: float, indent: str) -> list[str]:
    return [f"{indent}xmin = {start:.{DIGITS}f}", f"{indent}xmax = {end:.{DIGITS}f}"]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def write_text_grids(folder: Path, items: Iterable[Aligned]) -> int:
    """Write one file an item, named after its place and id; return how many."""
    count = 0
    for item in items:
        name = UNSAFE.sub("_", item.id)[-80:]
        write_text(folder / f"{item.place:06d}-{name}.TextGrid", text_grid(item))
        count += 1
    return count
