"""What senones are worth: held-out likelihood by their number, unseen contexts, questions asked, how even leaves are.

Needs train.jsonl, dev.jsonl and test.jsonl of phones, and what `kdcompress align` made of each:
ALIGNED/train and so on. Half a minute of reading for three hours of speech on one core, and ten seconds for all trees:

    python benchmarks/bench_senones.py --manifests runs/sentences-phones --alignments ALIGNED --lexicon lexicon.txt

Log-likelihoods are of 39 values a frame (cepstra with deltas), each leaf a diagonal Gaussian fitted to train. Rows are
one a speaker and tree; intervals resample speakers. ``single`` asks for single phones alone, ``found`` for classes
that were clustered bottom-up.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.aligning import read_alignments
from kdcompress.files import write_text
from kdcompress.units.content import places
from kdcompress.units.opening import inventory_of
from kdcompress.units.senones.figures import figures_of, leaf_moments, seen
from kdcompress.units.senones.frames import audio_reader
from kdcompress.units.senones.growing import MIN_FRAMES, grow
from kdcompress.units.senones.moments import SILENCE, likelihood_under, statistics_of
from kdcompress.units.senones.questions import Question, distinct, found_classes, questions_for
from kdcompress.units.senones.statistics import Division, aligned_frames, item_rows
from kdcompress.units.senones.tree import FACTORS
from kdcompress_evaluation.bootstrap import interval, resampled_sums
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.units.senones import Growth, Statistics, Tree

SPLITS = ("train", "dev", "test")
COUNTS = (50, 100, 200, 400, 800)  # PAIRED is among them
STATES = (1, 3)
RESAMPLES = 2000
PAIRED = 400
"""Leaves with which kinds of questions are compared."""


@dataclass(frozen=True)
class Row:
    """One speaker of one split under one tree."""

    states: int
    questions: str
    leaves: int
    split: str
    speaker: str
    frames: float
    nats: float
    """Log-likelihood under the leaves."""
    plain: float
    """The same under the phone's state without context."""
    unseen_frames: float
    """Frames of phones whose context is not in train."""
    unseen_nats: float
    unseen_plain: float


def heard(folder: Path, alignments: Path, phones: Sequence[str], states: int) -> dict[str, dict[str, Statistics]]:
    """Read everything once: statistics by split and speaker."""
    read, ids, division = audio_reader(), places(phones), Division(states=states)
    found: dict[str, dict[str, Statistics]] = {}
    for split in SPLITS:
        manifest, aligned = folder / f"{split}.jsonl", alignments / split / "alignment.jsonl"
        speakers = {entry.id: str(entry.speaker) for entry in read_manifest(manifest)}
        rows: dict[str, list[Any]] = defaultdict(list)
        for item, frames in aligned_frames(manifest, read_alignments(aligned), read, str(aligned)):
            rows[speakers[item.id]].append(item_rows(item, frames, ids, division, str(aligned)))
        found[split] = {
            speaker: statistics_of(phones, states, *map(np.concatenate, zip(*parts, strict=True)))
            for speaker, parts in sorted(rows.items())
        }
    return found


def together(parts: Sequence[Statistics], states: int) -> Statistics:
    """Add up speakers; with one state, the states too."""
    contexts, visits, moments = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("contexts", "visits", "moments")
    )
    if states == 1:
        visits = np.where(contexts[:, 3] == 0, visits, 0.0)
        contexts = np.concatenate([contexts[:, :3], np.zeros_like(contexts[:, 3:])], axis=1)
    return statistics_of(parts[0].phones, states, contexts, visits, moments)


def rows_of(
    tree: Tree, plain: Tree, name: str, train: Statistics, *, split: str, by: dict[str, Statistics]
) -> list[Row]:
    """Score every speaker of a split."""
    models = [(one, leaf_moments(one, train)) for one in (tree, plain)]
    rows = []
    for speaker, statistics in by.items():
        known = seen(statistics.contexts, train)
        sums = []
        for one, moments in models:
            scores = likelihood_under(statistics.moments, moments[one.leaves(statistics.contexts)], train.floor)
            sums.append((round(float(scores.sum()), 2), round(float(scores[~known].sum()), 2)))
        frames = (float(statistics.frames.sum()), float(statistics.frames[~known].sum()))
        (nats, unseen), (nats_plain, unseen_plain) = sums
        found = (frames[0], nats, nats_plain, frames[1], unseen, unseen_plain)
        rows.append(Row(tree.states, name, len(tree), split, speaker, *found))
    return rows


