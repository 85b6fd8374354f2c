"""What training from stored labels costs: steps side by side, and sizes.

One process, one thread, the same batches; each step is done in turn by a student without a teacher, by students that
learn from stored labels, and by one that asks the teacher itself. A step is all of it: reading and augmenting the
batch, the labels, forward, backward, update. Medians, and medians of the ratios to the step without a teacher on the
same batch: by the clock, and by processor time, which other programs on the machine disturb less.

Usage: python benchmarks/bench_labels.py [--digits data/fsdd] [--run RUN --recipe RECIPE]

Without ``--run`` a teacher is trained for a few updates on strings of digits: enough for times and sizes. With
it the teacher is a finished run, for example one of 500 subwords; ``--recipe`` is the student's, and the items are
those that the run was trained on. Tables go to ``--save``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exit_codes import with_exit_code

from kdcompress.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress.distill import Updates
    from kdcompress.recipe import Recipe

KINDS: dict[str, dict[str, Any]] = {
    "top_k": {"kind": "top_k", "top_k": 8},
    "full": {"kind": "full"},
    "occupancy": {"kind": "occupancy"},
    "codebook": {"kind": "codebook"},
    "nbest": {"kind": "nbest"},
}
TEACHER = "the teacher itself"
NOBODY = "no teacher"


@with_exit_code
def main(argv: Sequence[str] | None = None) -> None:
    """Label, train a few steps of each, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, default=Path("data/fsdd"))
    parser.add_argument("--run", type=Path, help="finished run of a teacher")
    parser.add_argument("--recipe", default="digits-labels", help="of the student")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="settings", help="of the student")
    parser.add_argument("--items", type=int, default=400, help="that are labelled and trained on")
    parser.add_argument("--steps", type=int, default=40, help="that are timed, after two that are not")
    parser.add_argument("--teacher-steps", type=int, default=40)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-labels"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/labels"))
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    run = args.run or digits_teacher(args)
    tokens, items = (run / "tokens.txt").read_text(encoding="utf-8").count("\n"), few(args, run)
    stored = [store(args, run, items, kind) for kind in args.kinds]
    name = f"{tokens}-tokens"
    tables = {f"sizes-{name}": [size_row(path, kind) for path, kind in zip(stored, args.kinds, strict=True)]}
    learners = {NOBODY: None, **dict(zip(args.kinds, stored, strict=True)), TEACHER: run}
    tables[f"steps-{name}"] = steps(args, items, learners)
    for table, rows in tables.items():
        write_text(args.save / f"{table}.json", json.dumps(rows, indent=1) + "\n")
        write_text(args.save / f"{table}.md", as_table(rows))
        print(as_table(rows))


def digits_teacher(args: argparse.Namespace) -> Path:
    """A conventional teacher of digits after a few updates."""
    from kdcompress.data.digits import prepare_digits
    from kdcompress.distill import fit
    from kdcompress.recipe_file import load_recipe

    manifests = prepare_digits(args.digits, args.work / "digits")
    settings = [f"data.train={manifests['train']}", "data.dev=null", f"train.steps={args.teacher_steps}"]
    fit(load_recipe("digits-conventional", settings), args.work / "teacher")
    path: Path = args.work / "teacher"
    return path


def few(args: argparse.Namespace, run: Path) -> Path:
    """Write a manifest of the first items that a run was trained on."""
    from kdcompress.recipe_file import load_recipe
    from kdcompress_runtime.manifest import read_manifest

    lines = []
    for entry, _ in zip(read_manifest(load_recipe(run / "recipe.yaml").data.train), range(args.items), strict=False):
        audio = str(Path(entry.input).resolve())
        line = {"id": entry.id, "audio_filepath": audio, "text": entry.text, "duration": entry.duration}
        lines.append(json.dumps(line) + "\n")
    path: Path = args.work / f"first-{len(lines)}.jsonl"
    write_text(path, "".join(lines))
    return path


