"""Tars that others wrote (WebDataset, NeMo) -> a manifest of ranges in them; nothing is copied."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

from kdcompress.data.index import read_lines
from kdcompress.data.tars import Member, Sample, content_of, record_of, samples_of
from kdcompress.errors import PackError
from kdcompress.files import replacing
from kdcompress_runtime.manifest import TEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Progress = Callable[[int, int], None]

SUFFIXES = ("flac", "wav", "ogg", "opus", "mp3", "aiff", "aif", "au")
"""Of members that are audio."""


def index_tars(
    tars: Sequence[Path], output: Path, *, texts: Path | None = None, on_progress: Progress | None = None
) -> tuple[int, int]:
    """Write the manifest of the recordings in tars; of each sample its text is in ``.json`` or ``.txt`` beside it.

    A recording whose length nothing tells is read for it; else contents are passed over.

    Args:
        tars: plain, not compressed.
        output: manifest to write; tars below its folder are named from there, others by their whole path.
        texts: manifest whose lines name members (NeMo's ``tarred_audio_manifest.json``): what they say is taken, and
            members that none names are left out. Their places are kept in memory, about 150 bytes a line.
        on_progress: called as ``(tars done, all)``.

    Returns:
        Recordings in the manifest, and recordings left out.

    Raises:
        PackError: a tar is damaged or compressed; a recording has no text; there is nothing.
        ManifestError: ``texts`` cannot be read.
    """
    rows = _Rows(texts) if texts else None
    kept = left_out = 0
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for done, tar in enumerate(tars, start=1):
            for sample in samples_of(tar):
                audio = next((sample.members[suffix] for suffix in SUFFIXES if suffix in sample.members), None)
                said = None if audio is None else _said(tar, sample, audio, rows)
                if audio is None or said is None:
                    left_out += audio is not None
                    continue
                lines.write(_line(tar, audio, said, output.parent))
                kept += 1
            if on_progress:
                on_progress(done, len(tars))
        if not kept:
            raise PackError(f"{tars[0]}: none of the {len(tars)} tars holds a recording ({', '.join(SUFFIXES)})")
    return kept, left_out


def _said(tar: Path, sample: Sample, audio: Member, rows: _Rows | None) -> dict[str, Any] | None:
    """What is known of a recording; None for one to leave out."""
    if rows is not None:
        found = rows.find(audio.name)
        return None if found is None else {"id": audio.name, **found}
    said: dict[str, Any] = {"id": sample.key}
    if "json" in sample.members:
        said |= record_of(tar, sample.members["json"])
    if "txt" in sample.members and not any(isinstance(said.get(name), str) for name in TEXT_FIELDS):
        said["text"] = content_of(tar, sample.members["txt"]).decode("utf-8", errors="replace").strip()
    if not any(isinstance(said.get(name), str) for name in TEXT_FIELDS):
        raise PackError(
            f"{tar}, {audio.name}: has no text: no {sample.key}.txt, nor a `text` in {sample.key}.json; name the "
            "manifest that has the texts with --texts"
        )
    return said


def _line(tar: Path, audio: Member, said: dict[str, Any], folder: Path) -> str:
    whole, base = os.path.abspath(tar), os.path.abspath(folder)  # noqa: PTH100 (keeps links as they are)
    place = os.path.relpath(whole, base) if whole.startswith(base + os.sep) else whole
    row = {**said, "audio_filepath": f"{place}:{audio.offset}:{audio.size}"}
    if not isinstance(row.get("duration"), (int, float)):
        row["duration"] = _seconds(tar, audio)
    return json.dumps(row, ensure_ascii=False) + "\n"


def _seconds(tar: Path, audio: Member) -> float:
    import soundfile

    try:
        return round(float(soundfile.info(io.BytesIO(content_of(tar, audio))).duration), 6)
    except soundfile.LibsndfileError as error:
        raise PackError(f"{tar}, {audio.name}: cannot be read as audio ({error.error_string})") from error


class _Rows:
    """Lines of a manifest by the member they name."""

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest
        self._offsets: dict[str, int] = {}
        for line in read_lines(manifest):
            self._offsets[self._name(self._row(line.text, line.line_number))] = line.offset

    def find(self, member: str) -> dict[str, Any] | None:
        """What the manifest says of a member, by its whole name or the last part of it."""
        offset = self._offsets.get(member, self._offsets.get(member.rpartition("/")[2]))
        if offset is None:
            return None
        with self._manifest.open("rb") as file:
            file.seek(offset)
            return self._row(file.readline().decode("utf-8", errors="replace"))

    def _row(self, line: str, number: int | None = None) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PackError(f"{self._manifest}, line {number}: not valid JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("audio_filepath"), str):
            raise PackError(f"{self._manifest}, line {number}: names no audio_filepath")
        return row

    @staticmethod
    def _name(row: dict[str, Any]) -> str:
        return str(row["audio_filepath"])