def gain(rows: Sequence[Row], *, unseen: bool) -> dict[str, float | None]:
    """Nats a frame above the phone without context, with a 95 % interval over speakers."""
    names = ("unseen_nats", "unseen_plain", "unseen_frames") if unseen else ("nats", "plain", "frames")
    values = np.array([[getattr(row, name) for name in names] for row in rows])
    return difference(values)


def difference(values: NDArray[np.float64]) -> dict[str, float | None]:
    """First column minus second, each divided by the third, of ``(speakers, 3)`` sums, with its interval."""
    sums = resampled_sums(values, resamples=RESAMPLES, seed=[0])
    draws = (sums[:, 0] - sums[:, 1]) / np.maximum(sums[:, 2], 1)
    total = values.sum(axis=0)
    found = interval(float((total[0] - total[1]) / total[2]), draws, len(values))
    return {"value": found.value, "low": found.low, "high": found.high}


def paired(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Nats a test frame above phonetic questions, of other questions with as many leaves; over the same speakers."""
    by = {(row.states, row.questions, row.speaker): row for row in rows if row.split == "test" and row.leaves == PAIRED}
    found = {}
    for states in STATES:
        for name in ("found", "single"):
            mine = [row for key, row in by.items() if key[:2] == (states, name)]
            base = [by[states, "phonetic", row.speaker] for row in mine]
            values = [[row.nats, other.nats, row.frames] for row, other in zip(mine, base, strict=True)]
            found[f"{name}, states {states}"] = difference(np.array(values))
    return found


def question_sets(train: Statistics) -> dict[str, tuple[Question, ...]]:
    """Phonetic, found in the data, single phones."""
    phones = train.phones
    single = [Question(phone, (phone,)) for phone in (*phones, SILENCE)]
    return {
        "phonetic": questions_for(train),
        "found": distinct([*found_classes(train), *single], phones),
        "single": tuple(single),
    }


def measured(growth: Growth, train: Statistics, name: str, rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Everything of one tree."""
    figures = figures_of(growth, train)
    held_out = {}
    for split in SPLITS[1:]:
        mine = [row for row in rows if row.split == split]
        frames, unseen = sum(row.frames for row in mine), sum(row.unseen_frames for row in mine)
        held_out[split] = {
            "nats": sum(row.nats for row in mine) / frames,
            "gain": gain(mine, unseen=False),
            "unseen_frames": unseen / frames,
            "unseen_gain": gain(mine, unseen=True),
        }
    smallest, low, median, high, largest = figures.leaf_frames
    return {
        "states": growth.tree.states,
        "questions": name,
        "leaves": figures.leaves,
        "roots": figures.roots,
        "phone_states": growth.tree.roots.size,
        "train_nats": growth.likelihood / figures.frames,
        "purity": figures.purity,
        "contexts_a_leaf": figures.contexts_a_leaf,
        "leaf_frames": [smallest, low, median, high, largest],
        "grow_seconds": round(seconds, 2),
        **held_out,
    }


def trees(data: dict[str, dict[str, Statistics]]) -> tuple[list[dict[str, Any]], list[Row]]:
    """Grow and score all trees."""
    tables, rows = [], []
    for states in STATES:
        train = together(list(data["train"].values()), states)
        held_out = {
            split: {speaker: together([part], states) for speaker, part in data[split].items()} for split in SPLITS[1:]
        }
        roots = len(train.phones) * states
        plain = grow(train, roots).tree
        for name, questions in question_sets(train).items():
            for count in (roots, *COUNTS) if name == "phonetic" else (PAIRED,):
                start = time.perf_counter()
                growth = grow(train, count, questions=questions)
                seconds = time.perf_counter() - start
                mine = [
                    row
                    for split, by in held_out.items()
                    for row in rows_of(growth.tree, plain, name, train, split=split, by=by)
                ]
                rows += mine
                tables.append(measured(growth, train, name, mine, seconds))
    return tables, rows


def first_questions(train: Statistics, count: int) -> list[str]:
    """What the tree of ``count`` leaves asks first, with the gain in thousand nats."""
    growth = grow(train, count)
    return [
        f"{asked.phone}: {FACTORS[asked.factor]} {asked.question} ({asked.gain / 1000:.1f})"
        for asked in growth.asked[:20]
    ]


def asked_classes(train: Statistics, count: int) -> dict[str, int]:
    """How often each class is asked about, the most frequent first."""
    found: dict[str, int] = defaultdict(int)
    for asked in grow(train, count).asked:
        found[f"{FACTORS[asked.factor]} {asked.question}"] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1])[:15])


