"""JSONL manifests in NeMo's style: one item a line, read lazily, checked line by line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.byte_range import has_scheme
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INPUT_FIELDS = {
    "audio_filepath": "audio",
    "image_filepath": "image",
    "source": "text",
    "feature_filepath": "features",
    "feature_archive": "features",
}
"""Fields that can hold an item's input, and what kind it is; the first one present is used."""
MEMBER_FIELDS = {"feature_archive": "feature_key"}
"""Fields that hold a file of many inputs, and the field that says which of them it is."""
TEXT_FIELDS = ("text", "target")
"""Fields that can hold an item's reference."""


@dataclass(frozen=True)
class ManifestEntry:
    """One line of a manifest."""

    id: str
    """``id`` or ``utt_id`` of the line, else the input itself, or its key in an archive."""
    input: str
    """Path of the file (made absolute against the manifest's folder), ``file:offset:length`` for one inside another
    file, ``archive#key`` for a member of an archive (the key is in ``extra``), an address such as
    ``s3://bucket/file``, or the source sentence."""
    text: str
    """Reference text; may be empty."""
    duration: float | None = None
    """Seconds, where the line says so."""
    speaker: str | None = None
    """Speaker, where the line says so."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Every other field of the line, for slices of a report."""
    kind: str = "audio"
    """What the input is: ``audio``, ``image``, ``text`` or ``features``."""


def read_manifest(path: str | Path) -> Iterator[ManifestEntry]:
    """Yield the entries of a manifest, one line in memory at a time.

    Raises:
        ManifestError: the file is missing or holds no entry, or a line is not a JSON object with an input
            and a text; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"manifest not found: {path}; check the path, or make it with `kdcompress prepare`")
    count = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                count += 1
                yield parse_line(line, where=f"{path}, line {number}", folder=path.parent)
    if not count:
        raise ManifestError(f"manifest is empty: {path}; it needs one JSON object a line")


def parse_line(line: str, *, where: str, folder: Path) -> ManifestEntry:
    """Turn one line into an entry; ``where`` names the place in messages.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{where}: not valid JSON ({error.msg}); mend or remove the line") from error
    if not isinstance(row, dict):
        raise ManifestError(f"{where}: expected a JSON object, found {type(row).__name__}")
    source = next((name for name in INPUT_FIELDS if isinstance(row.get(name), str) and row[name]), None)
    if source is None:
        raise ManifestError(f"{where}: no input; the line needs one of {', '.join(INPUT_FIELDS)}")
    text = next((name for name in TEXT_FIELDS if isinstance(row.get(name), str)), None)
    if text is None:
        raise ManifestError(f"{where}: no reference; the line needs one of {', '.join(TEXT_FIELDS)}")
    duration = row.get("duration")
    if duration is not None and (isinstance(duration, bool) or not isinstance(duration, (int, float)) or duration < 0):
        raise ManifestError(f"{where}: duration must be seconds, found {duration!r}")
    value = row[source] if source == "source" or has_scheme(row[source]) else str(folder / row[source])
    name = row[source]
    if source in MEMBER_FIELDS:
        name = row.get(MEMBER_FIELDS[source])
        if not isinstance(name, str) or not name:
            raise ManifestError(f"{where}: {source} needs {MEMBER_FIELDS[source]}, the name of the item in the archive")
        value = f"{value}#{name}"
    known = {source, text, "duration", "speaker", "id", "utt_id"}
    return ManifestEntry(
        id=str(row.get("id") or row.get("utt_id") or name),
        input=value,
        text=row[text],
        duration=None if duration is None else float(duration),
        speaker=None if row.get("speaker") is None else str(row["speaker"]),
        extra={key: item for key, item in row.items() if key not in known},
        kind=INPUT_FIELDS[source],
    )


def manifest_fingerprint(path: str | Path) -> str:
    """SHA-256 over the ids and texts in order; the same wherever the data lies.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    digest = hashlib.sha256()
    for entry in read_manifest(path):
        digest.update(fingerprinted(entry))
    return digest.hexdigest()


def fingerprinted(entry: ManifestEntry) -> bytes:
    """What of an entry goes into the fingerprint of its manifest."""
    return f"{entry.id}\t{entry.text}\n".encode()
