"""A manifest of loose files -> plain tars and a manifest of ranges in them, shard by shard.

``FOLDER/audio-000000.tar``: each recording as it is, and what its line says as JSON (``00000123.flac``,
``00000123.json``: WebDataset reads these tars). ``FOLDER/manifest.jsonl``: the lines, where ``audio_filepath`` is
``audio-000000.tar:OFFSET:LENGTH``. ``FOLDER/index.json``: items, size and SHA-256 of every tar. While the work is
unfinished ``FOLDER/.pack`` knows which tars are; they are not written again.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from kdcompress.data.index import read_lines
from kdcompress.data.reading import read_bytes
from kdcompress.data.tars import BLOCK, TarWriter
from kdcompress.errors import PackError
from kdcompress.files import file_sha256, replacing, write_text
from kdcompress_runtime.errors import AudioError, ManifestError
from kdcompress_runtime.manifest import INPUT_FIELDS, parse_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kdcompress_runtime.manifest import ManifestEntry

    Progress = Callable[[int, int], None]

MANIFEST, INDEX, _WORK = "manifest.jsonl", "index.json", ".pack"
SHARD_BYTES = 10**9
"""Of one tar: large enough for an object store, small enough to copy one again."""
_FORMAT = 1
_LEFT_SECONDS = 600
"""A temporary file that has not grown for so long belongs to nobody."""
_BEGINNINGS = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"\xff": "mp3"}


@dataclass(frozen=True)
class Shard:
    """One tar, as ``index.json`` has it."""

    file: str
    items: int
    bytes: int
    sha256: str


class _Packed(NamedTuple):
    """A line of the manifest with its recording."""

    name: str
    row: dict[str, Any]
    field: str
    """Where the line names its input."""
    content: bytes

    @property
    def size(self) -> int:
        """Bytes in a tar, about: both members with their headers."""
        return len(self.content) + len(json.dumps(self.row)) + 4 * BLOCK


def pack(
    manifest: Path,
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    address: str = "",
    on_progress: Progress | None = None,
) -> Path:
    """Write tars of the recordings of a manifest, and the manifest of the ranges in them.

    What was packed before under the same settings is kept; after a kill it goes on with the first tar that is not
    whole. The fingerprint of the manifest stays: every line keeps its id and its text.

    Args:
        manifest: JSONL file.
        folder: where to.
        shard_bytes: a tar is closed before it grows beyond; one recording that is larger has a tar to itself.
        address: where the tars will be put, such as ``s3://bucket/folder``; beside the manifest when left out.
        on_progress: called as ``(bytes of the manifest done, all)`` after each item.

    Returns:
        The manifest that was written.

    Raises:
        PackError: ``folder`` holds something else.
        ManifestError, AudioError: a line, or the file that it names, cannot be read.
    """
    if not manifest.is_file():
        raise ManifestError(f"manifest not found: {manifest}; check the path")
    job = {"format": _FORMAT, "sha256": file_sha256(manifest), "shard_bytes": shard_bytes, "address": address}
    if (folder / INDEX).is_file():
        if _read(folder / INDEX).get("source") != job:
            raise PackError(f"{folder}: holds the shards of another packing; choose another folder, or remove it")
        return folder / MANIFEST
    done = _begin(folder, job)
    recordings = _recordings(manifest, sum(shard.items for shard in done), on_progress)
    following = next(recordings, None)
    while following is not None:
        path = folder / f"audio-{len(done):06d}.tar"
        shard, following = _write_shard(path, following, recordings, shard_bytes, address)
        write_text(_record(folder, len(done)), json.dumps(asdict(shard)))
        done.append(shard)
    _finish(folder, job, done)
    return folder / MANIFEST


def check_shards(folder: Path, on_progress: Progress | None = None) -> list[Shard]:
    """Read all tars of a folder and compare them with its index.

    Raises:
        PackError: a tar is missing or has other bytes than those written; or the folder holds no index.
    """
    if not (folder / INDEX).is_file():
        raise PackError(f"{folder / INDEX}: not found; check the folder, or finish packing")
    shards = [Shard(**shard) for shard in _read(folder / INDEX)["shards"]]
    for number, shard in enumerate(shards, start=1):
        path = folder / shard.file
        if not path.is_file():
            raise PackError(f"{path}: is missing; copy it again, or pack into a new folder")
        if path.stat().st_size != shard.bytes or file_sha256(path) != shard.sha256:
            raise PackError(f"{path}: is not what was written (SHA-256 differs); copy it again, or pack anew")
        if on_progress:
            on_progress(number, len(shards))
    return shards


def _begin(folder: Path, job: dict[str, Any]) -> list[Shard]:
    """Tars of this job that are whole already."""
    work = folder / _WORK
    if (work / "job.json").is_file():
        if _read(work / "job.json") != job:
            raise PackError(f"{folder}: holds the shards of another packing; choose another folder, or remove it")
    elif folder.exists() and any(path != work for path in folder.iterdir()):
        raise PackError(f"{folder}: is not empty and holds no shards; choose another folder")
    else:
        write_text(work / "job.json", json.dumps(job))
    for path in folder.glob(".audio-*.tmp"):
        if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
            path.unlink(missing_ok=True)
    done: list[Shard] = []
    while (record := _record(folder, len(done))).is_file():
        shard = Shard(**_read(record))
        path = folder / shard.file
        if not path.is_file() or path.stat().st_size != shard.bytes:
            break  # removed, or cut short by somebody else: from here on again
        done.append(shard)
    return done


def _record(folder: Path, number: int) -> Path:
    return folder / _WORK / f"{number:06d}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackError(f"{path}: not valid JSON ({error}); remove the folder and pack again") from error
    return found


def _recordings(manifest: Path, skipped: int, on_progress: Progress | None) -> Iterator[_Packed]:
    """Read the recordings of a manifest in its order, but the first ``skipped``."""
    total = manifest.stat().st_size
    for number, line in enumerate(read_lines(manifest)):
        if number >= skipped:
            yield _recording(line.text, number, f"{manifest}, line {line.line_number}", manifest.parent)
        if on_progress:
            on_progress(min(total, line.offset + len(line.content)), total)


def _recording(line: str, number: int, where: str, folder: Path) -> _Packed:
    entry = parse_line(line, where=where, folder=folder)
    row = json.loads(line)
    field = next(name for name in INPUT_FIELDS if isinstance(row.get(name), str) and row[name])
    if entry.kind == "text":
        raise ManifestError(f"{where}: a sentence needs no packing; pack manifests of files")
    if entry.kind == "features":
        raise ManifestError(f"{where}: frames of features are not packed into tars; keep many of them in one .npz")
    try:
        content = read_bytes(entry.input)
        if entry.kind == "audio" and entry.duration is None:
            row["duration"] = _seconds(content)
    except AudioError as error:
        raise type(error)(f"{where}: {error}") from error
    row["id"] = entry.id  # the path that stood for it is another one now
    return _Packed(f"{number:08d}.{_suffix(entry, content)}", row, field, content)


def _suffix(entry: ManifestEntry, content: bytes) -> str:
    """What sort of file it is, by its first bytes, else by its name."""
    for beginning, suffix in _BEGINNINGS.items():
        if entry.kind == "audio" and content.startswith(beginning):
            return suffix
    name = entry.input.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name and ":" not in name else "bin"


def _seconds(content: bytes) -> float:
    import soundfile

    try:
        return round(float(soundfile.info(io.BytesIO(content)).duration), 6)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"cannot be read as audio ({error.error_string}); convert it to wav or flac") from error


def _write_shard(
    path: Path, first: _Packed, recordings: Iterator[_Packed], shard_bytes: int, address: str
) -> tuple[Shard, _Packed | None]:
    """Write one tar and its lines; return what was written, and the first recording of the next one."""
    lines_path = path.parent / _WORK / f"{path.stem}.jsonl"
    place = f"{address.rstrip('/')}/{path.name}" if address else path.name
    with ExitStack() as stack:
        file = stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
        lines = stack.enter_context(stack.enter_context(replacing(lines_path)).open("w", encoding="utf-8"))
        tar, items = TarWriter(file), 0
        following: _Packed | None = first
        while following is not None and (not items or tar.size + following.size <= shard_bytes):
            lines.write(_add(tar, following, place))
            items += 1
            following = next(recordings, None)
        digest = tar.close()
    return Shard(path.name, items, tar.size, digest), following


def _add(tar: TarWriter, recording: _Packed, place: str) -> str:
    """Append a recording to a tar and return its line."""
    offset = tar.add(recording.name, recording.content)
    stem = recording.name.partition(".")[0]
    said = json.dumps({**recording.row, recording.field: recording.name}, ensure_ascii=False)
    tar.add(f"{stem}.json", said.encode())
    row = {**recording.row, recording.field: f"{place}:{offset}:{len(recording.content)}"}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _finish(folder: Path, job: dict[str, Any], shards: list[Shard]) -> None:
    with replacing(folder / MANIFEST) as temporary, temporary.open("wb") as whole:
        for shard in shards:
            _copy(folder / _WORK / f"{shard.file.removesuffix('.tar')}.jsonl", whole)
    index = {"source": job, "items": sum(shard.items for shard in shards), "shards": [asdict(s) for s in shards]}
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    shutil.rmtree(folder / _WORK)


def _copy(path: Path, whole: IO[bytes]) -> None:
    with path.open("rb") as part:
        shutil.copyfileobj(part, whole)
