"""English to Swedish in one step: CTC students from labels, from an autoregressive teacher, from CTC teachers.

Everyday sentences (Tatoeba, 17,423 pairs to train on). Students of one recipe at equal updates on the same batches,
three seeds; one set of teachers. Parts:

- ``students``: labels only, sentences of the autoregressive teacher (Kim and Rush, arXiv 1606.07947), posteriors of a
  conventional teacher, of Oracle Teachers with all or half of the labels in sight, and of both: where from the oracle,
  what from the conventional one: chrF and BLEU of the test set
- ``leak``: do the Oracle Teachers read the source, or copy the target?
- ``beam``: the students of the autoregressive teacher's sentences as bundles, greedily, and with a beam and a 4-gram of
  the training targets, both tuned on dev
- ``speed``: sentences a second of the best student's bundle and of the autoregressive teacher, in turns, one thread

Usage: python benchmarks/bench_translation.py --pairs FOLDER --teacher FOLDER [--parts ...] [--seeds 1 2 3]

The pairs are not part of the repository; ``marian.py`` makes the autoregressive teacher. Interrupt it at will; it goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import task_sweeps
import torch
from exit_codes import with_exit_code
from marian import open_marian, translate
from task_scores import SCORED, cpu_name, save, score_bundle, score_runs, write_rows
from task_sweeps import Method, mixed, sweep_step

from kdcompress.errors import DataNotFoundError
from kdcompress.files import write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step
from kdcompress_evaluation.metrics import metrics_for
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.recognizer import Recognizer

PARTS = ("students", "leak", "beam", "speed")
BASELINE = "labels only"
WARM_UP = 10
"""Sentences that are not timed."""
SEQUENCES = "sequences"
"""Store of the autoregressive teacher's sentences."""

