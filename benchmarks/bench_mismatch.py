"""Teachers that do not match their student, and labels that were stored: tables of error rates over seeds.

Parts, all at equal updates on the same batches, error rates on test:

- ``digits``: a noisy-digits student (look-ahead 640 ms) from the teacher itself; from its labels stored in full and as
  the 8 most probable tokens; from a teacher of 20 ms frames, and N-best texts of one of subwords
- ``kinds``: the same from character marginals of the subword teacher, from stored occupancies and N-best texts
- ``delay``: a student without look-ahead from the same full-context teacher: targets at the same frame, 240 ms later,
  and as late as suits each frame or each utterance best
- ``subwords``: sentences in 500 subwords, from labels stored in full and as the 8 most probable tokens
- ``narrowband``: an 8 kHz student of phones from a teacher that hears 16 kHz

Usage: python benchmarks/bench_mismatch.py --noise NOISE.jsonl --sentences FOLDER [--parts ...] [--seeds 1 2 3]

Neither the noise recordings (any JSONL manifest with ``audio_filepath``, ``noise_type`` and ``split``) nor the
sentences (speechocean762, as for ``bench_sentences.py``) are part of the repository. Interrupt it at will; it goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import yaml
from distill_scores import errors_of, rows_of, save_part, score_runs
from exit_codes import with_exit_code
from mismatch_parts import PARTS, STORES, TEACHERS, Part

from kdcompress.errors import DataNotFoundError
from kdcompress.files import replacing, write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step
from kdcompress_evaluation.bootstrap import paired_difference


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Prepare, train teachers, store labels, train students, score them, write the tables."""
    args = parse(argv)
    parts = {name: PARTS[name] for name in args.parts}
    if args.pair:
        for name, part in parts.items():
            pair(args, name, part)
        return
    steps = [*data_steps(args, parts), *teacher_steps(args, parts), *store_steps(args, parts)]
    run_steps(steps, args.output / "logs", args.workers)
    for name, part in parts.items():
        run_steps(student_steps(args, name, part), args.output / "logs", args.workers)
        runs = students(args, name, part)
        score_runs([args.output / "students" / run for run, _ in runs], args.output / "data" / part.data / "test.jsonl")
        args.student_steps = args.updates or part.updates
        save_part(args, name, runs)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=Path, default=Path("../shared/data/noise_rir/noise.jsonl"))
    parser.add_argument("--sentences", type=Path, default=Path("../shared/data/speechocean762"))
    parser.add_argument("--digits", type=Path, default=Path("data/fsdd"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-mismatch"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/mismatch"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--updates", type=int, help="of students and teachers, in the place of each part's own")
    parser.add_argument("--pair", nargs=2, metavar="METHOD", help="train and compare these two methods alone")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    needed = {PARTS[name].data for name in args.parts}
    files = {
        "digits": args.noise,
        "sentences": args.sentences / "train.jsonl",
        "phones": args.sentences / "train.jsonl",
    }
    for data in sorted(needed):
        if not files[data].is_file():
            message = f"{files[data]}: not here; name the data with --noise and --sentences (see --help)"
            print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
            raise SystemExit(1)
    return args


def data_steps(args: argparse.Namespace, parts: dict[str, Part]) -> list[Step]:
    """Digits in noise, and sentences as words and as phones."""
    commands = {
        "digits": ("digits", "--source", str(args.digits), "--noise", str(args.noise)),
        "sentences": ("sentences", "--source", str(args.sentences)),
        "phones": ("sentences", "--source", str(args.sentences), "--units", "phones"),
    }
    folders = {data: args.output / "data" / data for data in sorted({part.data for part in parts.values()})}
    return [
        Step(f"data {data}", ("prepare", *commands[data][:1], "-o", str(folder), *commands[data][1:]))
        for data, folder in folders.items()
        if not (folder / "test.jsonl").is_file()
    ]


def common_settings(args: argparse.Namespace, data: str) -> list[str]:
    """Manifests, noise and batches: the same for teachers and students."""
    folder = args.output / "data" / data
    settings = [path_setting(f"data.{split}", folder / f"{split}.jsonl") for split in ("train", "dev")]
    settings += [f"train.batch_size={args.batch_size}"]
    if data == "digits":
        settings.append(f"augment.noise={json.dumps({'manifest': str(args.noise), 'snr_db': [-5, 15]})}")
    return settings


def teacher_steps(args: argparse.Namespace, parts: dict[str, Part]) -> list[Step]:
    """Teachers that the parts need, one that others start from first."""
    needed = {STORES[name].teacher if name in STORES else name for part in parts.values() for name in part.taught_by()}
    needed |= {TEACHERS[name].start for name in needed} - {""}
    steps = []
    for name in [name for name in TEACHERS if name in needed]:
        teacher, folder = TEACHERS[name], args.output / "teachers" / name
        if (folder / "run.json").is_file():
            continue
        settings = [*common_settings(args, teacher.data), f"train.steps={args.updates or teacher.updates}"]
        settings += [*teacher.settings, "train.eval_every=500"]
        after = [f"data {teacher.data}"] if not (args.output / "data" / teacher.data / "test.jsonl").is_file() else []
        if teacher.start:
            settings.append(path_setting("init_encoder", args.output / "teachers" / teacher.start))
            after += [teacher.start] if not (args.output / "teachers" / teacher.start / "run.json").is_file() else []
        steps.append(training_step("train", teacher.recipe, folder, settings, after=tuple(after), name=name))
    return steps


def store_steps(args: argparse.Namespace, parts: dict[str, Part]) -> list[Step]:
    """Stores of labels that the parts need."""
    needed = {name for part in parts.values() for name in part.taught_by() if name in STORES}
    steps = []
    for name in sorted(needed):
        store = STORES[name]
        teacher, folder = TEACHERS[store.teacher], args.output / "stores" / name
        settings = [*common_settings(args, teacher.data), f"label={json.dumps(store.label)}", *teacher.reads]
        words = tuple(word for setting in settings for word in ("--set", setting))
        there = (args.output / "teachers" / store.teacher / "run.json").is_file()
        path = str(args.output / "teachers" / store.teacher)
        arguments = ("label", teacher.recipe, "-o", str(folder), "--teacher", path, *words)
        steps.append(Step(f"labels {name}", arguments, () if there else (store.teacher,)))
    return steps


def students(args: argparse.Namespace, name: str, part: Part) -> list[tuple[str, dict[str, object]]]:
    """Name of the run of every student of a part, and its labels."""
    return [
        (f"{name}-{number}-seed{seed}", {"method": method, "seed": seed, "lookahead": part.lookahead})
        for number, method in enumerate(part.methods)
        for seed in args.seeds
    ]


def student_steps(args: argparse.Namespace, name: str, part: Part) -> list[Step]:
    """One sweep for each seed: the methods of a part train side by side."""
    steps = []
    for seed in args.seeds:
        variants = {}
        for number, (method, (teacher, own)) in enumerate(part.methods.items()):
            if args.pair and method not in args.pair:
                continue
            settings = [*common_settings(args, part.data), *part.settings, f"model.lookahead_frames={part.lookahead}"]
            settings += [f"seed={seed}", f"train.steps={args.updates or part.updates}", "train.eval_every=100000", *own]
            if teacher:
                folder = "stores" if teacher in STORES else "teachers"
                settings.append(path_setting("distill.teachers", args.output / folder / teacher))
            variants[f"{name}-{number}-seed{seed}"] = settings
        file = args.output / "sweeps" / f"{name}-seed{seed}.yaml"
        write_text(file, yaml.safe_dump({"recipe": part.recipe, "variants": variants}))
        steps.append(Step(f"{name} seed {seed}", ("sweep", str(file), "-o", str(args.output / "students"))))
    return steps


def pair(args: argparse.Namespace, name: str, part: Part) -> None:
    """Train two methods with every seed, and compare the second with the first over the same test utterances."""
    run_steps(student_steps(args, name, part), args.output / "logs", args.workers)
    runs = {method: [] for method in args.pair}
    for run, labels in students(args, name, part):
        if labels["method"] in runs:
            runs[str(labels["method"])].append(args.output / "students" / run)
    folders = [folder for group in runs.values() for folder in group]
    score_runs(folders, args.output / "data" / part.data / "test.jsonl")
    counted = {method: [errors_of(folder) for folder in group] for method, group in runs.items()}
    rates = {method: [100 * wrong.sum() / words.sum() for wrong, words in group] for method, group in counted.items()}
    first, second = ([sum(wrong) for wrong in zip(*(w for w, _ in counted[m]), strict=True)] for m in args.pair)
    words = [sum(each) for each in zip(*(w for _, w in counted[args.pair[0]]), strict=True)]
    found = paired_difference(second, first, words)
    rows = []
    for method, each in rates.items():
        seeds = " / ".join(f"{rate:.2f}" for rate in each)
        rows.append(f"| {method} | {seeds} | {np.mean(each):.2f} ± {np.std(each, ddof=1):.2f} |")
    low, value, high = (100 * (number or 0) for number in (found.low, found.value, found.high))
    text = "\n".join(["| trained from | WER % by seed | mean ± sd |", "|---|---|---|", *rows, ""])
    text += f"\nThe second minus the first, paired over utterances: {value:+.2f} ({low:+.2f} to {high:+.2f}) points.\n"
    write_text(args.save / f"{name}-pair.md", text)
    kept = [{"run": folder.name, **row} for folder in folders for row in rows_of(folder)]
    with replacing(args.save / f"{name}-pair.rows.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in kept).encode(), mtime=0))
    print(text)


if __name__ == "__main__":
    sys.exit(main())
