"""The report on prepared manifests: what they hold, what is odd about it, and what needs a look before training."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

from kdcompress.data.corpora.places import line_at, lines_with_places, place_of
from kdcompress.data.corpora.splits import is_held_out
from kdcompress.data.corpora.tally import BINS_A_DOUBLING, Tally, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kdcompress.data.corpora.tally import SharedSpeakers

ODD_FACTOR = 3.0
"""A text is odd that has three times as many characters a second as the median, or a third of it."""
RARE_COUNT, RARE_SHARE = 5, 1 / 20_000
"""A character is rare that is seen less often than this, or makes up less of all characters."""
RARE_LISTED = 30
TEXT_SHOWN = 200
PROGRESS_EVERY = 10_000


def describe(
    manifests: Mapping[str, Path], scratch: Path, on_line: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Return the report on manifests, as JSON values; it follows from their lines alone.

    Args:
        manifests: manifest by split.
        scratch: folder for temporary files.
        on_line: called with the number of lines read, now and then.
    """
    tally, done = Tally(tuple(manifests), scratch), 0
    with tally.speakers, tally.texts:
        for number, (split, path) in enumerate(manifests.items()):
            for offset, line in lines_with_places(path):
                tally.add(split, json.loads(line), place_of(number, offset))
                done += 1
                if on_line and done % PROGRESS_EVERY == 0:
                    on_line(done)
        shared = _shared(manifests, tally.count_speakers())
        different, frequent = tally.count_texts()
    return {
        "splits": {split: figures.described() for split, figures in tally.figures.items()},
        "alphabet": _alphabet(tally),
        "texts": {
            "different": different,
            "empty": tally.empty,
            "empty_ids": tally.empty_ids,
            "most_frequent": [
                {"count": count, "text": text_of(line_at(manifests, place))[:TEXT_SHOWN]} for count, place in frequent
            ],
        },
        "outliers": _outliers(tally),
        "speakers_in_several_splits": shared,
    }


def warnings(report: Mapping[str, Any]) -> list[str]:
    """Return what needs a look, a sentence each."""
    found = []
    splits, alphabet, shared = report["splits"], report["alphabet"], report["speakers_in_several_splits"]
    if report["unusable"]["count"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report["unusable"]["kinds"].items())
        found.append(f"left out {report['unusable']['count']} item(s): {kinds}; unusable.jsonl lists them")
    if shared["count"]:
        named = ", ".join(f"{one['speaker']} ({' and '.join(one['splits'])})" for one in shared["first"][:3])
        found.append(f"{shared['count']} speaker(s) are in several splits, such as {named}")
    unknown = sum(split["items_without_speaker"] for split in splits.values())
    if unknown:
        found.append(f"{unknown} item(s) name no speaker, so splits may share speakers and nobody can tell")
    rates = sorted({int(rate) for split in splits.values() for rate in split["sample_rates"]})
    if len(rates) > 1:
        found.append(f"sample rates are mixed: {', '.join(map(str, rates))} Hz; --sample-rate makes them one")
    for split, characters in alphabet["not_in_training"].items():
        found.append(f"{split} holds characters that no training text has: {' '.join(map(repr, characters))}")
    if "\ufffd" in alphabet["counts"]:
        found.append("some texts are not UTF-8: broken bytes have become U+FFFD; convert the transcripts")
    empty = report["texts"]["empty"]
    if empty and not report["settings"]["without_texts"]:
        found.append(f"{empty} item(s) have an empty text, such as {report['texts']['empty_ids'][0]}")
    return found + [
        f"nothing fell into {split}: there are too few speakers; raise its share, or deal out items with --split-by id"
        for split, share in report["settings"]["shares"].items()
        if report["settings"]["dealt"] and share and split not in splits
    ]


def _shared(manifests: Mapping[str, Path], shared: SharedSpeakers) -> dict[str, Any]:
    first = [{"speaker": line_at(manifests, place)["speaker"], "splits": splits} for place, splits in shared.first]
    return {"count": shared.count, "leaking": shared.leaking, "first": first}


def _alphabet(tally: Tally) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for figures in tally.figures.values():
        counts.update(figures.characters)
    rarest = sorted(counts, key=lambda char: (counts[char], char))
    limit = max(RARE_COUNT, RARE_SHARE * sum(counts.values()))
    rare = [char for char in rarest if counts[char] < limit]
    return {
        "counts": {char: counts[char] for char in sorted(counts, key=lambda char: (-counts[char], char))},
        "rare_count": len(rare),
        "rare": [
            {"character": char, "name": named(char), "count": counts[char], "first": tally.seen_at[char]}
            for char in rare[:RARE_LISTED]
        ],
        "not_in_training": _not_in_training(tally),
    }


def named(character: str) -> str:
    """Return a character's Unicode name, or its number where it has none."""
    return unicodedata.name(character, f"U+{ord(character):04X}")


def _not_in_training(tally: Tally) -> dict[str, str]:
    """Characters of each held-out split that a model trained on the others cannot write."""
    trained = {
        char for split, figures in tally.figures.items() if not is_held_out(split) for char in figures.characters
    }
    held_out = {split: set(figures.characters) for split, figures in tally.figures.items() if is_held_out(split)}
    return {split: "".join(sorted(chars - trained)) for split, chars in held_out.items() if trained and chars - trained}


def _outliers(tally: Tally) -> dict[str, Any]:
    total, below, median = sum(tally.speeds.values()), 0, 0
    for median in sorted(tally.speeds):
        below += tally.speeds[median]
        if 2 * below >= total:
            break
    limit = math.log2(ODD_FACTOR) * BINS_A_DOUBLING
    return {
        "shortest": tally.shortest.items(),
        "longest": tally.longest.items(),
        "median_characters_a_second": round(2.0 ** (median / BINS_A_DOUBLING), 2) if total else None,
        "far_too_many_characters": sum(count for place, count in tally.speeds.items() if place > median + limit),
        "far_too_few_characters": sum(count for place, count in tally.speeds.items() if place < median - limit),
        "most_characters_a_second": tally.fastest.items(),
        "fewest_characters_a_second": tally.slowest.items(),
    }
