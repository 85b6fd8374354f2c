"""Kaldi data directories: ``wav.scp``, ``text``, ``utt2spk``, and where they are there ``segments`` and others."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from kdcompress.data.corpora.base import Found, ManifestRow, PathFinder, Source, Unusable, check_folder, stated
from kdcompress.data.corpora.tables import Lookup, read_sorted, read_table
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARCHIVE = re.compile(r"\.ark:\d+$")
READERS = {"cat": (), "flac": ("-c", "-d", "-s", "-cd", "-dc", "-cds"), "sph2pipe": ("-p",)}
"""Commands that only decode the file they name, with the options that change nothing about it."""
SPEAKER_TABLES = {"spk2gender": "gender", "spk2age": "age", "spk2accent": "accent"}
UTTERANCE_TABLES = {"utt2lang": "language"}


def read_kaldi(source: Source) -> Iterator[Found]:
    """Yield the utterances of a data directory, or of a folder of them: then each is a split, by its name.

    Raises:
        DataNotFoundError: there is no such folder.
        ManifestError: it holds no data directory, or one without ``text``.
    """
    check_folder(source.path, "Kaldi data directory")
    if (source.path / "wav.scp").is_file():
        for item in read_directory(source, source.path):
            yield None, item
        return
    folders = sorted(path.parent for path in source.path.glob("*/wav.scp"))
    if not folders:
        raise ManifestError(f"{source.path}: neither it nor a folder in it has a wav.scp; name a data directory")
    for folder in folders:
        if source.wants(folder.name):
            for item in read_directory(source, folder):
                yield folder.name, item


def read_directory(source: Source, folder: Path) -> Iterator[ManifestRow | Unusable]:
    """Yield the utterances of one directory, with what its tables say of them.

    The tables are read side by side in the order of the utterances. ``wav.scp`` is held in memory only where there
    are ``segments``, and tables of speakers are.

    Raises:
        ManifestError: there is no ``text`` and texts are wanted.
    """
    if not (folder / "text").is_file() and not source.without_texts:
        raise ManifestError(f"{folder}: no file `text`; write one, or take audio alone with --without-texts")
    texts = Lookup(folder / "text")
    speakers = Lookup(folder / "utt2spk")
    durations = Lookup(folder / "utt2dur")
    more = {field: Lookup(folder / table) for table, field in UTTERANCE_TABLES.items()}
    of_speakers = {field: _small_table(folder / table) for table, field in SPEAKER_TABLES.items()}
    for item in _audio(source, folder):
        for name in texts.passed(item.id):
            yield _no_audio(folder, name)
        text = texts.get(item.id)
        if isinstance(item, Unusable):
            yield item
            continue
        if text is None and not source.without_texts:
            yield Unusable(item.where, "no transcript", "`text` has no line for it", item.id)
            continue
        speaker = speakers.get(item.id)
        told: dict[str, str | None] = {field: table.get(item.id) for field, table in more.items()}
        told |= {field: table.get(speaker or "") for field, table in of_speakers.items()}
        stated_duration = durations.get(item.id)
        yield ManifestRow(
            id=item.id,
            input=item.input,
            text=text or "",
            where=item.where,
            # Kaldi names the utterance itself where the speaker is not known
            speaker=None if speaker == item.id else speaker,
            duration=_seconds(stated_duration) if item.duration is None else item.duration,
            start=item.start,
            piece=item.piece,
            channel=item.channel,
            fields={**stated(**told), **item.fields},
        )
    for name in texts.passed(None):
        yield _no_audio(folder, name)


def _no_audio(folder: Path, name: str) -> Unusable:
    table = "segments" if (folder / "segments").is_file() else "wav.scp"
    return Unusable(str(folder / "text"), "no audio", f"{table} has no line for it", name)


def _audio(source: Source, folder: Path) -> Iterator[ManifestRow | Unusable]:
    """The utterances by ascending id, without texts: whole files, or pieces where there are segments."""
    find = PathFinder(source, folder, source.path, source.path.parent)
    where = str(folder / "wav.scp")
    if not (folder / "segments").is_file():
        for name, entry in read_sorted(folder / "wav.scp"):
            yield _recording(name, entry, where, find)
        return
    recordings = dict(read_table(folder / "wav.scp"))
    where = str(folder / "segments")
    for name, entry in read_sorted(folder / "segments"):
        yield _segment(name, entry.split(), recordings, where, find)


def _recording(name: str, entry: str, where: str, find: PathFinder) -> ManifestRow | Unusable:
    if ARCHIVE.search(entry):
        reason = f"{entry} is inside of an archive; write files with `wav-copy` and name those"
        return Unusable(where, "archive", reason, name)
    channel = None
    if entry.endswith("|"):
        read = decoded_file(entry)
        if read is None:
            reason = (
                f"{entry!r} is a command, and commands of a data file are never run; run it once, keep what it "
                "writes as a file and name that in wav.scp"
            )
            return Unusable(where, "command", reason, name)
        entry, channel = read
    if not entry:
        return Unusable(where, "broken line", "it names no file", name)
    return ManifestRow(id=name, input=find(entry), text="", where=where, channel=channel)


def decoded_file(command: str) -> tuple[str, int | None] | None:
    """Return the file and the channel (from 0) that a command only decodes; None for any other command.

    ``cat FILE |``, ``flac -c -d -s FILE |`` and ``sph2pipe -f wav -p -c 1 FILE |`` are understood, so that their file
    is read directly. Nothing is run.
    """
    if any(sign in command[:-1] for sign in "|;&<>$`*?"):
        return None
    try:
        program, *words = shlex.split(command[:-1])
    except ValueError:
        return None
    program = program.rsplit("/", 1)[-1]
    files, channel = [], None
    while words:
        word = words.pop(0)
        if program == "sph2pipe" and word == "-f" and words[:1] in (["wav"], ["rif"]):
            words.pop(0)
        elif program == "sph2pipe" and word == "-c" and words[:1] in (["1"], ["2"]):
            channel = int(words.pop(0)) - 1
        elif word.startswith("-") and word not in READERS.get(program, ()):
            return None
        elif not word.startswith("-"):
            files.append(word)
    return (files[0], channel) if program in READERS and len(files) == 1 else None


def _segment(
    name: str, parts: list[str], recordings: dict[str, str], where: str, find: PathFinder
) -> ManifestRow | Unusable:
    """``UTTERANCE RECORDING START END``; an end of -1 is that of the recording."""
    start, end = (_seconds(part) for part in parts[1:3]) if len(parts) >= 3 else (None, None)
    if start is None or end is None or start < 0 or (end != -1 and end <= start):
        reason = "expected UTTERANCE RECORDING START END, in seconds"
        return Unusable(where, "broken line", reason, name)
    if parts[0] not in recordings:
        return Unusable(where, "no audio", f"wav.scp has no recording {parts[0]!r}", name)
    found = _recording(name, recordings[parts[0]], where, find)
    if isinstance(found, Unusable):
        return found
    return ManifestRow(
        id=name,
        input=found.input,
        text="",
        where=where,
        duration=None if end == -1 else end - start,
        start=start,
        piece=True,
        channel=found.channel,
        fields={"recording": parts[0]},
    )


def _small_table(path: Path) -> dict[str, str]:
    return dict(read_table(path)) if path.is_file() else {}


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
