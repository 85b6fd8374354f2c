"""Receipt lines (ICDAR 2019 SROIE): a student of 1 M parameters from labels and from teachers, beside RapidOCR's own.

Students of one recipe at equal updates on the same batches, three seeds; one set of teachers. All train on real lines
and on as many rendered ones as asked for, distorted anew at every update; the test set is real, of other receipts. Case
does not count: the annotators wrote capitals whatever the print. Parts:

- ``students``: labels only, conventional, oracle, hybrid, essence: lines not exactly right, and character errors; CRNN
  from labels beside them
- ``bundles``: the students of the first seed as bundles, float32 and int8: the same lines, size
- ``leak``: does the Oracle Teacher look, or copy?
- ``rendered``: is it worth it to train on rendered lines first? Beside twice the updates on the real ones
- ``rapidocr``: best student, CRNN and the recogniser that comes with RapidOCR: the same lines, in turns, one thread

Usage: python benchmarks/bench_text.py --lines FOLDER [--parts ...] [--seeds 1 2 3]

The lines are not part of the repository. Interrupt it at will; it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import task_sweeps
from exit_codes import with_exit_code
from task_scores import cpu_name, save, score_bundle, score_runs
from task_sweeps import Method, mixed, sweep_step

from kdcompress.errors import DataNotFoundError
from kdcompress.files import write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step
from kdcompress_evaluation.metrics import character_error_rate, metrics_for
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.images import read_image
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PARTS = ("students", "bundles", "leak", "rendered", "rapidocr")
BASELINE = "labels only"
CRNN = "CRNN, labels only"
WARM_UP = 10
"""Lines that are recognised once more, before the clock runs."""
FIELDS = ("image_filepath", "text", "width", "height", "receipt")


METHODS = {
    BASELINE: Method(),
    "conventional": Method(("conventional",), losses=mixed(0.9, kind="frame_kl")),
    "oracle": Method(("oracle",), losses=mixed(0.9, kind="frame_kl")),
    "hybrid": Method(("oracle", "conventional"), "hybrid", mixed(0.9, kind="frame_kl")),
    "essence, k = 2": Method(("conventional",), losses=mixed(0.9, kind="essence", top_k=2)),
}


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Render, train teachers and students, and do the parts."""
    args = parse(argv)
    render(args)
    mixed = mix(args)
    run_steps(teachers(args, mixed), args.output / "logs", args.workers)
    run_steps([sweep(args, mixed, seed) for seed in args.seeds], args.output / "logs", args.workers)
    run_steps(references(args, mixed), args.output / "logs", args.workers)
    for part in args.parts:
        {"students": students, "bundles": bundles, "leak": leak, "rendered": rendered, "rapidocr": rapidocr}[part](args)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, default=Path("../shared/data/sroie_lines"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-text"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/text"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--best", choices=list(METHODS), default="hybrid", help="student beside RapidOCR")
    parser.add_argument("--synthetic", type=int, default=0, help="rendered lines beside the real ones")
    parser.add_argument("--rendered", type=int, default=30000, help="rendered lines to train on first")
    parser.add_argument("--updates", type=int, default=900, help="of students")
    parser.add_argument("--teacher-updates", type=int, default=1500)
    parser.add_argument("--oracle-updates", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    for split in ("train", "dev", "test"):
        if not (args.lines / f"{split}.jsonl").is_file():
            message = f"{args.lines / split}.jsonl: not here; name the folder of the lines with --lines (see --help)"
            print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
            raise SystemExit(1)
    return args


def render(args: argparse.Namespace) -> None:
    """Make the rendered lines, in capitals as the real ones are labelled."""
    if args.synthetic:
        out = args.output / "synthetic"
        arguments = ("prepare", "lines", "-o", str(out), "--count", str(args.synthetic), "--upper")
        run_steps([Step("render", arguments, result=out / "train.jsonl")], args.output / "logs", 1)


def mix(args: argparse.Namespace) -> Path:
    """One manifest of real and rendered lines, paths absolute."""
    rows = []
    rendered = [args.output / "synthetic" / "train.jsonl"] if args.synthetic else []
    for manifest in (args.lines / "train.jsonl", *rendered):
        for line in manifest.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["image_filepath"] = str((manifest.parent / row["image_filepath"]).absolute())
            rows.append({name: row[name] for name in FIELDS if name in row})
    path: Path = args.output / "mixed.jsonl"
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        write_text(path, content)
    return path


def common(args: argparse.Namespace, mixed: Path) -> list[str]:
    """Manifests and batches: the same for teachers and students."""
    data = [path_setting("data.train", mixed), path_setting("data.dev", args.lines / "dev.jsonl")]
    return [*data, f"train.batch_size={args.batch_size}", "train.eval_every=500"]


def teachers(args: argparse.Namespace, mixed: Path) -> list[Step]:
    """Train a conventional and an Oracle Teacher of one size."""
    updates = {"conventional": args.teacher_updates, "oracle": args.oracle_updates}
    return [
        training_step(
            "train", f"lines-{name}", args.output / name, [*common(args, mixed), f"train.steps={count}"], after=()
        )
        for name, count in updates.items()
    ]


def student(args: argparse.Namespace, number: int, seed: int) -> Path:
    """Folder of a student."""
    return task_sweeps.student(args.output, number, seed)


def sweep(args: argparse.Namespace, mixed_lines: Path, seed: int) -> Step:
    """All methods side by side, on the same batches."""
    settings = [*common(args, mixed_lines), f"train.steps={args.updates}"]
    return sweep_step(args.output, "lines-labels", METHODS, args.methods, settings, seed)


def references(args: argparse.Namespace, mixed_lines: Path) -> list[Step]:
    """CRNN from labels, of about the students' size."""
    return by_seed(args, "lines-crnn", crnn(args), [*common(args, mixed_lines), f"train.steps={args.updates}"])


def by_seed(args: argparse.Namespace, recipe: str, runs: Sequence[Path], settings: Sequence[str]) -> list[Step]:
    """Train a recipe once a seed."""
    return [
        training_step("train", recipe, run, [*settings, f"seed={seed}"], after=(), name=run.name)
        for seed, run in zip(args.seeds, runs, strict=True)
    ]


def crnn(args: argparse.Namespace) -> list[Path]:
    """Folders of CRNN, by seed."""
    return [args.output / "students" / f"crnn-seed{seed}" for seed in args.seeds]


def students(args: argparse.Namespace) -> None:
    """Score every student on the test set."""
    runs = {method: [student(args, number, seed) for seed in args.seeds] for number, method in enumerate(METHODS)}
    runs[CRNN] = crnn(args)
    taught = {"conventional teacher": [args.output / "conventional"]}
    test = args.lines / "test.jsonl"
    score_runs([folder for group in [*runs.values(), *taught.values()] for folder in group], test, "receipt")
    note = (
        f"Receipt lines: {args.updates} updates of {args.batch_size} lines, {len(args.seeds)} seeds, 688 test lines of "
        "86 receipts; mean ± standard deviation over seeds, paired 95 % intervals over receipts. SER: lines not "
        "exactly right, case aside. The teacher was trained once."
    )
    metrics = metrics_for("scene_text", NORMALISERS["nocase"])
    print(save(args.save, "students", {**runs, **taught}, BASELINE, metrics, note))


def bundles(args: argparse.Namespace) -> None:
    """Export the students of the first seed; recognise the test set with every file of a bundle."""
    runs, sizes = {}, []
    folders = {method: student(args, number, args.seeds[0]) for number, method in enumerate(METHODS)}
    for method, run in {**folders, CRNN: crnn(args)[0]}.items():
        if method not in {*args.methods, CRNN}:
            continue
        bundle = exported(args, run)
        opened = Bundle.open(bundle)
        for model in opened.metadata.models:
            folder = args.output / "recognised" / f"{run.name}-{model.precision}"
            recognizer = Recognizer.from_dir(bundle, precision=model.precision)
            score_bundle(recognizer, folder, args.lines / "test.jsonl", "receipt")
            runs[f"{method}, {model.precision}"] = [folder]
            sizes.append(f"{method}, {model.precision}: {len(opened.read(model.file)) / 1e6:.2f} MB")
    note = f"Bundles of the students of seed {args.seeds[0]}. Files: {'; '.join(sizes)}."
    metrics = metrics_for("scene_text", NORMALISERS["nocase"])
    print(save(args.save, "bundles", runs, f"{BASELINE}, float32", metrics, note))


def exported(args: argparse.Namespace, run: Path) -> Path:
    """Bundle of a run, made if it is not there."""
    bundle: Path = args.output / "bundles" / run.name
    arguments = ("export", str(run), "-o", str(bundle))
    run_steps([Step(f"export {run.name}", arguments, result=bundle / "bundle.json")], args.output / "logs", 1)
    return bundle


def leak(args: argparse.Namespace) -> None:
    """Test the Oracle Teacher for copying, and its twin for what comes out by chance."""
    for name in ("oracle", "conventional"):
        arguments = ("teacher-check", str(args.output / name), "-o", str(args.save / f"leak-{name}"))
        run_steps([Step(f"leak {name}", arguments)], args.output / "logs", 1)


def rendered(args: argparse.Namespace) -> None:
    """Students from labels: first on rendered lines, then on the real ones; and as many updates on the real ones."""
    folder, first = args.output / "rendered", args.output / "students" / "rendered"
    draw = ("prepare", "lines", "-o", str(folder), "--count", str(args.rendered), "--upper", "--looks", "receipt")
    run_steps([Step("draw", draw, result=folder / "train.jsonl")], args.output / "logs", 1)
    real = common(args, mix(args))
    # the real dev lines have characters that rendered ones may lack
    on_rendered = [*common(args, folder / "train.jsonl"), "data.dev=null", f"train.steps={args.updates}"]
    run_steps([training_step("train", "lines-labels", first, on_rendered, after=())], args.output / "logs", 1)
    plans = {"then": (args.updates, [path_setting("init_encoder", first)]), "long": (2 * args.updates, [])}
    folders = {name: [args.output / "students" / f"{name}-seed{seed}" for seed in args.seeds] for name in plans}
    steps = [
        step
        for name, (updates, own) in plans.items()
        for step in by_seed(args, "lines-labels", folders[name], [*real, f"train.steps={updates}", *own])
    ]
    run_steps(steps, args.output / "logs", args.workers)
    runs = {
        BASELINE: [student(args, 0, seed) for seed in args.seeds],
        "rendered lines first": folders["then"],
        "twice the updates": folders["long"],
    }
    score_runs([run for group in runs.values() for run in group], args.lines / "test.jsonl", "receipt")
    note = (
        f"Students from labels, {args.updates} updates of {args.batch_size} real lines; {args.updates} updates on "
        f"{args.rendered} rendered lines before them; and {2 * args.updates} updates on real lines alone. "
        f"{len(args.seeds)} seeds (one run on rendered lines for all); intervals over receipts."
    )
    metrics = metrics_for("scene_text", NORMALISERS["nocase"])
    print(save(args.save, "rendered", runs, BASELINE, metrics, note))


def rapidocr(args: argparse.Namespace) -> None:
    """Lines a second and lines right: the best student's bundle and RapidOCR's recogniser, in turns, one thread."""
    from rapidocr import RapidOCR

    best = student(args, list(METHODS).index(args.best), args.seeds[0])
    bundles = {args.best: exported(args, best), CRNN: exported(args, crnn(args)[0])}
    threads = dict.fromkeys(("intra_op_num_threads", "inter_op_num_threads"), 1)
    settings = {f"EngineConfig.onnxruntime.{name}": value for name, value in threads.items()}
    engine = RapidOCR(params={**settings, "Global.log_level": "critical", "Global.text_score": 0.0})

    def theirs(path: str) -> str:
        bgr = np.ascontiguousarray(read_image(path, channels=3)[:, :, ::-1])
        return " ".join(engine(bgr, use_det=False, use_cls=False, use_rec=True).txts or ())

    systems: dict[str, Callable[[str], str]] = {"RapidOCR, its own recogniser": theirs}
    for name, bundle in bundles.items():
        for model in Bundle.open(bundle).metadata.models:
            recognizer = Recognizer.from_dir(bundle, precision=model.precision)
            systems[f"{name}, {model.precision}"] = lambda path, known=recognizer: known.recognize(path).text
    entries = list(read_manifest(args.lines / "test.jsonl"))
    texts, taken = in_turns(systems, [entry.input for entry in entries])
    lines = [
        f"688 test lines, one at a time and in turns, one thread, {cpu_name()}; reading the file is in the time.",
        "",
        "| recogniser | lines right, case aside | and spaces aside | CER | median ms | lines/s |",
        "|---|---|---|---|---|---|",
    ]
    for name in systems:
        wanted, found = [entry.text for entry in entries], texts[name]
        right = np.mean([one.lower() == other.lower() for one, other in zip(wanted, found, strict=True)])
        closed = np.mean([_closed(one) == _closed(other) for one, other in zip(wanted, found, strict=True)])
        cer = character_error_rate(NORMALISERS["nocase"])
        rate = float(cer.value(cer.statistics(wanted, found).sum(axis=0)))
        times = taken[name]
        lines.append(
            f"| {name} | {100 * right:.1f} % | {100 * closed:.1f} % | {100 * rate:.2f} % | "
            f"{1000 * np.median(times):.2f} | {1 / np.mean(times):.0f} |"
        )
    write_text(args.save / "rapidocr.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def in_turns(
    systems: Mapping[str, Callable[[str], str]], inputs: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """Give every input to every system before the next; texts, and seconds of each."""
    texts: dict[str, list[str]] = {name: [] for name in systems}
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for run in systems.values():
        for one in inputs[:WARM_UP]:
            run(one)
    for one in inputs:
        for name, run in systems.items():
            began = time.perf_counter()
            texts[name].append(run(one))
            taken[name].append(time.perf_counter() - began)
    return texts, taken


def _closed(text: str) -> str:
    return "".join(text.lower().split())


if __name__ == "__main__":
    sys.exit(main())
