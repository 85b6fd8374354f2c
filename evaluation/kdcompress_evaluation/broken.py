"""Variants that could not be evaluated, or gave up half way: ``rows/broken.json``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kdcompress_evaluation.records import dumps, from_json, write_text
from kdcompress_evaluation.rows import ROWS, read_run
from kdcompress_evaluation.summary import BrokenVariant

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

BROKEN = "broken.json"


def read_broken(output: Path) -> tuple[BrokenVariant, ...]:
    """Return what was noted.

    Raises:
        RowsError: the file holds something else.
    """
    path = output / ROWS / BROKEN
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ()
    return tuple(from_json(BrokenVariant, row) for row in rows)


def note_broken(output: Path, broken: Sequence[BrokenVariant]) -> None:
    """Note variants; of what stands there, those that belong to the run (see ``run.json``) are kept.

    So what a run before could not open is forgotten when it opens now, and a variant that gave up half way stays
    until ``forget_broken``.
    """
    ours = {str(variant["name"]) for variant in read_run(output).get("variants", ())}
    new = {item.name for item in broken}
    kept = [item for item in read_broken(output) if item.name in ours - new]
    _write(output, [*kept, *broken])


def add_broken(output: Path, broken: BrokenVariant) -> None:
    """Note one more variant."""
    _write(output, [*(item for item in read_broken(output) if item.name != broken.name), broken])


def forget_broken(output: Path, names: Collection[str]) -> None:
    """Take variants off the list: they are tried again."""
    before = read_broken(output)
    kept = [item for item in before if item.name not in names]
    if len(kept) < len(before):
        _write(output, kept)


def _write(output: Path, broken: Sequence[BrokenVariant]) -> None:
    path = output / ROWS / BROKEN
    if broken or path.exists():
        write_text(path, dumps(list(broken)))