HALF = mixed(0.5, kind="frame_kl")
METHODS = {
    BASELINE: Method(),
    "sentences of the autoregressive teacher": Method((SEQUENCES,), losses=({"kind": "nbest", "size": 1},)),
    "hybrid": Method(("oracle-hidden-labels", "conventional-labels"), "hybrid", HALF),
    "conventional": Method(("conventional-labels",), losses=HALF),
    "oracle": Method(("oracle-labels",), losses=HALF),
    "oracle, half of its labels hidden": Method(("oracle-hidden-labels",), losses=HALF),
}
"""Teachers are stores. Sentences are not distorted, so a teacher that answers once
answers for all epochs."""


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Train teachers, store sentences, train students, and do the parts."""
    args = parse(argv)
    run_steps([*teachers(args), *stores(args)], args.output / "logs", args.workers)
    run_steps([sweep(args, seed) for seed in args.seeds], args.output / "logs", args.workers)
    for part in args.parts:
        {"students": students, "leak": leak, "beam": beam, "speed": speed}[part](args)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("../shared/data/tatoeba_en_sv"))
    parser.add_argument("--teacher", type=Path, default=Path("runs/translation/marian"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-translation"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/translation"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--updates", type=int, default=1200, help="of students")
    parser.add_argument("--teacher-updates", type=int, default=1500)
    parser.add_argument("--oracle-updates", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--subwords", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    wanted = [*(args.pairs / f"{split}.jsonl" for split in ("train", "dev", "test")), args.teacher / "config.json"]
    for file in wanted:
        if not file.is_file():
            message = f"{file}: not here; name pairs and teacher with --pairs and --teacher (see --help)"
            print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
            raise SystemExit(1)
    return args


def common(args: argparse.Namespace) -> list[str]:
    """Manifests, tokens and batches: the same for teachers and students."""
    data = [path_setting(f"data.{split}", args.pairs / f"{split}.jsonl") for split in ("train", "dev")]
    tokens = [f"data.subwords={args.subwords}", f"frontend.subwords={args.subwords}"]
    return [*data, *tokens, f"train.batch_size={args.batch_size}", "train.eval_every=500"]


def teachers(args: argparse.Namespace) -> list[Step]:
    """Train a conventional teacher, and Oracle Teachers of its size that see all and half of the labels."""
    recipes = {
        "conventional": ("pairs-conventional", args.teacher_updates, []),
        "oracle": ("pairs-oracle", args.oracle_updates, []),
        "oracle-hidden": ("pairs-oracle", args.oracle_updates, ["model.label_mask_prob=0.5"]),
    }
    return [
        training_step(
            "train", recipe, args.output / name, [*common(args), f"train.steps={steps}", *own], after=(), name=name
        )
        for name, (recipe, steps, own) in recipes.items()
        if f"{name}-labels" in asked(args)
    ]


def asked(args: argparse.Namespace) -> set[str]:
    """Stores that the methods learn from."""
    return {name for method in args.methods for name in METHODS[method].teachers}


def stores(args: argparse.Namespace) -> list[Step]:
    """What each teacher says of every training sentence: the autoregressive one sentences, the others posteriors."""
    kinds: dict[str, tuple[Path, dict[str, object]]] = {
        name: (args.output / name.removesuffix("-labels"), {"kind": "top_k"})
        for name in sorted(asked(args) - {SEQUENCES})
    }
    if SEQUENCES in asked(args):
        kinds[SEQUENCES] = (args.teacher, {"kind": "nbest", "size": 1, "beam_width": 4})
    steps = []
    for name, (teacher, kind) in kinds.items():
        words = tuple(word for setting in [*common(args), f"label={json.dumps(kind)}"] for word in ("--set", setting))
        folder = args.output / name
        arguments = ("label", "pairs-labels", "--teacher", str(teacher), "-o", str(folder), *words)
        after = () if name == SEQUENCES else (teacher.name,)
        steps.append(Step(f"store {name}", arguments, after, result=folder / "index.json"))
    return steps


def student(args: argparse.Namespace, number: int, seed: int) -> Path:
    """Folder of a student."""
    return task_sweeps.student(args.output, number, seed)


def sweep(args: argparse.Namespace, seed: int) -> Step:
    """All methods side by side, on the same batches."""
    settings = [*common(args), f"train.steps={args.updates}"]
    return sweep_step(args.output, "pairs-labels", METHODS, args.methods, settings, seed)


def students(args: argparse.Namespace) -> None:
    """Score every student on the test set, the teachers beside them."""
    runs = {
        method: [student(args, number, seed) for seed in args.seeds]
        for number, method in enumerate(METHODS)
        if method in args.methods
    }
    test = args.pairs / "test.jsonl"
    taught = {"conventional teacher": [args.output / "conventional"]}
    score_runs([folder for group in [*runs.values(), *taught.values()] for folder in group], test)
    for name, beams in (("autoregressive teacher, greedy", 1), ("autoregressive teacher, 4 beams", 4)):
        folder = args.output / "autoregressive" / str(beams)
        if not (folder / SCORED).is_file():
            write_rows(folder / SCORED, translated(args.teacher, test, beams))
        taught[name] = [folder]
    note = (
        f"English to Swedish: {args.updates} updates of {args.batch_size} sentences, {len(args.seeds)} seeds, 500 test "
        "sentences; mean ± standard deviation over seeds, paired 95 % intervals. Teachers were trained once."
    )
    metrics = metrics_for("translation", NORMALISERS["plain"])
    print(save(args.save, "students", {**runs, **taught}, BASELINE, metrics, note))


def translated(folder: Path, test: Path, beams: int) -> list[dict[str, object]]:
    """Rows of the autoregressive teacher."""
    model, tokenizer = open_marian(folder)
    entries = list(read_manifest(test))
    texts = translate(model, tokenizer, [entry.input for entry in entries], beams)
    return [
        {"id": entry.id, "group": None, "ref": entry.text, "hyp": text}
        for entry, text in zip(entries, texts, strict=True)
    ]


def leak(args: argparse.Namespace) -> None:
    """Test the Oracle Teachers for copying, and their twin for what comes out by chance."""
    for name in sorted(name.removesuffix("-labels") for name in asked(args) - {SEQUENCES}):
        folder = args.save / f"leak-{name}"
        run_steps([Step(f"leak {name}", ("teacher-check", str(args.output / name), "-o", str(folder)))], args.output, 1)


def beam(args: argparse.Namespace) -> None:
    """What a beam with a language model of the targets brings to a bundle."""
    folder, lm = args.output / "beam", args.output / "beam" / "targets.kdlm"
    estimate = ("lm", "estimate", str(args.pairs / "train.jsonl"), "-o", str(lm), "--order", "4")
    steps, runs = [Step("targets", estimate, result=lm)], {"greedy": [], "beam and 4-gram": []}
    for seed in args.seeds:
        plain, tuned = folder / f"greedy-seed{seed}", folder / f"beam-seed{seed}"
        export = ("export", str(student(args, 1, seed)), "-o", str(plain), "--quantize", "none")
        tune = (
            "tune-decoder",
            str(plain),
            "--manifest",
            str(args.pairs / "dev.jsonl"),
            "--lm",
            str(lm),
            "-o",
            str(tuned),
        )
        steps.append(Step(f"export {seed}", export, result=plain / "bundle.json"))
        steps.append(Step(f"tune {seed}", tune, ("targets", f"export {seed}"), result=tuned / "bundle.json"))
        runs["greedy"].append(plain)
        runs["beam and 4-gram"].append(tuned)
    run_steps(steps, args.output / "logs", args.workers)
    scored = {name: [folder / "scored" / bundle.name for bundle in bundles] for name, bundles in runs.items()}
    for bundle, rows in ((b, r) for name in runs for b, r in zip(runs[name], scored[name], strict=True)):
        score_bundle(Recognizer.from_dir(bundle), rows, args.pairs / "test.jsonl")
    note = (
        f"Students of the autoregressive teacher's sentences as float32 bundles, {len(args.seeds)} seeds, 500 test "
        "sentences. Weights and width of the beam were found on dev, by word errors."
    )
    print(save(args.save, "beam", scored, "greedy", metrics_for("translation", NORMALISERS["plain"]), note))


def speed(args: argparse.Namespace) -> None:
    """Sentences a second of the best student's bundle and of the autoregressive teacher, in turns, one thread."""
    best = student(args, 1, args.seeds[0])
    bundle = args.output / "bundle"
    arguments = ("export", str(best), "-o", str(bundle))
    run_steps([Step("export", arguments, result=bundle / "bundle.json")], args.output / "logs", 1)
    text = speeds(bundle, args.teacher, args.pairs / "test.jsonl")
    write_text(args.save / "speed.md", text)
    print(text)


