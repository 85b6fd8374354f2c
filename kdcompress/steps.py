"""Run commands of kdcompress in an order: each in a process of its own, some at a time, with its own log.

A step whose result is there is skipped by its command itself; an interrupted one goes on where it stopped.
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
from kdcompress.errors import StepError
from kdcompress.recipe_file import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    name: str
    """Also the name of its log."""
    arguments: tuple[str, ...]
    """Of ``kdcompress``."""
    after: tuple[str, ...] = ()
    """Steps that must be done before."""
    metrics: Path | None = None
    """Where a training run writes how far it is."""
    updates: int | None = None
    """Updates of a training run."""
    result: Path | None = None
    """What the step makes; it is not made again while it is newer than ``made_from``."""
    made_from: tuple[Path, ...] = ()
    """Files that ``result`` is made from."""

    def is_done(self) -> bool:
        """Whether ``result`` is there and up to date; training and evaluation find that out by themselves."""
        if self.result is None or not self.result.is_file():
            return False
        made = self.result.stat().st_mtime
        return all(file.is_file() and file.stat().st_mtime <= made for file in self.made_from)


def path_setting(key: str, *paths: Path) -> str:
    """Override of a recipe's key by paths; quoted: the value is read as YAML, and a folder may be called 2024."""
    quoted = [str(path) for path in paths]
    return f"{key}={json.dumps(quoted if len(quoted) > 1 else quoted[0])}"


def training_step(
    command: str, recipe: str, run: Path, overrides: Sequence[str], *, after: tuple[str, ...], name: str = ""
) -> Step:
    """Step that trains ``recipe`` into ``run`` by ``train`` or ``distill``."""
    settings = tuple(word for setting in overrides for word in ("--set", setting))
    arguments = (command, recipe, "-o", str(run), *settings)
    updates = load_recipe(recipe, overrides).train.steps
    return Step(name or recipe, arguments, after, metrics=run / "metrics.jsonl", updates=updates)


def run_steps(steps: Sequence[Step], logs: Path, workers: int = 2) -> None:
    """Run the steps, ``workers`` at a time, each after those it needs.

    Raises:
        StepError: a step failed; the message names its log.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = list(steps)
    done: set[str] = set()
    running: dict[str, subprocess.Popen[bytes]] = {}
    with _Board(steps) as board, _children(running):
        while waiting or running:
            ready = [step for step in waiting if done.issuperset(step.after)]
            for step in [step for step in ready if step.is_done()]:
                waiting.remove(step)
                done.add(step.name)
                board.started(step)
                board.finished(step)
            ready = [step for step in ready if step in waiting]
            for step in ready[: workers - len(running)]:
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
                    raise StepError(_failure(step, logs))
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
    return f"step '{step.name}' failed: {lines[-1]} (its log: {log}); repeat the command when that is mended"


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

    def __init__(self, steps: Sequence[Step]) -> None:
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