def recipe_of(args: argparse.Namespace, items: Path, teacher: Path | None, kind: str) -> Recipe:
    """The student's recipe: CTC alone, or with the loss for one kind of label beside it."""
    from kdcompress.recipe_file import load_recipe
    from kdcompress.steps import path_setting

    loss = {"codebook": "codebook", "occupancy": "occupancy", "nbest": "nbest"}.get(kind, "frame_kl")
    losses = [{"kind": "ctc", "weight": 0.5}, *([{"kind": loss, "weight": 0.5}] if teacher else [])]
    # codes need items that stay as they were; for a fair ratio all do
    still = ["augment.speed=[1.0]", "augment.lead_in_s=[0,0]", "data.dev=null"]
    settings = [*still, *args.settings, path_setting("data.train", items), f"losses={json.dumps(losses)}"]
    settings += [f"train.steps={args.steps + 2}", "train.log_every=1000000"]
    if teacher:
        settings += [path_setting("distill.teachers", teacher), f"label={json.dumps(KINDS.get(kind, KINDS['full']))}"]
    return load_recipe(args.recipe, settings)


def store(args: argparse.Namespace, run: Path, items: Path, kind: str) -> Path:
    """Label the items."""
    from kdcompress.labels.label import label

    path: Path = args.work / f"{run.name}-{items.stem}-{kind}"
    label(recipe_of(args, items, run, kind), path)
    return path


def size_row(path: Path, kind: str) -> dict[str, Any]:
    """Bytes of a store, everything counted."""
    index = json.loads((path / "index.json").read_text(encoding="utf-8"))
    whole = sum(file.stat().st_size for file in path.iterdir())
    tokens, frames = len(index["teacher"]["vocabulary"]), index["frames"]
    return {
        "labels": kind,
        "items": index["manifest"]["items"],
        "frames": frames,
        "tokens": tokens,
        "bytes a frame": round(whole / frames, 2),
        "of full float16": f"1/{2 * tokens * frames / whole:.1f}",
    }


def steps(args: argparse.Namespace, items: Path, learners: dict[str, Path | None]) -> list[dict[str, Any]]:
    """Time steps in turn."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        students = {
            name: student(recipe_of(args, items, teacher, name), Path(folder) / str(number))
            for number, (name, teacher) in enumerate(learners.items())
        }
        seconds: dict[str, list[float]] = {name: [] for name in students}
        computing: dict[str, list[float]] = {name: [] for name in students}
        for step in range(args.steps + 2):
            for name, updates in students.items():
                began, computed = time.perf_counter(), time.process_time()
                updates.apply(updates.trainer.batches[step])
                seconds[name].append(time.perf_counter() - began)
                computing[name].append(time.process_time() - computed)
    medians = {name: statistics.median(found[2:]) for name, found in seconds.items()}
    return [
        {
            "targets": name,
            "ms a step": round(1000 * median, 1),
            "ratio": ratio(seconds[name], seconds[NOBODY]),
            "CPU ms a step": round(1000 * statistics.median(computing[name][2:]), 1),
            "CPU ratio": ratio(computing[name], computing[NOBODY]),
        }
        for name, median in medians.items()
    ]


def ratio(found: Sequence[float], without: Sequence[float]) -> float:
    """Median over steps that were done one after the other on the same batch; the first two warm up."""
    return round(statistics.median(one / other for one, other in zip(found[2:], without[2:], strict=True)), 3)


def student(recipe: Recipe, folder: Path) -> Updates:
    """A run that is ready for its first update."""
    from kdcompress.distill import Updates
    from kdcompress.run import RunFolder
    from kdcompress.trainer import setup

    folder.mkdir()
    return Updates(setup(recipe, RunFolder(folder)))


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    head = list(rows[0])
    lines = [head, ["---:"] * len(head), *([str(row[key]) for key in head] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
