"""NeMo manifests: a JSON object a line with ``audio_filepath``, ``duration``, ``text`` and maybe ``offset``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from kdcompress.data.corpora.base import Found, ManifestRow, PathFinder, Source, Unusable
from kdcompress.errors import DataNotFoundError
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".jsonl", ".json")
OWN = frozenset({"audio_filepath", "text", "duration", "speaker", "id", "utt_id", "offset", "shard_id"})
"""Fields that have their place, or say where the audio was; the others are kept as they are."""
NO_MANIFESTS = frozenset({"settings", "report", "unusable", "scores", "scores-detail"})


def read_nemo(source: Source) -> Iterator[Found]:
    """Yield the items of one manifest, or of a folder of them: then each is a split, by its name.

    An item with ``offset``, or with a ``duration`` that is shorter than its file, is that piece of the file.

    Raises:
        DataNotFoundError: there is no such file or folder.
        ManifestError: the folder holds no manifest; or the manifest is of tar files.
    """
    if source.path.is_file():
        for item in read_lines(source, source.path):
            yield None, item
        return
    if not source.path.is_dir():
        raise DataNotFoundError(f"no manifest at {source.path}: there is no such file or folder; check the path")
    paths = sorted(path for path in source.path.iterdir() if path.suffix in SUFFIXES and path.stem not in NO_MANIFESTS)
    if not paths:
        raise ManifestError(f"{source.path}: no manifest; it needs files such as train.jsonl or train_manifest.json")
    for path in paths:
        split = path.stem.removesuffix("_manifest").removesuffix("-manifest")
        if source.wants(split):
            for item in read_lines(source, path):
                yield split, item


def read_lines(source: Source, path: Path) -> Iterator[ManifestRow | Unusable]:
    """Yield the items of one manifest.

    Raises:
        ManifestError: its lines name pieces of tar files.
    """
    find = PathFinder(source, path.parent)
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _item(line, f"{path}, line {number}", source, find)


def _item(line: str, where: str, source: Source, find: PathFinder) -> ManifestRow | Unusable:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return Unusable(where, "broken line", f"not valid JSON ({error.msg}); mend or remove the line")
    if not isinstance(row, dict):
        return Unusable(where, "broken line", f"expected a JSON object, found {type(row).__name__}")
    if "shard_id" in row and source.audio_root is None:
        raise ManifestError(
            f"{where}: the manifest is of tar files (shard_id); unpack them into one folder and name that with "
            "--audio-root, or take the manifest from before they were packed"
        )
    audio, text = row.get("audio_filepath"), row.get("text", "" if source.without_texts else None)
    duration, offset = row.get("duration"), row.get("offset")
    if not isinstance(audio, str) or not audio:
        return Unusable(where, "broken line", "no audio_filepath; mend or remove the line")
    name = str(row.get("id") or row.get("utt_id") or _name(audio, duration, offset))
    if not isinstance(text, str):
        return Unusable(where, "no transcript", "the line has no text; write one, or use --without-texts", name)
    for field, seconds in (("duration", duration), ("offset", offset)):
        if seconds is not None and not _is_seconds(seconds):
            return Unusable(where, "broken line", f"{field} must be seconds, found {seconds!r}", name)
    return ManifestRow(
        id=name,
        input=find(audio),
        text=text,
        where=where,
        speaker=None if row.get("speaker") is None else str(row["speaker"]),
        duration=duration,
        # as NeMo does it: a duration without offset is that much from the start
        start=offset or (None if duration is None else 0.0),
        piece=bool(offset),
        fields={field: value for field, value in row.items() if field not in OWN},
    )


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _name(audio: str, duration: object, offset: object) -> str:
    """The path, with what piece of it is meant."""
    return f"{audio}#{offset}+{duration}" if offset else audio
