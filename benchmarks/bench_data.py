"""Manifests of a million lines: what an index costs, what a plan costs; and recordings in tars against loose files.

Parts:

- ``index``: manifests of growing length (durations given, no audio): seconds and peak memory of the one pass, of
  opening the index that was kept, and of reading items at random
- ``plan``: over such an index, seconds and memory of all steps of an epoch, for batches of as many items and for
  batches of as many seconds, and how full and how padded these are
- ``reads``: the same recordings loose and packed (``kdcompress pack``), read in shuffled order in turns: warm, and with
  the files dropped from the page cache before (where the system allows it); bytes alone, and decoded

Usage: python benchmarks/bench_data.py [--lines 10000 100000 1000000] [--files 1000] [--work FOLDER]

Memory is what the process holds beyond its imports at most, mapped files among it. Each length has a process of its
own. Tables go to ``--save``; the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import soundfile
from exit_codes import with_exit_code

from kdcompress.data.buckets import BucketPlan
from kdcompress.data.items import Limits, load_items
from kdcompress.data.packing import pack
from kdcompress.data.plan import PoolPlan
from kdcompress.data.reading import read_bytes, read_samples
from kdcompress.data.text import character_vocabulary
from kdcompress.files import write_text
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcompress.data.items import Items
    from kdcompress.data.plan import Plan

RATE, FRAME, BATCH, BATCH_SECONDS = 16_000, 640, 32, 400
LETTERS = "abcdefghijklmnopqrstuvwxyz"
RANDOM_ITEMS = 2000


@with_exit_code
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the parts that were asked for and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("index", "plan", "reads"), default=["index", "plan", "reads"])
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--files", type=int, default=1000, help="recordings that are read")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-data"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/data"))
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for part, measure in (("index", index), ("plan", plan)):
        if part in args.parts:
            found[part] = [row for lines in args.lines for row in alone(measure, args.work, lines)]
    if "reads" in args.parts:
        found["reads"] = reads(args)
    for name, rows in found.items():
        write_text(args.save / f"{name}.json", json.dumps(rows, indent=1) + "\n")
        write_text(args.save / f"{name}.md", table(rows))
        print(table(rows))
    print(json.dumps(found))


def alone(measure: Callable[..., list[dict[str, Any]]], *arguments: object) -> list[dict[str, Any]]:
    """Measure in a fresh process, so that the peak of its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


