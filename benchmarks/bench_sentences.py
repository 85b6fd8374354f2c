"""Connected English: the methods that lead on noisy digits, and a broadband teacher of a narrowband student.

speechocean762 (OpenSLR 101; 250 non-native speakers, speaker-disjoint splits) as phones through its lexicon, so the
rates are phone error rates. Two tables, three seeds each, a 0.3 M streaming student with 320 ms look-ahead:

- ``wide``: 16 kHz, from labels, from teachers, in place
- ``narrow``: 8 kHz, from labels, from a teacher that hears 8 kHz, from one that hears the same recordings at 16 kHz

Usage: python benchmarks/bench_sentences.py --source FOLDER [--seeds 1 2 3] [--output DIR] [--save DIR]

The corpus is not part of the repository. Interrupt it at will; it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from distill_scores import save_part, score_runs
from exit_codes import with_exit_code

from kdcompress.errors import DataNotFoundError
from kdcompress.files import write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step

WIDE, NARROW = "sentences-labels", "sentences-narrowband-labels"
TAUGHT = 'losses=[{"kind": "ctc", "weight": 0.1}, {"kind": "frame_kl", "weight": 0.9}]'
IN_PLACE = 'losses=[{"kind": "ctc", "weight": 0.75}, {"kind": "in_place", "weight": 0.25, "teacher_ctc": 4.0}]'
TEACHERS = {
    "conventional": "sentences-conventional",
    "oracle": "sentences-oracle",
    "narrowband": "sentences-narrowband-conventional",
}
PARTS = {
    "wide": (
        WIDE,
        {
            "labels only": [],
            "conventional teacher": [TAUGHT, "conventional"],
            "Oracle Teacher": [TAUGHT, "oracle"],
            "in-place oracle": [IN_PLACE],
        },
    ),
    "narrow": (
        NARROW,
        {
            "labels only": [],
            "narrowband teacher": [TAUGHT, "narrowband"],
            "broadband teacher": [TAUGHT, "conventional"],
        },
    ),
}
"""Recipe of the student, and by method its losses and its teacher."""
LOOKAHEAD_FRAMES = 8


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Train, score, and write the tables."""
    args = parse(argv)
    run_steps([*data_step(args), *teacher_steps(args)], args.output / "logs", args.workers)
    run_steps([step for part in PARTS for step in student_steps(args, part)], args.output / "logs", args.workers)
    test = args.output / "data" / "test.jsonl"
    score_runs([args.output / "teachers" / name for name in ("conventional", "narrowband")], test)
    for part in PARTS:
        runs = students(args, part)
        score_runs([args.output / "students" / name for name, _ in runs], test)
        save_part(args, part, runs)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/speechocean762"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-sentences"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/sentences"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--teacher-steps", type=int, default=1500)
    parser.add_argument("--oracle-steps", type=int, default=900)
    parser.add_argument("--student-steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    if not (args.source / "train.jsonl").is_file():
        message = f"{args.source}: no train.jsonl here; name the corpus with --source (see --help)"
        print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
        raise SystemExit(1)
    return args


def data_step(args: argparse.Namespace) -> list[Step]:
    """Phones for texts, audio decoded, once."""
    data = args.output / "data"
    if (data / "test.jsonl").is_file():
        return []
    source = ("--source", str(args.source), "--units", "phones")
    return [Step("data", ("prepare", "sentences", "-o", str(data), *source))]


def common_settings(args: argparse.Namespace, steps: int) -> list[str]:
    """Data, units and updates."""
    data = args.output / "data"
    manifests = [path_setting(f"data.{split}", data / f"{split}.jsonl") for split in ("train", "dev")]
    return [*manifests, "data.units=words", f"train.steps={steps}", f"train.batch_size={args.batch_size}"]


def teacher_steps(args: argparse.Namespace) -> list[Step]:
    """One teacher of each kind, small: width 128, 8 blocks."""
    size = ["model.encoder={width: 128, depth: 8, kernel: 15, dropout: 0.0}", "train.learning_rate=0.003"]
    after = ("data",) if data_step(args) else ()
    steps = []
    for name, recipe in TEACHERS.items():
        updates = args.oracle_steps if name == "oracle" else args.teacher_steps
        settings = [*common_settings(args, updates), *size, "train.eval_every=300"]
        steps.append(training_step("train", recipe, args.output / "teachers" / name, settings, after=after, name=name))
    return steps


def students(args: argparse.Namespace, part: str) -> list[tuple[str, dict[str, object]]]:
    """Name of the run of every student of a part, and its labels."""
    labels = {"lookahead": LOOKAHEAD_FRAMES}
    return [
        (f"{part}-{method.replace(' ', '-').lower()}-seed{seed}", {"method": method, "seed": seed, **labels})
        for method in PARTS[part][1]
        for seed in args.seeds
    ]


def student_steps(args: argparse.Namespace, part: str) -> list[Step]:
    """One sweep for each seed: the methods of a part train side by side."""
    recipe, methods = PARTS[part]
    steps = []
    for seed in args.seeds:
        variants = {}
        for (name, labels), own in zip(
            students(args, part), [own for own in methods.values() for _ in args.seeds], strict=True
        ):
            if labels["seed"] == seed:
                variants[name] = [*common_settings(args, args.student_steps), f"seed={seed}", "model.dropout=0"]
                variants[name] += ["train.eval_every=100000", *own[:1]]
                variants[name] += [path_setting("distill.teachers", args.output / "teachers" / t) for t in own[1:]]
        file = args.output / "sweeps" / f"{part}-seed{seed}.yaml"
        write_text(file, yaml.safe_dump({"recipe": recipe, "variants": variants}))
        steps.append(Step(f"{part} seed {seed}", ("sweep", str(file), "-o", str(args.output / "students"))))
    return steps


if __name__ == "__main__":
    sys.exit(main())
