"""One JSON row an utterance, flushed as it is recognised: a killed run goes on and loses at most one utterance."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.records import dumps, from_json, to_json, write_text
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import TextIO


@dataclass(frozen=True)
class Row:
    """One utterance as one variant recognised it; texts are raw, so that scoring can be done again."""

    id: str
    """Of the utterance; unique in a manifest."""
    reference: str
    """Text of the manifest."""
    hypothesis: str = ""
    """Recognised text; empty when the utterance failed."""
    duration: float | None = None
    """Seconds of audio."""
    seconds: float | None = None
    """Wall time of recognising the loaded audio."""
    log_prob: float | None = None
    """Of the hypothesis, natural logarithm."""
    error: str | None = None
    """Why the utterance could not be recognised; its words then count as deletions."""
    speaker: str | None = None
    """Speaker, where the manifest says so."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Other fields of the manifest."""


class RowWriter:
    """Append rows of one variant over one manifest; see ``open_rows``."""

    def __init__(self, path: Path, done: dict[str, Row]) -> None:
        self.done = done
        """Rows already there, by id."""
        self._file: TextIO = path.open("a", encoding="utf-8")

    def add(self, row: Row) -> None:
        """Append a row and hand it to the operating system at once."""
        self._file.write(json.dumps(to_json(row), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        self.done[row.id] = row

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def open_rows(path: Path, identity: dict[str, Any]) -> RowWriter:
    """Open ``path`` for appending.

    Rows that stand there are kept when they were made under the same ``identity`` (model, manifest, decoder...),
    which lies beside them as ``<stem>.identity.json``; otherwise they are moved to ``<name>.old``, never mixed.
    A half-written last line, as a kill leaves it, is cut off.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".identity.json")
    if _identity(beside) != to_json(identity):
        if path.exists():
            path.replace(path.with_name(path.name + ".old"))
        write_text(beside, dumps(identity))
    done = _repair(path) if path.exists() else {}
    return RowWriter(path, done)


def read_rows(path: Path) -> dict[str, Row]:
    """Rows of a file by id; lines that cannot be read (a killed run) are left out."""
    rows: dict[str, Row] = {}
    if not path.exists():
        return rows
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            row = _parse(line)
            if row is not None:
                rows[row.id] = row
    return rows


def _repair(path: Path) -> dict[str, Row]:
    """Read the rows, and write the file anew where a line is broken or repeated."""
    rows = read_rows(path)
    content = path.read_text(encoding="utf-8", errors="replace")
    if content.count("\n") != len(rows) or not content.endswith("\n"):
        write_text(path, "".join(json.dumps(to_json(r), ensure_ascii=False) + "\n" for r in rows.values()))
    return rows


def _parse(line: str) -> Row | None:
    try:
        return from_json(Row, json.loads(line))
    except (json.JSONDecodeError, KdcompressError):
        return None


def _identity(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
