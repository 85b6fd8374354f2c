"""Labelling and training at length: time, memory, and what kills cost.

Parts, each through the command line, in processes of their own:

- ``flat``: manifests of growing size from the same recordings are labelled, and a student is trained on the labels for
  one epoch; seconds an item, and resident memory of the process at the end of each quarter of its time
- ``label-kill`` and ``train-kill``: labelling and training, killed (kill -9) at random moments and repeated until they
  are done; the store, and the student, must equal those of an undisturbed run, byte for byte

Usage: python benchmarks/bench_scale.py --teacher RUN --manifest TRAIN.jsonl [--sizes 2500 5000 10000] [--parts ...]

Tables go to ``--save``. Recordings are repeated under new ids, so error rates mean nothing here.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from bench_report import start, table
from exit_codes import with_exit_code

from kdcompress.files import file_sha256, write_text
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = ("flat", "label-kill", "train-kill")
_POLL = 0.05


@with_exit_code
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the parts that were asked for and write what came out."""
    args = parse(argv)
    chance = random.Random(args.seed)  # noqa: S311 - moments, not secrets
    for part in args.parts:
        if part == "flat":
            rows = [row for size in args.sizes for row in flat(args, size)]
        else:
            rows = kill(args, part.removesuffix("-kill"), chance)
        write_text(args.save / f"{part}.json", json.dumps(rows, indent=1) + "\n")
        write_text(args.save / f"{part}.md", table(rows))
        print(table(rows))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="anything that `kdcompress label` takes")
    parser.add_argument("--manifest", type=Path, required=True, help="items that are repeated")
    parser.add_argument("--recipe", default="digits-labels", help="of the student; its frontend, model and training")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[2500, 5000, 10000])
    parser.add_argument("--max-duration", type=float, default=2.5, help="seconds; longer recordings are left out")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--kill-after", type=float, nargs=2, default=[4.0, 12.0], help="seconds, at random between")
    parser.add_argument("--kill-size", type=int, default=2500, help="items of the parts that are killed")
    parser.add_argument("--kill-steps", type=int, default=300, help="updates of the training that is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-scale"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/scale"))
    return parser.parse_args(argv)


def flat(args: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    """Label ``size`` items and train on them for an epoch."""
    store, run = args.work / f"labels-{size}", args.work / f"student-{size}"
    for folder in (store, run):
        shutil.rmtree(folder, ignore_errors=True)
    labelled = watch(label_command(args, size, store))
    steps = max(1, size // 24)
    trained = watch(train_command(args, size, store, run, steps))
    return [row("label", size, labelled), row("train", size, trained)]


def row(what: str, size: int, seen: tuple[float, list[float]]) -> dict[str, Any]:
    """One line of the table; memory in megabytes."""
    seconds, memory = seen
    quarters = [max(memory[begin:end] or [0]) for begin, end in pairwise(len(memory) * q // 4 for q in range(5))]
    named = {f"peak MB, quarter {number}": round(peak / 1e6) for number, peak in enumerate(quarters, start=1)}
    return {
        "what": what,
        "items": size,
        "seconds": round(seconds, 1),
        "ms an item": round(1000 * seconds / size, 2),
    } | named


def kill(args: argparse.Namespace, what: str, chance: random.Random) -> list[dict[str, Any]]:
    """Kill a command again and again; the end must equal that of an undisturbed one."""
    size, rows = args.kill_size, []
    store = args.work / f"labels-kill-{size}"
    reference, killed = args.work / f"{what}-undisturbed", args.work / f"{what}-killed"
    if not (store / "index.json").is_file():
        watch(label_command(args, size, store))

    def words(output: Path) -> list[str]:
        if what == "label":
            return label_command(args, size, output)
        return train_command(args, size, store, output, args.kill_steps)

    if not finished(reference):
        watch(words(reference))
    shutil.rmtree(killed, ignore_errors=True)
    for number in range(args.kills):
        process = start(words(killed))
        time.sleep(chance.uniform(*args.kill_after))
        ended = process.poll() is not None
        process.kill()
        process.wait()
        rows.append({"kill": number + 1, "done before it": "yes" if ended else "no", "files": len(content(killed))})
    watch(words(killed))
    same = content(killed) == content(reference)
    verdict = "equal to an undisturbed run" if same else "NOT EQUAL to an undisturbed run"
    rows.append({"kill": f"to the end: {verdict}", "done before it": "", "files": len(content(killed))})
    return rows


def finished(folder: Path) -> bool:
    """Whether a store or a run is complete."""
    return any((folder / name).is_file() for name in ("index.json", "model.safetensors"))


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that decide: shards and tables of a store, weights of a run; by name."""
    kept = [file for file in folder.rglob("*") if file.suffix in {".safetensors", ".npy"} and ".tmp" not in file.name]
    return {str(file.relative_to(folder)): file_sha256(file) for file in sorted(kept)}


def manifest(args: argparse.Namespace, size: int) -> Path:
    """Write a manifest of ``size`` lines that takes the recordings of another one in turn."""
    entries = [entry for entry in read_manifest(args.manifest) if (entry.duration or 0) <= args.max_duration]
    path: Path = args.work / f"{size}.jsonl"
    if not path.is_file():
        lines = []
        for number in range(size):
            entry = entries[number % len(entries)]
            audio = str(Path(entry.input).resolve())
            line = {"id": f"{number}-{entry.id}", "audio_filepath": audio, "text": entry.text}
            lines.append(json.dumps(line | {"duration": entry.duration}) + "\n")
        write_text(path, "".join(lines))
    return path


def label_command(args: argparse.Namespace, size: int, store: Path) -> list[str]:
    """Label a manifest."""
    words = ["label", args.recipe, "-o", str(store), "--teacher", str(args.teacher)]
    return [*words, *settings(args, size)]


def train_command(args: argparse.Namespace, size: int, store: Path, run: Path, steps: int) -> list[str]:
    """Train a student on the labels."""
    words = ["distill", args.recipe, "-o", str(run), "--teacher", str(store), *settings(args, size)]
    more = (f"train.steps={steps}", "train.batch_size=24", "train.eval_every=1000000", "train.checkpoint_every=50")
    return [*words, *(word for setting in more for word in ("--set", setting))]


def settings(args: argparse.Namespace, size: int) -> list[str]:
    """Data of both commands."""
    data = [f"data.train={json.dumps(str(manifest(args, size)))}", "data.dev=null"]
    return [word for setting in data for word in ("--set", setting)]


def watch(words: Sequence[str]) -> tuple[float, list[float]]:
    """Run a command to its end; seconds, and its resident bytes all along."""
    begin, process = time.perf_counter(), start(words)
    memory = []
    while process.poll() is None:
        try:
            memory.append(float(process.memory_info().rss))
        except psutil.NoSuchProcess:
            break
        time.sleep(_POLL)
    if process.wait():
        message = f"kdcompress {' '.join(words)} ended with exit code {process.returncode}"
        raise RuntimeError(message)
    return time.perf_counter() - begin, memory


if __name__ == "__main__":
    main()
