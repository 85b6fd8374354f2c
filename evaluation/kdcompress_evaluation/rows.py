"""One JSON row an utterance, flushed as it is recognised: a killed run goes on and loses at most one utterance."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.records import dumps, to_json, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

ROWS = "rows"
"""Folder of the raw rows inside a report folder."""
RUN = "run.json"
"""What was asked for, inside ``ROWS``."""
FAILURES = ("input", "model", "crash", "timeout", "not attempted")
"""Kinds of errors: the input is missing or unreadable; the model gave an error; its process died; it took too long;
the variant had been given up before."""
RETRIED = ("crash", "timeout", "not attempted")
"""Those that may end otherwise another time."""
_BLOCK = 1 << 16


@dataclass(frozen=True)
class StreamRow:
    """One utterance as a variant recognised it in the chunks that it was exported for."""

    text: str
    """Final text of the stream."""
    first_partial: float | None
    """Seconds of audio from the beginning of the first word to the first partial text; ``None``: no word."""
    delays: tuple[float, ...]
    """Of each final word, seconds: the audio fed when it came to stand unchanged for good, minus its end."""
    word_times: str
    """Whose word times those are: ``manifest`` or ``recogniser``; empty: nobody's, and there are no delays."""
    revised: int
    """Words of a partial text that the next one no longer has in that place; a last word that grows is not one."""
    words: int
    """Words of the final text."""
    final_seconds: float
    """Computing from the end of the input to the final result."""
    endpoint_wait: float | None
    """Seconds of audio from the end of speech to the endpoint; ``None`` unless ``endpoint`` is ``in time``."""
    endpoint: str
    """``in time``, ``early`` (before the last word ended), ``missed`` (none in the pause), or empty: not tried."""


@dataclass(frozen=True)
class Row:
    """One utterance as one variant recognised it; texts are raw, so that scoring can be done again."""

    id: str
    """Of the utterance; unique in a manifest."""
    index: int
    """Position in the manifest, from 0: the order of rows does not depend on who wrote them."""
    reference: str
    """Text of the manifest."""
    input: str
    """Path of the recording or image, or the source sentence."""
    hypothesis: str = ""
    """Recognised text; empty when the utterance failed."""
    duration: float | None = None
    """Seconds of audio; ``None`` where the input is none, or nobody knows."""
    seconds: float | None = None
    """Wall time of recognising the loaded input, whole."""
    log_prob: float | None = None
    """Of the hypothesis, natural logarithm."""
    error: str | None = None
    """Why the utterance could not be recognised; its words then count as deletions."""
    error_kind: str | None = None
    """One of ``FAILURES``."""
    speaker: str | None = None
    """Speaker, where the manifest says so."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Other fields of the manifest, except ``words``."""
    stream: StreamRow | None = None
    """The same utterance in a stream; ``None``: not tried."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found about the input, to slice by: ``image width`` and ``image height``, ``source words``."""
    split_text: str | None = None
    """Text of a stream fed in pieces of random length; ``None``: not tried."""


_FIELDS = frozenset(f.name for f in fields(Row))


def row_identity(run: Mapping[str, Any], variant: str, manifest: str) -> dict[str, Any]:
    """Everything that decides what rows hold, from the content of ``run.json``; neither names nor paths count.

    Raises:
        RowsError: the run knows no such variant or manifest.
    """
    found = {
        name: next((item for item in run.get(key, ()) if item["name"] == name), None)
        for key, name in (("variants", variant), ("manifests", manifest))
    }
    for name, item in found.items():
        if item is None:
            raise RowsError(f"{RUN} names no {name!r}; run `kdcompress eval` again into this folder")
    info, items = found[variant] or {}, found[manifest] or {}
    shared = ("kind", "engine", "precision", "model_sha256", "tokens_sha256", "geometry_sha256")
    return {
        "schema": run["schema"],
        **{name: info[name] for name in shared},
        "manifest": items["fingerprint"],
        "decoder": run["decoder"],
        "streaming": run["streaming"],
    }


def rows_path(output: Path, variant: str, manifest: str, shard: tuple[int, int] | None = None) -> Path:
    """Where a process writes the rows of one variant over one manifest; ``shard`` is ``(i, n)``, the i-th of n."""
    middle = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    return output / ROWS / f"{variant}.{manifest}{middle}.jsonl"


