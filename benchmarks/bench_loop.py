"""What an update costs: in parts, with blocks computed again, in bf16, and on two processes.

Each variant has processes of its own, one thread each, that wait while another one is at work; rounds take the variants
in turn, so that a busy machine is equally unkind to all. Batches are read before. Columns: median milliseconds an
update, the median over rounds of the ratio to the first variant (and its range), the same ratio of processor time (of
all processes together, which a busy machine hardly changes), and by how many megabytes an update raises the resident
memory of a process at its peak (Linux).

The variants ``own norms`` and ``own padding`` leave out what makes two processes give the losses of one: they tell what
it costs.

Usage: python benchmarks/bench_loop.py --recipe RECIPE [--set KEY=VALUE ...] [--name NAME] [--variants ...]

Tables go to ``--save``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.state import AcceleratorState
from bench_report import table
from exit_codes import with_exit_code

from kdcompress import trainer
from kdcompress.data.batch import Batch
from kdcompress.distill import Updates
from kdcompress.files import write_text
from kdcompress.layers import count_parameters
from kdcompress.recipe_file import load_recipe
from kdcompress.run import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Variant:
    """A way to do the same updates."""

    settings: tuple[str, ...] = ()
    processes: int = 1
    without: str = ""


VARIANTS = {
    "1 process": Variant(),
    "accumulate 4": Variant(("train.accumulate=4",)),
    "checkpointing": Variant(("train.activation_checkpointing=true",)),
    "bf16": Variant(("train.precision=bf16",)),
    "2 processes": Variant(processes=2),
    "2 processes, own norms": Variant(processes=2, without="norms"),
    "2 processes, own padding": Variant(processes=2, without="padding"),
}


@with_exit_code
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the variants that were asked for and write what came out."""
    args = parse(argv)
    torch.set_num_threads(1)
    variants = {name: VARIANTS[name] for name in args.variants}
    crews = {name: Crew(args, name, variant) for name, variant in variants.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in crews}
    names = list(crews)
    try:
        for number in range(args.rounds + 1):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                found = crews[name].work(args.updates)
                if number:  # the first round warms up
                    seconds[name].append(found)
        rows = [row_of(name, crews[name], seconds) for name in names]
    finally:
        for crew in crews.values():
            crew.dismiss()
    write_text(args.save / f"{args.name}.json", json.dumps(rows, indent=1) + "\n")
    write_text(args.save / f"{args.name}.md", table(rows))
    print(table(rows))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="a file, or the name of a packaged one")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--name", default="loop", help="of the tables")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=4, help="of each variant in each round")
    parser.add_argument("--batches", type=int, default=4, help="that are read before, and taken in turn")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-loop"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/loop"))
    return parser.parse_args(argv)


class Crew:
    """The processes of a variant, waiting for work."""

    def __init__(self, args: argparse.Namespace, name: str, variant: Variant) -> None:
        self.updates, self.peak, self.parameters = args.updates, 0.0, 0
        with socket.socket() as one:
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
        self.members = []
        for rank in range(variant.processes):
            ours, theirs = FORK.Pipe()
            process = FORK.Process(target=member, args=(theirs, args, name, variant, rank, port), daemon=True)
            process.start()
            self.members.append((process, ours))
        for _, ours in self.members:
            self.parameters = ours.recv()

    def work(self, count: int) -> tuple[float, float]:
        """Let them do updates; seconds for each, and seconds of all processors."""
        for _, ours in self.members:
            ours.send(count)
        found = [ours.recv() for _, ours in self.members]
        self.peak = max(self.peak, *(peak for *_, peak in found))
        return max(wall for wall, *_ in found) / count, sum(busy for _, busy, _ in found) / count

    def dismiss(self) -> None:
        """End the processes."""
        for process, _ in self.members:
            process.kill()
            process.join()


def member(  # noqa: PLR0917 (a process is given positions)
    connection: Connection, args: argparse.Namespace, name: str, variant: Variant, rank: int, port: int
) -> None:
    """Be one process of a variant: do as many updates as asked for, and say how long they took and what they held."""
    world = {"WORLD_SIZE": variant.processes, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": variant.processes}
    os.environ.update({key: str(value) for key, value in {**world, "MASTER_PORT": port}.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - what was forked has joined nobody yet
    if variant.without == "norms":
        trainer.synchronise_norms = lambda _: None
    if variant.without == "padding":
        Batch.padded = lambda self, _: self
    never = ["train.steps=1000000", "train.log_every=1000000", "train.eval_every=1000000", "train.learning_rate=1e-5"]
    recipe = load_recipe(args.recipe, [*never, *args.settings, *variant.settings])
    folder = args.work / args.name / name.replace(" ", "-")
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    updates = Updates(trainer.setup(recipe, RunFolder(folder)))
    batches = [updates.trainer.batches[step] for step in range(args.batches)]
    connection.send(count_parameters(updates.trainer.network))
    done = 0
    while True:
        before = forget_peak()
        count = connection.recv()
        began, busy = time.perf_counter(), time.process_time()
        for _ in range(count):
            updates.apply(batches[done % len(batches)])
            done += 1
        found = time.perf_counter() - began, time.process_time() - busy
        connection.send((*found, (resident("VmHWM") - before) / 1e3))


def forget_peak() -> int:
    """Begin to watch for the peak of resident memory anew; the kilobytes at this moment."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return 0
    return resident("VmRSS")


def resident(what: str) -> int:
    """Kilobytes of this process, 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{what}:")), 0)


def row_of(name: str, crew: Crew, seconds: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """What is written about a variant."""
    pairs = list(zip(seconds[name], next(iter(seconds.values())), strict=True))
    ratios, busy = ([mine[kind] / theirs[kind] for mine, theirs in pairs] for kind in (0, 1))
    return {
        "variant": name,
        "parameters": crew.parameters,
        "ms an update": round(1000 * statistics.median(wall for wall, _ in seconds[name]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "range": f"{min(ratios):.2f}-{max(ratios):.2f}",
        "ratio of processor time": round(statistics.median(busy), 3),
        "peak MB": round(crew.peak, 1),
    }


if __name__ == "__main__":
    main()
