"""The main job on the embedded recordings, in one command: prepare, train, distil, export, report."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from kdcompress import console
from kdcompress.errors import DataNotFoundError
from kdcompress.steps import Step, path_setting, run_steps, training_step

if TYPE_CHECKING:
    from pathlib import Path

TEACHERS = ("digits-oracle", "digits-vgg")
STUDENTS = {
    "digits-labels": None,
    "digits-from-oracle": "digits-oracle",
    "digits-from-vgg": "digits-vgg",
}
LICENCE = "CC BY-SA 4.0 (trained on the Free Spoken Digit Dataset)"


def run_demo(output: Path, source: Path, overrides: tuple[str, ...] = ()) -> None:
    """Run every step into ``output`` and print a summary.

    Raises:
        DataNotFoundError: the packed recordings are not at ``source``.
        StepError: a step failed; the message names its log.
    """
    if not (source / "index.jsonl").is_file():
        raise DataNotFoundError(
            f"{source}: the packed recordings are not here; run the demo in a checkout of kdcompress, "
            "or name their folder with --source"
        )
    began = time.monotonic()
    run_steps(plan(output, source, overrides), output / "logs")
    _summarise(output, time.monotonic() - began)


def plan(output: Path, source: Path, overrides: tuple[str, ...] = ()) -> list[Step]:
    """Every step of the demo, in an order that could be run one after the other."""
    data = output / "data"
    settings = [*(path_setting(f"data.{split}", data / f"{split}.jsonl") for split in ("train", "dev")), *overrides]
    steps = [Step("data", ("prepare", "digits", "-o", str(data), "--source", str(source)))]
    steps += [training_step("train", recipe, output / recipe, settings, after=("data",)) for recipe in TEACHERS]
    for recipe, teacher in STUDENTS.items():
        if teacher is None:
            steps.append(training_step("train", recipe, output / recipe, settings, after=("data",)))
        else:
            taught = [*settings, path_setting("distill.teachers", output / teacher)]
            steps.append(training_step("distill", recipe, output / recipe, taught, after=("data", teacher)))
    bundles = {recipe: output / "bundles" / recipe for recipe in STUDENTS}
    for recipe, bundle in bundles.items():
        export = ("export", str(output / recipe), "-o", str(bundle), "--licence", LICENCE)
        made_from = (output / recipe / "model.safetensors",)
        steps.append(Step(f"export {recipe}", export, (recipe,), result=bundle / "bundle.json", made_from=made_from))
    report = ("eval", *map(str, bundles.values()), "--manifest", f"digits={data / 'test.jsonl'}")
    where = ("--baseline", "digits-labels", "--paced", "4", "-o", str(output / "report"))
    steps.append(Step("report", report + where, after=tuple(f"export {recipe}" for recipe in STUDENTS)))
    return steps


def _summarise(output: Path, seconds: float) -> None:
    """Print five lines that say what happened, and the path of the report."""
    teachers = [json.loads((output / name / "run.json").read_text(encoding="utf-8")) for name in TEACHERS]
    content = json.loads((output / "report" / "report.json").read_text(encoding="utf-8"))
    rates = {
        variant["info"]["bundle_name"]: f"{100 * variant['pooled']['metrics']['wer']['value']:.1f} %"
        for variant in content["variants"]
        if variant["info"]["precision"] == "float32"
    }
    lines = [f"teacher {teacher['name']}: {_teacher(teacher)}" for teacher in teachers]
    lines.append("test WER by student: " + ", ".join(f"{name} {rate}" for name, rate in rates.items()))
    lines.append(str(content["headline"]))
    lines.append(f"took {seconds:.0f} s; a second run reuses what is done")
    for line in [*lines, f"report: {output / 'report' / 'report.html'}"]:
        console.stdout().print(line, markup=False)


def _teacher(run: dict[str, Any]) -> str:
    """Size, and what dev says; for a teacher that sees the reference only whether it listens."""
    found = run["leak"]["verdict"] if "leak" in run else f"dev WER {run['dev']['wer']:.1f} %"
    return f"{run['parameters']:,} parameters; {found}"
