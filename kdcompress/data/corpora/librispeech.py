"""LibriSpeech (OpenSLR 12): ``SUBSET/SPEAKER/CHAPTER/*.flac`` with a ``*.trans.txt`` in each chapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.data.corpora.base import Found, ManifestRow, Source, Unusable, check_folder, stated
from kdcompress.data.corpora.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
"""FLAC as published; people convert it."""


def read_librispeech(source: Source) -> Iterator[Found]:
    """Yield the utterances; every subset (``train-clean-100``, ``dev-other``) is a split.

    Raises:
        DataNotFoundError: there is no such folder.
    """
    check_folder(source.path, "LibriSpeech")
    root = source.path / "LibriSpeech" if (source.path / "LibriSpeech").is_dir() else source.path
    if _is_subset(root):
        yield from _read_subset(root, _genders(root.parent))
        return
    genders = _genders(root)
    for subset in sorted(path for path in root.iterdir() if path.is_dir()):
        if source.wants(subset.name) and _is_subset(subset):
            yield from _read_subset(subset, genders)


def _is_subset(folder: Path) -> bool:
    return next(folder.glob("*/*/*.trans.txt"), None) is not None


def _read_subset(subset: Path, genders: Mapping[str, str]) -> Iterator[Found]:
    for speaker in _folders(subset):
        for chapter in _folders(speaker):
            for item in _read_chapter(chapter, speaker.name, genders):
                yield subset.name, item


def _read_chapter(chapter: Path, speaker: str, genders: Mapping[str, str]) -> Iterator[ManifestRow | Unusable]:
    """The transcript's utterances in its order, then audio that it does not name."""
    audio = {path.stem: path for path in sorted(chapter.iterdir()) if path.suffix.lower() in SUFFIXES}
    for transcript in sorted(chapter.glob("*.trans.txt")):
        for name, text in read_table(transcript):
            path = audio.pop(name, chapter / f"{name}.flac")
            yield ManifestRow(
                id=name,
                input=str(path),
                text=text,
                where=str(transcript),
                speaker=speaker,
                fields=stated(gender=genders.get(speaker), chapter=chapter.name),
            )
    for name, path in audio.items():
        yield Unusable(str(path), "no transcript", "no line of a .trans.txt beside it names this file", name)


def _folders(folder: Path) -> list[Path]:
    """Folders in the order of their numbers, as far as they are numbers."""
    found = [path for path in folder.iterdir() if path.is_dir()]
    return sorted(found, key=lambda path: (int(path.name) if path.name.isdecimal() else 0, path.name))


def _genders(root: Path) -> dict[str, str]:
    """Gender by speaker, from lines such as ``14 | F | train-clean-360 | 25.03 | Kristin LeMoine``."""
    path = next((root / name for name in ("SPEAKERS.TXT", "speakers.txt") if (root / name).is_file()), None)
    if path is None:
        return {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        rows = [line.split("|") for line in lines if not line.startswith(";")]
    return {row[0].strip(): row[1].strip().lower() for row in rows if len(row) > 1}
