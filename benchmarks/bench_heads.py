"""What heads of language models cost in training: a whole step (reading, forward, backward, update) with and without.

Takes one sweep of ``bench_lm.py`` (``OUTPUT/PART/sweeps/seed1.yaml``); its students do their steps in turns, on the
same batches, in one process with one thread. Medians of the ratios to labels only, of clock and of processor time.

Usage: python benchmarks/bench_heads.py SWEEP [--methods 00 05 10] [--steps 20] [--save DIR]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from exit_codes import with_exit_code

from kdcompress.distill import Updates
from kdcompress.files import write_text
from kdcompress.run import RunFolder
from kdcompress.sweep import load_sweep
from kdcompress.trainer import setup

WARM_UP = 3


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument(
        "--methods", nargs="+", default=["00", "01", "04", "10", "11", "14"], help="numbers of bench_lm"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/lm"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    recipes = {name: recipe for name, recipe in load_sweep(args.sweep).items() if name[:2] in args.methods}
    with tempfile.TemporaryDirectory() as folder:
        students = {name: Updates(setup(recipe, RunFolder(Path(folder) / name))) for name, recipe in recipes.items()}
        clock, processor = {name: [] for name in students}, {name: [] for name in students}
        for step in range(WARM_UP + args.steps):
            for name, student in students.items():
                began, computed = time.perf_counter(), time.process_time()
                student.apply(student.trainer.batches[step])
                clock[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - computed)
    first = next(iter(students))
    rows = [
        {
            "student": name,
            "losses": [loss.key for loss in recipes[name].losses],
            "ms": round(1000 * statistics.median(clock[name][WARM_UP:]), 1),
            "ratio": ratio(clock[name], clock[first]),
            "processor ms": round(1000 * statistics.median(processor[name][WARM_UP:]), 1),
            "processor ratio": ratio(processor[name], processor[first]),
        }
        for name in students
    ]
    text = "| losses | ms a step | ratio | processor ms | ratio |\n|---|---|---|---|---|\n"
    for row in rows:
        cells = [" + ".join(row["losses"]), row["ms"], row["ratio"], row["processor ms"], row["processor ratio"]]
        text += f"| {' | '.join(map(str, cells))} |\n"
    write_text(args.save / "steps.json", json.dumps(rows, indent=2) + "\n")
    write_text(args.save / "steps.md", text)
    print(text)


def ratio(mine: list[float], others: list[float]) -> float:
    """Median over the steps, each compared with the same step of the other."""
    pairs = zip(mine[WARM_UP:], others[WARM_UP:], strict=True)
    return round(statistics.median(one / other for one, other in pairs), 3)


if __name__ == "__main__":
    sys.exit(main())
