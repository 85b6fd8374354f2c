"""Scalars of a run by step: ``metrics.jsonl`` and TensorBoard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kdcompress.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate import Accelerator

    from kdcompress.run import RunFolder


class Metrics:
    """Appends scalars; what an earlier process wrote after its last checkpoint is dropped on resume.

    Args:
        folder: of the run.
        start: updates that the checkpoint has seen.
        steps: updates of the run; what is measured after the last of them is measured again on resume.
        accelerator: knows the first of several processes, which writes.
    """

    def __init__(self, folder: RunFolder, start: int, steps: int, accelerator: Accelerator) -> None:
        self.path, self.accelerator = folder.metrics, accelerator
        kept: list[dict[str, Any]] = []
        if folder.metrics.is_file():
            kept = [row for row in read_metrics(folder.metrics) if row["step"] <= start]
            kept = [row for row in kept if row["step"] < steps or "loss" in row]
        self.seconds = float(kept[-1]["seconds"]) if kept else 0.0
        if accelerator.is_main_process:
            write_text(folder.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        if not accelerator.trackers:
            accelerator.init_trackers(folder.tensorboard.name)

    def write(self, step: int, seconds: float, scalars: dict[str, float]) -> None:
        """Append one line and log the same to TensorBoard."""
        if self.accelerator.is_main_process:
            row = {"step": step, "seconds": round(seconds, 2), **scalars}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        self.accelerator.log(scalars, step=step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a ``metrics.jsonl`` in their order; a line that a kill cut short is left out."""
    return [row for row in map(_row, path.read_text(encoding="utf-8").splitlines()) if row]


def _row(line: str) -> dict[str, Any] | None:
    """Parse one line of metrics; None for one that a kill cut short."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "step" in row else None