COLUMNS = (
    "states",
    "questions",
    "leaves",
    "test, nats a frame",
    "gain of train",
    "gain of dev [95 %]",
    "gain of test [95 %]",
    "of its unseen contexts [95 %]",
    "contexts a leaf",
    "frames of a leaf: least, 10 %, median, 90 %",
)


def table(tables: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    plain = {one["states"]: one["train_nats"] for one in reversed(tables) if one["leaves"] == one["phone_states"]}
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' ---: |' * len(COLUMNS)}"]
    for one in tables:
        test = one["test"]
        smallest, low, median, high, _ = one["leaf_frames"]
        cells = [
            str(one["states"]),
            one["questions"],
            str(one["leaves"]) + ("*" if one["roots"] < one["phone_states"] else ""),
            f"{test['nats']:.3f}",
            f"{one['train_nats'] - plain[one['states']]:.3f}",
            ci(one["dev"]["gain"]),
            ci(test["gain"]),
            ci(test["unseen_gain"]),
            f"{one['contexts_a_leaf']:.1f}",
            f"{smallest:.0f}, {low:.0f}, {median:.0f}, {high:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ci(value: dict[str, float | None]) -> str:
    """Value and interval."""
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def main() -> None:
    """Measure, and write rows, numbers and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=Path, required=True, help="folder with train.jsonl, dev.jsonl, test.jsonl")
    parser.add_argument("--alignments", type=Path, required=True, help="folder with the alignment of each")
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/senones"))
    options = parser.parse_args()
    phones = inventory_of("phones", lexicon=options.lexicon, g2p="none").symbols
    data = heard(options.manifests, options.alignments, phones, max(STATES))
    tables, rows = trees(data)
    train = together(list(data["train"].values()), 1)
    frames = {split: sum(float(part.frames.sum()) for part in by.values()) for split, by in data.items()}
    numbers: dict[str, Any] = {
        "frames": frames,
        "phones": len(phones),
        "contexts": len(train.contexts),
        "min_frames": MIN_FRAMES,
        "trees": tables,
        "above_phonetic": paired(rows),
        "first_questions": first_questions(train, 200),
        "asked_most": asked_classes(train, 200),
    }
    unseen = ", ".join(f"{100 * tables[0][split]['unseen_frames']:.1f} % of {split}" for split in SPLITS[1:])
    text = [table(tables), "", f"Frames of phones in contexts that train does not have: {unseen}.", ""]
    text += ["\\* states share leaves: fewer senones than states of phones.", ""]
    pairs = [f"{name}: {ci(value)}" for name, value in numbers["above_phonetic"].items()]
    text += [f"Nats a test frame above phonetic questions, {PAIRED} leaves: {'; '.join(pairs)}.", ""]
    text += [f"Asked first: {'; '.join(numbers['first_questions'])}.", ""]
    text += [f"Asked most of 200: {', '.join(f'{name} {n}' for name, n in numbers['asked_most'].items())}.", ""]
    write_text(options.output / "numbers.json", json.dumps(numbers, indent=1) + "\n")
    write_text(options.output / "table.md", "\n".join(text))
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    (options.output / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    print("\n".join(text))


if __name__ == "__main__":
    main()
