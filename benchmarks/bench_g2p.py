#!/usr/bin/env python3
"""How well words that a lexicon lacks are guessed: a model learned from the rest of it, against espeak-ng.

Usage: python benchmarks/bench_g2p.py LEXICON [--folds 5] [--orders 2 3 5 8] [--words TEXT] [--save DIR]

Every word is held out once: the words are shuffled and dealt into folds, and each fold is guessed by a model of the
others. Of each word the first pronunciation counts, without stress. Error rates are of phones (edits over phones of the
reference) and of words (any edit); intervals are bootstraps over words. espeak-ng is asked where it is installed; it
learned nothing from the lexicon, and differs from it in conventions, too. ``--words`` names a text whose words that the
lexicon lacks are guessed once to take the time (of the CPU: other work on it does not count).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np
from exit_codes import with_exit_code

from kdcompress.data.lexicon import read_lexicon
from kdcompress.files import write_text
from kdcompress.units.espeak import PROGRAM, Espeak
from kdcompress.units.g2p import ORDER, GraphoneModel
from kdcompress.units.pronunciation import entries_of
from kdcompress_export.timing import cpu_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Phones = tuple[str, ...]

RESAMPLES = 2000
SEED = 1


def folds_of(words: Sequence[str], count: int) -> list[list[str]]:
    """Deal shuffled words into folds."""
    shuffled = sorted(words)
    random.Random(SEED).shuffle(shuffled)  # noqa: S311
    return [shuffled[start::count] for start in range(count)]


def guess_all(
    entries: Mapping[str, Phones], folds: Sequence[Sequence[str]], order: int
) -> tuple[dict[str, Phones], float]:
    """Guess each fold by a model of the others; returns phones by word, and CPU seconds to learn one model."""
    said: dict[str, Phones] = {}
    seconds = []
    for fold in folds:
        held = set(fold)
        start = time.process_time()
        model = GraphoneModel.learn({word: phones for word, phones in entries.items() if word not in held}, order)
        seconds.append(time.process_time() - start)
        said.update(zip(fold, model(fold), strict=True))
    return said, float(np.median(seconds))


def scored(name: str, entries: Mapping[str, Phones], said: Mapping[str, Phones]) -> dict[str, Any]:
    """Error rates in percent with 95 % intervals."""
    edits = np.array([_edits(entries[word], said[word]) for word in entries])
    lengths = np.array([len(phones) for phones in entries.values()])
    picks = np.random.default_rng(SEED).integers(0, len(edits), (RESAMPLES, len(edits)))
    phone = 100 * edits[picks].sum(axis=1) / lengths[picks].sum(axis=1)
    word = 100 * (edits[picks] > 0).mean(axis=1)
    return {
        "name": name,
        "words": len(edits),
        "phone_error_rate": round(100 * float(edits.sum() / lengths.sum()), 2),
        "phone_interval": [round(float(end), 2) for end in np.percentile(phone, (2.5, 97.5))],
        "word_error_rate": round(100 * float((edits > 0).mean()), 2),
        "word_interval": [round(float(end), 2) for end in np.percentile(word, (2.5, 97.5))],
    }


def _edits(reference: Phones, guess: Phones) -> int:
    found = jiwer.process_words(" ".join(reference), " ".join(guess))
    return int(found.substitutions + found.deletions + found.insertions)


def speed(entries: Mapping[str, Phones], text: Path) -> dict[str, Any]:
    """Words a second of a model of the whole lexicon, on those of a text that it lacks."""
    model = GraphoneModel.learn(entries)
    words = sorted({word for word in text.read_text(encoding="utf-8").split() if word not in entries})
    start = time.process_time()
    model(words)
    seconds = time.process_time() - start
    return {"text": text.name, "words": len(words), "words_a_second": round(len(words) / seconds), "cpu": cpu_name()}


def table(result: Mapping[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        f"{result['lexicon']}: {result['entries']:,} words, each held out once in {result['folds']} folds.",
        "",
        "| guessed by | phone error rate % | 95 % | word error rate % | 95 % | CPU s to learn |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        phone, word = ("{} to {}".format(*row[name]) for name in ("phone_interval", "word_interval"))
        cells = (row["name"], row["phone_error_rate"], phone, row["word_error_rate"], word, row.get("seconds", "-"))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    if timed := result.get("speed"):
        lines += [
            "",
            f"{timed['words']:,} words of {timed['text']}: {timed['words_a_second']:,} a CPU second ({timed['cpu']}).",
        ]
    return "\n".join(lines) + "\n"


@with_exit_code
def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lexicon", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--orders", type=int, nargs="+", default=[2, 3, ORDER, 8])
    parser.add_argument("--words", type=Path, help="a text of words to guess, for the speed")
    parser.add_argument("--save", type=Path, help="folder for g2p.json and g2p.md")
    asked = parser.parse_args()
    entries = entries_of(read_lexicon(asked.lexicon))
    folds = folds_of(list(entries), asked.folds)
    result: dict[str, Any] = {"lexicon": asked.lexicon.name, "entries": len(entries), "folds": asked.folds, "rows": []}
    for order in asked.orders:
        said, seconds = guess_all(entries, folds, order)
        result["rows"].append({**scored(f"graphones, {order}-grams", entries, said), "seconds": round(seconds, 1)})
    if shutil.which(PROGRAM):
        words = list(entries)
        result["rows"].append(scored("espeak-ng, en-us", entries, dict(zip(words, Espeak()(words), strict=True))))
    if asked.words:
        result["speed"] = speed(entries, asked.words)
    print(table(result))
    if asked.save:
        write_text(asked.save / "g2p.json", json.dumps(result, indent=2) + "\n")
        write_text(asked.save / "g2p.md", table(result))


if __name__ == "__main__":
    raise SystemExit(main())
