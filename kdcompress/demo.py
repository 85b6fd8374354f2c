"""The main job on the embedded recordings, in one command: prepare, train, distil, export, verify, report.

Each step is a command of its own in a process of its own, two at a time, with its own log; the demo only
decides the order. A step that is done is not done again, and an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kdcompress import console
from kdcompress.errors import DataNotFoundError, DemoError
from kdcompress.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = 2
POLL_SECONDS = 0.25
TEACHERS = ("digits-oracle", "digits-conventional")
STUDENTS = {
    "digits-labels": None,
    "digits-from-oracle": "digits-oracle",
    "digits-from-conventional": "digits-conventional",
}


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    name: str
    """Also the name of its log."""
    arguments: tuple[str, ...]
    """Of ``kdcompress``."""
    after: tuple[str, ...] = ()
    """Steps that must be done before."""
    result: Path | None = None
    """There when the step is done; a step without one always runs."""
    metrics: Path | None = None
    """Where a training run writes how far it is."""
    updates: int | None = None
    """Updates of a training run."""


def run_demo(output: Path, source: Path, overrides: tuple[str, ...] = ()) -> None:
    """Run every step into ``output`` and print a summary.

    Raises:
        DataNotFoundError: the packed recordings are not at ``source``.
        DemoError: a step failed; the message names its log.
    """
    if not (source / "index.jsonl").is_file():
        raise DataNotFoundError(
            f"{source}: the packed recordings are not here; run the demo in a checkout of kdcompress, "
            "or name their folder with --source"
        )
    began = time.monotonic()
    (output / "logs").mkdir(parents=True, exist_ok=True)
    _run_all(plan(output, source, overrides), output / "logs")
    _summarise(output, time.monotonic() - began)


def plan(output: Path, source: Path, overrides: tuple[str, ...] = ()) -> list[Step]:
    """Every step of the demo, in an order that could be run one after the other."""
    data = output / "data"
    common = [f"data.{split}={data / f'{split}.jsonl'}" for split in ("train", "dev")] + list(overrides)
    settings = tuple(word for setting in common for word in ("--set", setting))
    steps = [Step("data", ("prepare", "digits", "-o", str(data), "--source", str(source)), result=data / "test.jsonl")]
    for recipe in TEACHERS:
        run = output / recipe
        steps.append(_training(recipe, ("train", recipe, "-o", str(run), *settings), run, common))
    for recipe, teacher in STUDENTS.items():
        run = output / recipe
        if teacher is None:
            arguments: tuple[str, ...] = ("train", recipe, "-o", str(run), *settings)
        else:
            arguments = ("distill", recipe, "-o", str(run), "--teacher", str(output / teacher), *settings)
        steps.append(_training(recipe, arguments, run, common, teacher))
    bundles = {recipe: output / "bundles" / recipe for recipe in STUDENTS}
    for recipe, bundle in bundles.items():
        arguments = ("export", str(output / recipe), "-o", str(bundle), "--licence", "CC BY-SA 4.0 (trained on FSDD)")
        steps.append(Step(f"export {recipe}", arguments, after=(recipe,), result=bundle / "bundle.json"))
    report = (
        "eval",
        *map(str, bundles.values()),
        "--manifest",
        f"digits={data / 'test.jsonl'}",
        "-o",
        str(output / "report"),
        "--baseline",
        "digits-labels",
    )
    steps.append(Step("report", report, after=tuple(f"export {recipe}" for recipe in STUDENTS)))
    return steps


def _training(
    recipe: str, arguments: tuple[str, ...], run: Path, overrides: list[str], teacher: str | None = None
) -> Step:
    updates = load_recipe(recipe, overrides).train.steps
    after = ("data", teacher) if teacher else ("data",)
    return Step(recipe, arguments, after, result=run / "run.json", metrics=run / "metrics.jsonl", updates=updates)


def _run_all(steps: list[Step], logs: Path) -> None:
    """Run the steps, ``WORKERS`` at a time, each after those it needs."""
    waiting = list(steps)
    done: set[str] = set()
    running: dict[str, subprocess.Popen[bytes]] = {}
    with _Board(steps) as board, _children(running):
        while waiting or running:
            ready = [step for step in waiting if done.issuperset(step.after)]
            for step in ready[: WORKERS - len(running)]:
                waiting.remove(step)
                running[step.name] = _start(step, logs)
                board.started(step)
            for step in [step for step in steps if step.name in running]:
                code = running[step.name].poll()
                board.update(step)
                if code is None:
                    continue
                del running[step.name]
                if code:
                    raise DemoError(_failure(step, logs))
                done.add(step.name)
                board.finished(step)
            time.sleep(POLL_SECONDS)


def _start(step: Step, logs: Path) -> subprocess.Popen[bytes]:
    """Start a step in a session of its own: Ctrl-C reaches it once, through us."""
    with (logs / f"{step.name.replace(' ', '-')}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 (our own command line)
            [sys.executable, "-m", "kdcompress", *step.arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )


def _failure(step: Step, logs: Path) -> str:
    log = logs / f"{step.name.replace(' ', '-')}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    return f"step '{step.name}' failed: {lines[-1]} (its log: {log}); repeat the demo when that is mended"


@contextmanager
def _children(running: dict[str, subprocess.Popen[bytes]]) -> Iterator[None]:
    """On the way out, let what still runs write its checkpoint and wait for it."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for process in running.values():
            process.wait()


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001 (a signal handler)
    raise KeyboardInterrupt


