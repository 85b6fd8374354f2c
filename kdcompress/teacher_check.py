"""Look at a teacher before a student learns from it: leak tests, padding, and how fast it became good."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kdcompress.data.task import TASKS
from kdcompress.errors import RunError
from kdcompress.files import write_text
from kdcompress.run import TrainedRun, load_run
from kdcompress.teachers.leak import LeakReport, leak_report
from kdcompress.time_to_quality import TimeToQuality, time_to_quality
from kdcompress_runtime.errors import MissingDependencyError
from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kdcompress.data.batch import Batch

PADDING_TOLERANCE = 1e-3
"""Largest change of a log-probability, in nats, that may come from padding; float32 alone stays far below."""


@dataclass(frozen=True)
class TeacherCheck:
    """What was found."""

    run: TrainedRun
    """The teacher."""
    manifest: Path
    """Whose items it was tested on."""
    items: int
    """How many."""
    leak: LeakReport
    """Leak tests and padding."""
    twin: TimeToQuality | None
    """Against a twin, if one was named."""

    @property
    def passed(self) -> bool:
        """Whether padding changes nothing. Copying is a warning and no failure: such a teacher may still help."""
        return self.leak.padding_difference <= PADDING_TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Everything; no error rate of a teacher that has seen the reference."""
        return {
            "schema": 1,
            "run": str(self.run.folder.path),
            "name": self.run.recipe.name,
            "kind": self.run.recipe.model.kind,
            "sees_labels": self.run.recipe.model.sees_labels,
            "manifest": {"path": str(self.manifest), "fingerprint": manifest_fingerprint(self.manifest)},
            "items": self.items,
            "leak": self.leak.to_json(),
            "padding": {"tolerance": PADDING_TOLERANCE, "passed": self.passed},
            "time_to_quality": self.twin.to_json() if self.twin else None,
        }


def check_run(
    path: Path,
    *,
    manifest: Path | None = None,
    twin: Path | None = None,
    output: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> TeacherCheck:
    """Test a finished run, and write what was found if asked.

    Args:
        path: folder of the run: a teacher, or any other network.
        manifest: items to test on; the dev manifest of its recipe when left out.
        twin: folder of a run to compare the time of training with.
        output: folder for ``teacher-check.json`` and, with a twin, ``curve.svg``.
        on_progress: called as ``(items, all items)`` after each batch.

    Raises:
        RunError: not a finished run, no manifest to test on, or curves that cannot be compared.
        MissingDependencyError: a curve is to be drawn, and matplotlib is not installed.
        ManifestError, AudioError, VocabularyError, TargetTooLongError: the items cannot be used.
    """
    if twin and output and not find_spec("matplotlib"):
        raise MissingDependencyError(
            "drawing a curve needs matplotlib; install it with `pip install 'kdcompress[eval]'`"
        )
    run = load_run(path)
    source = manifest or run.recipe.data.dev
    if source is None:
        raise RunError(f"{path}: its recipe names no data.dev; name held-out items with --manifest")
    compared = time_to_quality(run, load_run(twin)) if twin else None
    network = run.network  # on the CPU: the short floats of a GPU's convolutions would fail the padding test
    task = TASKS[run.recipe.task]
    items = task.items(source, run.recipe, run.vocabulary, network.units_per_frame)
    batches = _reported(task.evaluation_batches(items, run.recipe), len(items), on_progress)
    leak = leak_report(network, batches, run.vocabulary, sees_labels=run.recipe.model.sees_labels)
    check = TeacherCheck(run, source, len(items), leak, compared)
    if output:
        _write(check, output)
    return check


def _reported(batches: Iterator[Batch], total: int, on_progress: Callable[[int, int], None] | None) -> Iterator[Batch]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.texts)
        if on_progress:
            on_progress(done, total)


def _write(check: TeacherCheck, output: Path) -> None:
    if check.twin:
        from kdcompress.curve_plot import draw_curves

        draw_curves(check.twin, output / "curve.svg")
    write_text(output / "teacher-check.json", json.dumps(check.to_json(), indent=2) + "\n")