def rows_files(output: Path, variant: str, manifest: str) -> list[Path]:
    """Every file with rows of a variant over a manifest, of any sharding, that belong to this run.

    Args:
        output: folder of the report.
        variant: name.
        manifest: name.

    Raises:
        RowsError: ``run.json`` is missing, or does not name the two.
    """
    return files_of(output, variant, manifest, row_identity(read_run(output), variant, manifest))


def files_of(output: Path, variant: str, manifest: str, identity: dict[str, Any]) -> list[Path]:
    """As ``rows_files``, for an identity that is known."""
    pattern = re.compile(re.escape(f"{variant}.{manifest}") + r"(\.\d+-of-\d+)?\.jsonl")
    named = sorted(path for path in (output / ROWS).iterdir() if pattern.fullmatch(path.name))
    return [path for path in named if _identity(path) == to_json(identity)]


def iterate_rows(output: Path, variant: str, manifest: str) -> Iterator[Row]:
    """Rows of a variant over a manifest as they lie in the files: each index once, broken lines left out.

    Raises:
        RowsError: see ``rows_files``.
    """
    seen = bytearray()
    for path in rows_files(output, variant, manifest):
        for row in read_rows(path):
            if row.index >= len(seen):
                seen.extend(bytes(row.index + 1 - len(seen) + _BLOCK))
            if not seen[row.index]:
                seen[row.index] = 1
                yield row


def read_run(output: Path) -> dict[str, Any]:
    """Return the content of ``run.json``.

    Raises:
        RowsError: it is missing, or not JSON.
    """
    path = output / ROWS / RUN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RowsError(f"{path} is missing; run `kdcompress eval` again into this folder") from error
    except ValueError as error:
        raise RowsError(f"{path}: not valid JSON ({error}); remove it and run again") from error
    if not isinstance(content, dict):
        raise RowsError(f"{path}: not the record of a run; remove it and run again")
    return content


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of one file, one in memory at a time; lines that cannot be read (a killed run) are left out."""
    with path.open("rb") as lines:
        for line in lines:
            row = parse_row(line)
            if row is not None:
                yield row


def parse_row(line: bytes | str) -> Row | None:
    """Read one line; ``None`` when it is broken."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not _FIELDS.issuperset(value):
        return None
    try:
        stream = value.get("stream")
        if stream is not None:
            value["stream"] = StreamRow(**{**stream, "delays": tuple(stream["delays"])})
        row = Row(**value)
    except (TypeError, KeyError):
        return None
    return row if isinstance(row.index, int) and row.index >= 0 else None


class RowWriter:
    """Append rows of one variant over one manifest; see ``open_rows``."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab", buffering=0)

    def add(self, row: Row) -> None:
        """Append a row and hand it to the operating system at once."""
        line = json.dumps(to_json(row), ensure_ascii=False, allow_nan=False) + "\n"
        self._file.write(line.encode("utf-8", errors="replace"))

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def open_rows(path: Path, identity: dict[str, Any]) -> RowWriter:
    """Open ``path`` for appending.

    Rows that stand there are kept when they were made under the same ``identity``, which lies beside them as
    ``<stem>.identity.json``; otherwise they are moved to ``<name>.old``, never mixed. A half-written last line, as a
    kill leaves it, is cut off.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _identity(path) != to_json(identity):
        if path.exists():
            path.replace(path.with_name(path.name + ".old"))
        write_text(_beside(path), dumps(identity))
    elif path.exists():
        _cut_broken_end(path)
    return RowWriter(path)


def drop_rows(path: Path, unwanted: Callable[[Row], bool]) -> int:
    """Write a file anew without the rows for which ``unwanted`` is true; returns how many those are."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    dropped = 0
    try:
        with path.open("rb") as lines, temporary.open("wb") as kept:
            for line in lines:
                row = parse_row(line)
                if row is not None and not unwanted(row):
                    kept.write(line.rstrip(b"\n") + b"\n")
                dropped += row is not None and unwanted(row)
        if dropped:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return dropped


def _cut_broken_end(path: Path) -> None:
    """Shorten the file to its last line break."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)


def _beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".jsonl") + ".identity.json")


def _identity(path: Path) -> object:
    try:
        return json.loads(_beside(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
