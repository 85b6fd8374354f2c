"""A plain folder: audio files with a ``.txt`` beside each, or one table ``transcripts.csv`` or ``transcripts.tsv``."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress.data.corpora.base import Found, ManifestRow, PathFinder, Source, Unusable, check_folder
from kdcompress.data.corpora.recordings import AUDIO_SUFFIXES, FOREIGN_SUFFIXES
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TABLES = ("transcripts.csv", "transcripts.tsv")
FILE_COLUMNS = ("file", "path", "audio", "audio_filepath", "file_name", "filename")
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence")


def read_folder(source: Source) -> Iterator[Found]:
    """Yield the recordings of a folder and of the folders in it; it names no splits.

    Raises:
        DataNotFoundError: there is no such folder.
        ManifestError: there are two tables, or the table lacks a column.
    """
    check_folder(source.path, "audio")
    tables = [source.path / name for name in TABLES if (source.path / name).is_file()]
    if len(tables) > 1:
        raise ManifestError(f"{source.path}: both {' and '.join(TABLES)} are there; remove one")
    for item in _read_table(source, tables[0]) if tables else _read_files(source):
        yield None, item


def _read_files(source: Source) -> Iterator[ManifestRow | Unusable]:
    for path in audio_files(source.path, source.output):
        name = path.relative_to(source.path).with_suffix("").as_posix()
        where = str(path)
        if path.suffix.lower() in FOREIGN_SUFFIXES:
            reason = f"{path.suffix} is not read; convert it, for example `ffmpeg -i FILE -ar 16000 -ac 1 FILE.flac`"
            yield Unusable(where, "unreadable audio", reason, name)
            continue
        transcript = path.with_suffix(".txt")
        if source.without_texts:
            text = ""
        elif transcript.is_file():
            text = transcript.read_text(encoding="utf-8-sig", errors="replace")
        else:
            reason = f"no {transcript.name} beside it; write one, or take audio alone with --without-texts"
            yield Unusable(where, "no transcript", reason, name)
            continue
        yield ManifestRow(id=name, input=where, text=text, where=where, speaker=_folder_speaker(source, path))


def audio_files(folder: Path, output: Path | None = None) -> Iterator[Path]:
    """Yield the audio files below a folder in order; neither hidden folders nor the output, and no folder twice."""
    seen = set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (output is not None and real == os.path.realpath(output)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million times
            if not name.startswith(".") and (suffix in AUDIO_SUFFIXES or suffix in FOREIGN_SUFFIXES):
                yield Path(place, name)


def _read_table(source: Source, path: Path) -> Iterator[ManifestRow | Unusable]:
    find = PathFinder(source, path.parent)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix == ".tsv":
            table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            table = csv.DictReader(file)
        names = [name for name in table.fieldnames or () if name]
        audio = next((name for name in FILE_COLUMNS if name in names), None)
        text = next((name for name in TEXT_COLUMNS if name in names), None)
        if audio is None or (text is None and not source.without_texts):
            raise ManifestError(f"{path}: its first line must name the columns `file` and `text`, found {names}")
        for row in table:
            yield _item(row, (audio, text), f"{path}, line {table.line_num}", source, find)


def _item(
    row: Mapping[str | None, str | None], columns: tuple[str, str | None], where: str, source: Source, find: PathFinder
) -> ManifestRow | Unusable:
    audio, text = columns
    name = row[audio]
    if not name or (text is not None and row[text] is None) or None in row:
        return Unusable(where, "broken line", "it has too few or too many columns; mend or remove it", name or "")
    input_ = find(name)
    taken = {audio, text, "id", "speaker", None}
    return ManifestRow(
        id=row.get("id") or Path(name).with_suffix("").as_posix(),
        input=input_,
        text=(row[text] or "") if text else "",
        where=where,
        speaker=row.get("speaker") or _folder_speaker(source, Path(input_)),
        fields={str(column): value for column, value in row.items() if column not in taken and value},
    )


def _folder_speaker(source: Source, path: Path) -> str | None:
    if not source.speaker_folders or path.parent == source.path:
        return None
    return path.parent.name
