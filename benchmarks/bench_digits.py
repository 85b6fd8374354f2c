"""Noisy digits, several seeds: a student from labels, from a conventional teacher, from an Oracle Teacher.

Strings of 3 to 7 real spoken digits (the embedded recordings, official split) in real background noise: training
draws -5 to 15 dB, dev and test are at 0, 5 and 10 dB, test with noises that nothing else has heard. Everything is
trained, exported to float32 and int8 and evaluated by the commands a user has. Equal updates for the students.

Usage: python benchmarks/bench_digits.py --noise NOISE.jsonl [--seeds 1 2 3] [--output DIR] [--save DIR]

The noise recordings are not part of the repository: any JSONL manifest with ``audio_filepath``, ``noise_type`` and
``split`` (train, test) serves. Interrupt it at will; it goes on where it stopped. Rows, table and plot data go to
``--save``; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from exit_codes import with_exit_code

from kdcompress.errors import DataNotFoundError
from kdcompress.files import replacing, write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step
from kdcompress_evaluation.bootstrap import bootstrap_rate, paired_difference
from kdcompress_evaluation.rows import Row, iterate_rows
from kdcompress_evaluation.scoring import NORMALISERS, score

METHODS = {
    "labels only": ("digits-labels", None),
    "conventional teacher": ("digits-from-conventional", "digits-conventional"),
    "Oracle Teacher": ("digits-from-oracle", "digits-oracle"),
}
PRECISIONS = ("float32", "int8")
MANIFEST = "noisy-digits"
BASELINE = "labels only"


@dataclass(frozen=True)
class Line:
    """One method in one precision over all seeds; error rates in percent."""

    method: str
    precision: str
    wer: list[float]
    mean: float
    spread: float
    """Standard deviation over the seeds."""
    interval: tuple[float, float]
    """95 % over the test utterances, errors of all seeds added up."""
    against_labels: tuple[float, float, float] | None
    """Difference to labels only in the same precision, and its paired 95 % interval."""
    wer_by_snr: dict[str, float]


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Train, export, evaluate, and write the table."""
    args = parse(argv)
    run_steps([step for seed in args.seeds for step in plan(args, seed)], args.output / "logs", args.workers)
    lines = [line(args, method, precision) for precision in PRECISIONS for method in METHODS]
    save(args, lines)
    print(table(args, lines))
    print(json.dumps({"benchmark": "digits", "seeds": args.seeds, "lines": [asdict(item) for item in lines]}))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=Path, default=Path("../shared/data/noise_rir/noise.jsonl"))
    parser.add_argument("--source", type=Path, default=Path("data/fsdd"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-digits"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/digits"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--teacher-steps", type=int, default=900)
    parser.add_argument("--student-steps", type=int, default=1300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="override for the students")
    args = parser.parse_args(argv)
    if not args.noise.is_file():
        message = f"{args.noise}: no noise manifest here; name one with --noise (see --help)"
        print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
        raise SystemExit(1)
    return args


def plan(args: argparse.Namespace, seed: int) -> list[Step]:
    """Every step of one seed; the data are the same for all seeds."""
    data, runs = args.output / "data", args.output / f"seed{seed}"
    noise = f"augment.noise={json.dumps({'manifest': str(args.noise), 'snr_db': [-5, 15]})}"
    manifests = [path_setting(f"data.{split}", data / f"{split}.jsonl") for split in ("train", "dev")]
    common = [*manifests, noise, f"seed={seed}"]
    prepare = ("prepare", "digits", "-o", str(data), "--source", str(args.source), "--noise", str(args.noise))
    steps = [Step("data", prepare)] if seed == args.seeds[0] else []
    for teacher in ("digits-oracle", "digits-conventional"):
        settings = [*common, f"train.steps={args.teacher_steps}"]
        steps.append(
            training_step("train", teacher, runs / teacher, settings, after=("data",), name=f"{teacher} {seed}")
        )
    bundles = []
    for recipe, taught_by in METHODS.values():
        settings = [*common, f"train.steps={args.student_steps}", *args.settings]
        after = ("data",) if taught_by is None else ("data", f"{taught_by} {seed}")
        if taught_by:
            settings.append(path_setting("distill.teachers", runs / taught_by))
        command = "distill" if taught_by else "train"
        steps.append(training_step(command, recipe, runs / recipe, settings, after=after, name=f"{recipe} {seed}"))
        bundle = runs / "bundles" / recipe
        bundles.append(str(bundle))
        steps.append(
            Step(
                f"export {recipe} {seed}",
                ("export", str(runs / recipe), "-o", str(bundle)),
                (f"{recipe} {seed}",),
                result=bundle / "bundle.json",
                made_from=(runs / recipe / "model.safetensors",),
            )
        )
    evaluate = ("eval", *bundles, "--manifest", f"{MANIFEST}={data}/test.jsonl", "-o", str(runs / "report"))
    after = tuple(f"export {recipe} {seed}" for recipe, _ in METHODS.values())
    return [*steps, Step(f"eval {seed}", evaluate, after)]


def rows_of(args: argparse.Namespace, method: str, precision: str, seed: int) -> list[Row]:
    """Rows of one student in one precision, in the order of their ids."""
    report = args.output / f"seed{seed}" / "report"
    return sorted(iterate_rows(report, f"{METHODS[method][0]}-{precision}", MANIFEST), key=lambda row: row.id)


def errors_of(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Word errors and reference words of each utterance."""
    normaliser = NORMALISERS["plain"]
    scores = score([row.reference for row in rows], [row.hypothesis for row in rows], normaliser)
    return np.array([s.words.errors for s in scores]), np.array([s.words.reference for s in scores])


def line(args: argparse.Namespace, method: str, precision: str) -> Line:
    """Add up one method over the seeds."""
    rows = {seed: rows_of(args, method, precision, seed) for seed in args.seeds}
    counted = {seed: errors_of(rows[seed]) for seed in args.seeds}
    rates = [100 * float(errors.sum() / words.sum()) for errors, words in counted.values()]
    errors = sum(errors for errors, _ in counted.values())
    words = sum(words for _, words in counted.values())
    against = None
    if method != BASELINE:
        base = sum(errors_of(rows_of(args, BASELINE, precision, seed))[0] for seed in args.seeds)
        found = paired_difference(list(errors), list(base), list(words))
        against = (100 * (found.value or 0), 100 * (found.low or 0), 100 * (found.high or 0))
    estimate = bootstrap_rate(list(errors), list(words))
    levels = np.array([float(row.extra["snr_db"]) for row in rows[args.seeds[0]]])
    by_snr = {
        f"{snr:g} dB": 100 * float(errors[levels == snr].sum() / words[levels == snr].sum())
        for snr in np.unique(levels)
    }
    return Line(
        method=method,
        precision=precision,
        wer=[round(rate, 2) for rate in rates],
        mean=float(np.mean(rates)),
        spread=float(np.std(rates, ddof=1)) if len(rates) > 1 else 0.0,
        interval=(100 * (estimate.low or 0), 100 * (estimate.high or 0)),
        against_labels=against,
        wer_by_snr={name: round(value, 2) for name, value in by_snr.items()},
    )


def teachers(args: argparse.Namespace) -> list[str]:
    """What is known of the teachers: dev error of the conventional one, the leak verdict of the oracle."""
    found = []
    for seed in args.seeds:
        for name in ("digits-conventional", "digits-oracle"):
            run = json.loads((args.output / f"seed{seed}" / name / "run.json").read_text(encoding="utf-8"))
            what = run["leak"]["verdict"] if "leak" in run else f"dev WER {run['dev']['wer']:.2f} %"
            found.append(f"- seed {seed}, {name}: {run['parameters']:,} parameters, {run['seconds']:.0f} s; {what}")
    return found


def table(args: argparse.Namespace, lines: list[Line]) -> str:
    """Markdown: one line a method and precision, and the teachers."""
    head = "| trained from | precision | WER % by seed | mean ± sd | 95 % interval | minus labels only | by SNR |"
    body = [
        f"| {item.method} | {item.precision} | {' / '.join(f'{rate:.2f}' for rate in item.wer)} "
        f"| {item.mean:.2f} ± {item.spread:.2f} | {item.interval[0]:.2f} to {item.interval[1]:.2f} "
        f"| {_difference(item)} | {', '.join(f'{snr}: {rate:.1f}' for snr, rate in item.wer_by_snr.items())} |"
        for item in lines
    ]
    settings = f"{args.student_steps} updates a student, {args.teacher_steps} a teacher, batch 24, greedy decoding"
    extra = f"; {' '.join(args.settings)}" if args.settings else ""
    return "\n".join([f"{settings}{extra}.\n", head, "|" + "---|" * 7, *body, "", *teachers(args)])


def _difference(item: Line) -> str:
    if item.against_labels is None:
        return "-"
    value, low, high = item.against_labels
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def save(args: argparse.Namespace, lines: list[Line]) -> None:
    """Keep the rows, the table and the numbers."""
    kept = [
        {"method": method, "precision": precision, "seed": seed, "id": row.id, **_short(row)}
        for method in METHODS
        for precision in PRECISIONS
        for seed in args.seeds
        for row in rows_of(args, method, precision, seed)
    ]
    with replacing(args.save / "rows.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in kept).encode(), mtime=0))
    write_text(args.save / "table.md", table(args, lines) + "\n")
    write_text(args.save / "lines.json", json.dumps([asdict(item) for item in lines], indent=2) + "\n")


def _short(row: Row) -> dict[str, object]:
    return {"ref": row.reference, "hyp": row.hypothesis, "snr_db": row.extra.get("snr_db"), "error": row.error}


if __name__ == "__main__":
    sys.exit(main())
