"""Methods of distillation on noisy digits: a table of methods by seeds, at equal updates.

Strings of 3 to 7 real spoken digits (the embedded recordings, official split) in real background noise: training draws
-5 to 15 dB, dev and test are at 0, 5 and 10 dB, test with noises that nothing else has heard. One set of teachers; a
0.3 M streaming student from every method of ``distill_methods.py``. Parts:

- ``short``: every method, look-ahead 160 ms; the better of two settings is chosen on dev with seed 1
- ``delay``: plain frame KL with targets 0 to 400 ms later
- ``lookahead``: the leading methods at look-ahead 0 and 640 ms, with the settings chosen at 160 ms
- ``long``: labels only and the plain teachers, four times the updates and more

Usage: python benchmarks/bench_distill.py --noise NOISE.jsonl [--parts short delay lookahead long] [--seeds 1 2 3]

The noise recordings are not part of the repository: any JSONL manifest with ``audio_filepath``, ``noise_type`` and
``split`` (train, test) serves. Interrupt it at will; it goes on where it stopped. Rows, tables, plots and numbers go to
``--save``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from distill_methods import DELAYS, LONG, LOOKAHEAD_FRAMES, METHODS, TEACHERS, Method
from distill_scores import save_part, score_runs
from exit_codes import with_exit_code

from kdcompress.errors import DataNotFoundError
from kdcompress.files import write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = ("short", "delay", "lookahead", "long")


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Train what the parts need, score it, and write the tables."""
    args = parse(argv)
    run_steps([*data_step(args), *teacher_steps(args)], args.output / "logs", args.workers)
    chosen = choose(args)
    for part in args.parts:
        runs = plan(args, part, chosen)
        train(args, [(variant, overrides) for variant, overrides, _ in runs], part)
        score_runs([args.output / "students" / variant for variant, _, _ in runs], args.output / "data" / "test.jsonl")
        save_part(args, part, [(variant, labels) for variant, _, labels in runs])


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=Path, default=Path("../shared/data/noise_rir/noise.jsonl"))
    parser.add_argument("--source", type=Path, default=Path("data/fsdd"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-distill"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/distill"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=[method.name for method in METHODS],
        metavar="METHOD",
        help="besides labels only",
    )
    parser.add_argument("--teacher-steps", type=int, default=3000, help="of the conventional teacher")
    parser.add_argument("--oracle-steps", type=int, default=1500)
    parser.add_argument("--member-steps", type=int, default=1000, help="of the members of the ensemble, and the guide")
    parser.add_argument("--student-steps", type=int, default=600)
    parser.add_argument("--long-steps", type=int, default=2400)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lookaheads", type=int, nargs="+", default=[0, 16], help="frames of the part lookahead")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    if not args.noise.is_file():
        message = f"{args.noise}: no noise manifest here; name one with --noise (see --help)"
        print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
        raise SystemExit(1)
    return args


def data_step(args: argparse.Namespace) -> list[Step]:
    """Join the digits and mix noise into dev and test, once."""
    data = args.output / "data"
    if (data / "test.jsonl").is_file():
        return []
    return [
        Step("data", ("prepare", "digits", "-o", str(data), "--source", str(args.source), "--noise", str(args.noise)))
    ]


def common_settings(args: argparse.Namespace) -> list[str]:
    """Data and noise, the same for teachers and students."""
    data = args.output / "data"
    noise = {"manifest": str(args.noise), "snr_db": [-5, 15]}
    return [
        *(path_setting(f"data.{split}", data / f"{split}.jsonl") for split in ("train", "dev")),
        f"augment.noise={json.dumps(noise)}",
    ]


def teacher_steps(args: argparse.Namespace) -> list[Step]:
    """Teachers that the chosen methods need, and the guides of those."""
    # times are told beside the conventional teacher's in every part
    needed = {"conventional"} | {name for method in methods(args) for name in method.teachers}
    needed |= {TEACHERS[name].guide or name for name in needed}
    steps = []
    for name in [name for name in TEACHERS if name in needed]:
        teacher = TEACHERS[name]
        updates = {"teacher": args.teacher_steps, "oracle": args.oracle_steps, "member": args.member_steps}[
            teacher.steps
        ]
        settings = [*common_settings(args), f"train.steps={updates}", "train.eval_every=100", *teacher.settings]
        command, after = "train", ["data"] if data_step(args) else []
        if teacher.guide:
            command = "distill"
            settings += [
                path_setting("distill.teachers", args.output / "teachers" / teacher.guide),
                f"losses={json.dumps([{'kind': 'ctc'}, {'kind': teacher.guided_by}])}",
            ]
            after.append(teacher.guide)
        folder = args.output / "teachers" / name
        steps.append(training_step(command, teacher.recipe, folder, settings, after=tuple(after), name=name))
    # a guide stands in the way of others: it goes first
    return sorted(steps, key=lambda step: step.name != "guide")


def methods(args: argparse.Namespace) -> list[Method]:
    """Labels only, and what was asked for."""
    return [m for m in METHODS if m.name == "labels only" or not args.methods or m.name in args.methods]


def student(
    args: argparse.Namespace, method: Method, choice: int, *, seed: int, lookahead: int, steps: int
) -> list[str]:
    """Overrides of ``digits-labels`` for one student."""
    folders = [args.output / "teachers" / name for name in method.teachers]
    return [
        *common_settings(args),
        f"seed={seed}",
        f"model.lookahead_frames={lookahead}",
        "model.dropout=0",
        f"train.steps={steps}",
        f"train.batch_size={args.batch_size}",
        "train.eval_every=100000",
        "train.checkpoint_every=300",
        *([path_setting("distill.teachers", *folders)] if folders else []),
        *method.overrides(choice, lookahead),
    ]


def variant(method: Method, choice: int, *, seed: int, lookahead: int, part: str) -> str:
    """Name of a student's run."""
    words = "".join(letter if letter.isalnum() else "-" for letter in method.name.lower())
    return f"{part}-la{lookahead}-{words}-{choice}-seed{seed}"


def choose(args: argparse.Namespace) -> dict[str, int]:
    """Setting of each method that is better on dev, with the first seed, in the short part."""
    runs = {}
    for method in methods(args):
        for choice in range(len(method.choices)):
            where = {"seed": args.seeds[0], "lookahead": LOOKAHEAD_FRAMES}
            name = variant(method, choice, part="short", **where)
            runs[name] = (method, choice, student(args, method, choice, steps=args.student_steps, **where))
    train(args, [(name, overrides) for name, (_, _, overrides) in runs.items()], "choose")
    rates: dict[str, list[float]] = {}
    for name, (method, _, _) in runs.items():
        summary = json.loads((args.output / "students" / name / "run.json").read_text(encoding="utf-8"))
        rates.setdefault(method.name, []).append(float(summary["dev"]["wer"]))
    write_text(args.save / "dev.json", json.dumps(rates, indent=2) + "\n")
    return {name: found.index(min(found)) for name, found in rates.items()}


def plan(args: argparse.Namespace, part: str, chosen: dict[str, int]) -> list[tuple[str, list[str], dict[str, object]]]:
    """Name, overrides and labels of every student of a part."""
    asked = methods(args)
    if part == "lookahead":
        asked = [method for method in asked if method.per_lookahead]
    if part == "delay":
        asked = [method for method in asked if method.name == "labels only"] + list(DELAYS)
    if part == "long":
        asked = [method for method in asked if method.name in LONG]
    steps = args.long_steps if part == "long" else args.student_steps
    found = []
    for lookahead in args.lookaheads if part == "lookahead" else (LOOKAHEAD_FRAMES,):
        for method in asked:
            for seed in args.seeds:
                where = {"seed": seed, "lookahead": lookahead}
                choice = chosen.get(method.name, 0)
                name = variant(method, choice, part="long" if part == "long" else "short", **where)
                overrides = student(args, method, choice, steps=steps, **where)
                found.append((name, overrides, {"method": method.name, **where}))
    return found


def train(args: argparse.Namespace, runs: Sequence[tuple[str, list[str]]], part: str) -> None:
    """Train students by ``kdcompress sweep``, those of one seed and look-ahead and with like teachers side by side."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name, overrides in runs:
        many = sum("distill.combine" in item for item in overrides)
        key = f"{part}-{name.split('-')[1]}-{name.rsplit('-', 1)[1]}-{'many' if many else 'one'}"
        groups.setdefault(key, {})[name] = overrides
    steps = []
    for key, variants in groups.items():
        if all((args.output / "students" / name / "run.json").is_file() for name in variants):
            continue
        file = args.output / "sweeps" / f"{key}.yaml"
        write_text(file, yaml.safe_dump({"recipe": "digits-labels", "variants": variants}))
        steps.append(Step(key, ("sweep", str(file), "-o", str(args.output / "students"))))
    run_steps(steps, args.output / "logs", args.workers)


if __name__ == "__main__":
    sys.exit(main())