class Memory:
    """What this process holds beyond what it held in the beginning, in MB."""

    def __init__(self) -> None:
        self._before = psutil.Process().memory_info().rss / 1e6

    def peak(self) -> float:
        """At most so far."""
        scale = 1 if sys.platform == "darwin" else 1024
        return round(max(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6 - self._before), 1)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` took, and what it gave."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def write_lines(work: Path, lines: int) -> Path:
    """Write a manifest of ``lines`` sentences of 3 to 15 s; the same every time."""
    path = work / f"{lines}.jsonl"
    if path.is_file():
        return path
    chance = random.Random(1)  # noqa: S311 - lengths, not secrets
    words = ["".join(chance.choices(LETTERS, k=chance.randint(2, 9))) for _ in range(5000)]
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for number in range(lines):
            seconds = round(chance.uniform(3, 15), 2)
            text = " ".join(chance.choices(words, k=max(1, int(seconds * 1.5))))
            row = {"audio_filepath": f"audio/{number:08d}.flac", "text": text, "duration": seconds}
            file.write(json.dumps({**row, "speaker": f"s{number % 5000}"}) + "\n")
    partial.replace(path)
    return path


def open_items(work: Path, lines: int) -> Items:
    """Items of such a manifest; the index is kept."""
    limits = Limits("characters", RATE, FRAME, max_duration=30, on_unusable="error")
    vocabulary = character_vocabulary([LETTERS + " " + LETTERS])
    return load_items(
        write_lines(work, lines), vocabulary, limits, seconds=lambda _: 0.0, index=work / f"{lines}.index"
    )


def index(work: Path, lines: int) -> list[dict[str, Any]]:
    """One pass over a manifest, the index that was kept, and items at random."""
    manifest, kept = write_lines(work, lines), work / f"{lines}.index"
    kept.unlink(missing_ok=True)
    memory = Memory()
    passed, _ = timed(lambda: open_items(work, lines))
    peak = memory.peak()
    opened, items = timed(lambda: open_items(work, lines))
    places = np.random.default_rng(1).integers(0, lines, RANDOM_ITEMS)
    read, _ = timed(lambda: [items.chosen(places[start : start + BATCH]) for start in range(0, RANDOM_ITEMS, BATCH)])
    return [
        {
            "lines": lines,
            "manifest, MB": round(manifest.stat().st_size / 1e6, 1),
            "pass, s": round(passed, 2),
            "us a line": round(1e6 * passed / lines, 1),
            "peak of the pass, MB": peak,
            "index, bytes a line": round(kept.stat().st_size / lines, 1),
            "open the index again, ms": round(1000 * opened, 1),
            "random items a second": round(RANDOM_ITEMS / read),
            "peak, MB": memory.peak(),
        }
    ]


def plan(work: Path, lines: int) -> list[dict[str, Any]]:
    """All steps of an epoch, and one step after a restart, for both plans."""
    items = open_items(work, lines)
    lengths, memory, rows = items.lengths, Memory(), []
    makers: dict[str, Callable[[], Plan]] = {
        f"{BATCH} items": lambda: PoolPlan(lengths, BATCH, streams=1, seed=1),
        f"{BATCH_SECONDS} seconds": lambda: BucketPlan(
            lengths, BATCH_SECONDS * RATE, longest=lambda units: units, streams=1, seed=1
        ),
    }
    for name, make in makers.items():
        made, chosen = timed(make)
        first, _ = timed(lambda chosen=chosen: chosen(7 * chosen.batches + chosen.batches // 2))
        epoch, _ = timed(lambda chosen=chosen: sum(len(chosen(step)) for step in range(chosen.batches)))
        sample = [chosen(step) for step in range(min(500, chosen.batches))]
        real = sum(int(lengths[batch].sum()) for batch in sample)
        padded = sum(len(batch) * int(lengths[batch].max()) for batch in sample)
        rows.append(
            {
                "lines": lines,
                "batches of": name,
                "batches an epoch": chosen.batches,
                "begin, s": round(made, 3),
                "one step in the middle, ms": round(1000 * first, 2),
                "us a step": round(1e6 * epoch / chosen.batches, 1),
                "padding": f"{1 - real / padded:.1%}",
                "items a batch": f"{min(map(len, sample))} to {max(map(len, sample))}",
                "peak, MB": memory.peak(),
            }
        )
    return rows


def reads(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Loose files and ranges in tars, in turns."""
    loose = write_recordings(args.work / f"loose-{args.files}", args.files, args.seconds)
    folder = args.work / f"packed-{args.files}"
    if not (folder / "index.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
    packing, packed = timed(lambda: pack(loose, folder, shard_bytes=64 * 10**6))
    order = np.random.default_rng(1).permutation(args.files)
    sources = {"loose files": loose, "ranges in tars": packed}
    inputs = {name: [entry.input for entry in read_manifest(path)] for name, path in sources.items()}
    files = {
        "loose files": sorted(set(inputs["loose files"])),
        "ranges in tars": sorted(map(str, folder.glob("*.tar"))),
    }
    rows = []
    for what, read in (("bytes", read_bytes), ("decoded", read_samples)):
        for cold in (False, True) if hasattr(os, "posix_fadvise") else (False,):
            seconds: dict[str, list[float]] = {name: [] for name in inputs}
            for _ in range(args.rounds):
                for name, paths in inputs.items():
                    if cold:
                        forget(files[name])
                    seconds[name].append(timed(lambda paths=paths, read=read: [read(paths[i]) for i in order])[0])
            rates = {name: round(args.files / statistics.median(taken)) for name, taken in seconds.items()}
            ratio = rates["ranges in tars"] / rates["loose files"]
            state = "dropped from the page cache" if cold else "in the page cache"
            each = {f"{name}, a second": rate for name, rate in rates.items()}
            rows.append({"what": what, "files": state, **each, "ratio": round(ratio, 2)})
    rows.append({"what": "packing", "files": f"{args.files} files, {packing:.1f} s"})
    return rows


def write_recordings(folder: Path, files: int, seconds: float) -> Path:
    """Write noise of given length as FLAC, and a manifest."""
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(1), []
    for number in range(files):
        name = f"{number % 100:02d}/{number:06d}.flac"
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, 0.05 * rng.standard_normal(round(seconds * RATE)), RATE)
        lines.append(json.dumps({"audio_filepath": name, "text": "a", "duration": seconds}) + "\n")
    write_text(manifest, "".join(lines))
    return manifest


def forget(paths: Sequence[str]) -> None:
    """Ask the system to drop files from its page cache."""
    for path in paths:
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