def speeds(bundle: Path, teacher: Path, test: Path, sentences: int = 200) -> str:
    """Milliseconds a sentence, one at a time, each sentence given to all in turn."""
    torch.set_num_threads(1)
    model, tokenizer = open_marian(teacher)
    float32 = Recognizer.from_dir(bundle, precision="float32")
    systems = {"float32": float32.recognize}
    precisions = [file.precision for file in float32.metadata.models if file.precision != "float32"]
    systems |= {name: Recognizer.from_dir(bundle, precision=name).recognize for name in precisions}
    systems["autoregressive, greedy"] = lambda text: translate(model, tokenizer, [text], 1)
    systems["autoregressive, 4 beams"] = lambda text: translate(model, tokenizer, [text], 4)
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for number, entry in enumerate(islice(read_manifest(test), sentences)):
        for name, run in systems.items():
            began = time.perf_counter()
            run(entry.input)
            if number >= WARM_UP:
                taken[name].append(time.perf_counter() - began)
    slowest = float(np.mean(taken["autoregressive, greedy"]))
    rows = [
        f"| {name} | {1000 * np.median(times):.2f} | {1 / np.mean(times):.1f} | {slowest / np.mean(times):.1f} |"
        for name, times in taken.items()
    ]
    head = "| system | median ms | sentences/s | times the greedy teacher |\n|---|---|---|---|\n"
    note = f"{sentences - WARM_UP} test sentences, one at a time and in turns, one thread, {cpu_name()}.\n\n"
    return note + head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
