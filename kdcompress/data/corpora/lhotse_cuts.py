"""lhotse cuts: ``cuts.jsonl`` or ``cuts.jsonl.gz``, one MonoCut with one supervision a line. lhotse is not needed."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any, TextIO

from kdcompress.data.corpora.base import Found, ManifestRow, PathFinder, Source, Unusable, stated
from kdcompress.data.corpora.recordings import SLACK_SECONDS
from kdcompress.errors import DataNotFoundError
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".jsonl", ".jsonl.gz")
CUTS = re.compile(r"(^|[-_.])cuts(?=[-_.]|$)")
"""``librispeech_cuts_train-clean-100`` is the split ``librispeech_train-clean-100``."""


def read_lhotse(source: Source) -> Iterator[Found]:
    """Yield the cuts of one file, or of a folder of files named ``*cuts*``: then each is a split, by its name.

    Raises:
        DataNotFoundError: there is no such file or folder.
        ManifestError: the folder holds no cuts, or a file is not gzip as its name says.
    """
    if source.path.is_file():
        for item in read_cuts(source, source.path):
            yield None, item
        return
    if not source.path.is_dir():
        raise DataNotFoundError(f"no cuts at {source.path}: there is no such file or folder; check the path")
    paths = sorted(path for path in source.path.iterdir() if path.name.endswith(SUFFIXES) and "cuts" in path.name)
    if not paths:
        raise ManifestError(f"{source.path}: no cuts; it needs files such as cuts_train.jsonl.gz")
    for path in paths:
        split = split_name(path)
        if source.wants(split):
            for item in read_cuts(source, path):
                yield split, item


def split_name(path: Path) -> str:
    """Return the file's name without ``cuts`` and suffixes; ``train`` where nothing is left."""
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return CUTS.sub("", stem).strip("-_.") or "train"


def read_cuts(source: Source, path: Path) -> Iterator[ManifestRow | Unusable]:
    """Yield the cuts of one file.

    Raises:
        ManifestError: the file is cut short, or not gzip as its name says.
    """
    find = PathFinder(source, path.parent, source.path if source.path.is_dir() else path.parent)
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _item(line, f"{path}, line {number}", source, find)
    except (EOFError, gzip.BadGzipFile) as error:
        raise ManifestError(f"{path}: cannot be unpacked ({error}); copy the file again") from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _item(line: str, where: str, source: Source, find: PathFinder) -> ManifestRow | Unusable:
    try:
        cut = json.loads(line)
    except ValueError as error:
        return Unusable(where, "broken line", f"not valid JSON ({error}); mend or remove the line")
    try:
        reason = _refused(cut, source)
        return Unusable(where, "refused cut", reason, str(cut.get("id", ""))) if reason else _row(cut, where, find)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return Unusable(where, "broken line", f"not a cut as lhotse writes it ({type(error).__name__}: {error})")


def _refused(cut: dict[str, Any], source: Source) -> str:
    """Why a cut cannot be used as it is, with the remedy; empty when it can."""
    kind = cut.get("type", "MonoCut")
    if kind != "MonoCut":
        return f"a {kind}; only MonoCut is read, save the audio first (`CutSet.save_audios`)"
    count = len(cut.get("supervisions") or [])
    if count != 1 and not source.without_texts:
        return f"{count} supervisions instead of one; run `lhotse cut trim-to-supervisions` first"
    recording = cut.get("recording")
    if not recording:
        return "no recording, only features; kdcompress needs the audio"
    if recording.get("transforms"):
        return "its recording is changed as it is read (transforms); save the audio first (`CutSet.save_audios`)"
    kinds = sorted({part["type"] for part in recording["sources"]} - {"file"})
    return f"its audio is of type {kinds[0]}, only files are read; save the audio first" if kinds else ""


def _row(cut: dict[str, Any], where: str, find: PathFinder) -> ManifestRow | Unusable:
    recording, channel = cut["recording"], int(cut.get("channel") or 0)
    part = next((part for part in recording["sources"] if channel in part["channels"]), None)
    if part is None:
        return Unusable(where, "wrong channel", f"no source of the recording has channel {channel}", cut["id"])
    supervision = (cut.get("supervisions") or [{}])[0]
    start, duration = float(cut["start"]), float(cut["duration"])
    custom = {**(supervision.get("custom") or {}), **(cut.get("custom") or {})}
    simple = {name: value for name, value in custom.items() if isinstance(value, (str, int, float, bool))}
    return ManifestRow(
        id=str(cut["id"]),
        input=find(part["source"]),
        text=supervision.get("text") or "",
        where=where,
        speaker=supervision.get("speaker") or None,
        duration=duration,
        start=start,
        piece=start > 0.0 or duration < float(recording["duration"]) - SLACK_SECONDS,
        channel=part["channels"].index(channel) if len(part["channels"]) > 1 else None,
        fields=simple | stated(gender=supervision.get("gender"), language=supervision.get("language")),
    )