class _Board:
    """Progress of all steps: bars on a terminal, a line for each start and end elsewhere."""

    def __init__(self, steps: list[Step]) -> None:
        self.console = console.stderr()
        columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.fields[remark]}"))
        self.progress = Progress(*columns, TimeElapsedColumn(), console=self.console)
        self.total = len(steps)
        self.began: dict[str, float] = {}
        self.tasks: dict[str, TaskID] = {}
        self.count = 0

    def __enter__(self) -> _Board:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def started(self, step: Step) -> None:
        """Show that a step runs."""
        self.began[step.name] = time.monotonic()
        self.tasks[step.name] = self.progress.add_task(step.name, total=None, remark="")

    def update(self, step: Step) -> None:
        """Show how far a training run is."""
        row = _last_row(step.metrics) if step.metrics else None
        if row and self.console.is_terminal:
            remark = f"{row['step']:.0f} of {step.updates} updates"
            self.progress.update(self.tasks[step.name], completed=row["step"], total=step.updates, remark=remark)

    def finished(self, step: Step) -> None:
        """Show that a step is done."""
        self.count += 1
        seconds = time.monotonic() - self.began[step.name]
        self.progress.update(self.tasks[step.name], completed=1, total=1, remark="done")
        if not self.console.is_terminal:
            console.info(f"[{self.count}/{self.total}] {step.name}: {seconds:.0f} s")


def _last_row(metrics: Path) -> dict[str, float] | None:
    """Last complete line of a run's metrics."""
    if not metrics.is_file():
        return None
    for line in reversed(metrics.read_text(encoding="utf-8").splitlines()):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        return row if isinstance(row, dict) else None
    return None


def _summarise(output: Path, seconds: float) -> None:
    """Print the path of the report and five lines that say what happened."""
    report = output / "report"
    teachers = [json.loads((output / name / "run.json").read_text(encoding="utf-8")) for name in TEACHERS]
    print_line = console.stdout().print
    print_line(f"report: {report / 'report.html'}", markup=False)
    for teacher in teachers:
        found = teacher["leak"]["verdict"] if "leak" in teacher else f"dev WER {teacher['dev']['wer']:.1f} %"
        print_line(f"teacher {teacher['name']}: {teacher['parameters']:,} parameters; {found}", markup=False)
    content = json.loads((report / "report.json").read_text(encoding="utf-8"))
    print_line(str(content["headline"]), markup=False)
    print_line(f"took {seconds:.0f} s; a second run reuses what is done", markup=False)
