"""The audio of an item: its header is read; a piece of a longer file, or audio at another rate, is written as FLAC.

Everything goes through in blocks, so an item of hours needs no more memory than one of seconds.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kdcompress.data.corpora.base import ManifestRow, Unusable
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import AudioError, MissingDependencyError, OptionsError
from kdcompress_runtime.resample import Resampler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

Check = Literal["none", "headers", "decode"]
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".sph", ".aif", ".aiff", ".au", ".caf", ".w64"}
"""Files that libsndfile reads."""
FOREIGN_SUFFIXES = {".m4a", ".aac", ".mp4", ".webm", ".wma", ".amr", ".mka", ".shn"}
"""Audio that it does not read."""
BLOCK = 1 << 16
"""Samples that are read at a time."""
LENGTH_UNKNOWN = 1 << 62
"""What libsndfile gives as the length of a stream whose header does not tell."""
SLACK_SECONDS = 0.05
"""Stated times are rounded: a piece that leaves out less than this of its file is the whole file."""
OVERSHOOT_SECONDS = 0.5
"""How far a piece may end behind its file, as Kaldi allows; it is then shorter."""


@dataclass(frozen=True)
class Placed:
    """Where the input of an item is to be found."""

    path: str
    """Absolute, or relative to the folder that is made; the sentence itself where the input is one."""
    duration: float | None = None
    """Seconds."""
    sample_rate: int | None = None
    """Hz, where the file was looked at."""


@dataclass(frozen=True)
class Header:
    """What the header of an audio file says."""

    frames: int
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class Recordings:
    """Checks the input of items, and writes what cannot stay where it is."""

    folder: Path
    """Where FLAC files go, below ``audio``."""
    sample_rate: int | None = None
    """Write all audio at this rate; left out: files stay where they are, pieces keep their rate."""
    check: Check = "headers"
    """How closely files are looked at; ``none`` opens only those whose length nobody tells, or that must be cut."""

    def __post_init__(self) -> None:
        if self.check not in {"none", "headers", "decode"}:
            raise OptionsError(f"check must be none, headers or decode, found {self.check!r}")
        if self.sample_rate is not None and not 4000 <= self.sample_rate <= 48000:
            raise OptionsError(f"sample_rate must lie between 4000 and 48000 Hz, found {self.sample_rate}")

    def place(self, row: ManifestRow) -> Placed | Unusable:
        """Return where the item's input is to be found, or why it cannot be used.

        Raises:
            MissingDependencyError: soundfile or soxr is needed and not installed.
            OSError: a file cannot be written.
        """
        if row.input_field == "source":
            return Placed(row.input, row.duration)
        if self._is_trusted(row):
            return Placed(row.input, row.duration)
        if not os.path.isfile(row.input):  # noqa: PTH113 - a million times
            return Unusable(row.where, "missing file", f"no such file: {row.input}", row.id)
        if row.input_field == "image_filepath":
            return Placed(row.input)
        try:
            return self._place_audio(row)
        except AudioError as problem:
            return Unusable(row.where, "unreadable audio", str(problem), row.id)

    def _is_trusted(self, row: ManifestRow) -> bool:
        told = row.duration is not None or row.input_field != "audio_filepath"
        whole = not row.piece and row.channel is None and row.raw is None and self.sample_rate is None
        return self.check == "none" and told and whole

    def _place_audio(self, row: ManifestRow) -> Placed | Unusable:
        header = read_header(row)
        rate = self.sample_rate or header.sample_rate
        if header.sample_rate < rate:
            raise AudioError(f"{row.input}: has {header.sample_rate} Hz, less than the {rate} Hz asked")
        if row.channel is not None and row.channel >= header.channels:
            reason = f"{row.input} has {header.channels} channel(s), channel {row.channel} (from 0) is asked"
            return Unusable(row.where, "wrong channel", reason, row.id)
        span = _span(row, header)
        if isinstance(span, Unusable):
            return span
        first, frames = span
        whole = first == 0 and frames == header.frames and (row.channel is None or header.channels == 1)
        if whole and row.raw is None and self.sample_rate is None:
            if self.check == "decode":
                frames = len(read_audio(row.input)[0])
            return Placed(row.input, frames / rate, rate)
        written = self._write(row, first, frames, rate)
        return Placed(written.relative_to(self.folder).as_posix(), _length(written) / rate, rate)

    def _write(self, row: ManifestRow, first: int, frames: int, rate: int) -> Path:
        """Write a piece of a file, unless an interrupted run did; its name follows from what is in it."""
        before = Path(row.input).stat()
        told = (row.id, row.input, before.st_size, before.st_mtime_ns, first, frames, row.channel, row.raw, rate)
        name = hashlib.blake2b(repr(told).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9.-]+", "_", row.id)[-60:].lstrip(".")
        target = self.folder / "audio" / name[:2] / f"{readable}-{name}.flac"
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(target) as temporary:
                _write_flac(temporary, _samples(row, first, frames), rate)
        return target


def read_header(row: ManifestRow) -> Header:
    """Read the header of a row's file; it is decoded only where the header does not tell its length.

    Raises:
        AudioError: no audio, empty, or cut short as far as a header tells.
    """
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(row.input, **_format(row)) as file:
            header = Header(int(file.frames), int(file.samplerate), int(file.channels))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{row.input}: cannot be read as audio ({error.error_string})") from error
    if not header.frames:
        raise AudioError(f"{row.input}: no samples; the file is empty or only a header")
    if header.frames >= LENGTH_UNKNOWN:
        frames = sum(len(block) for block in _blocks(row, 0, header.frames))
        return Header(frames, header.sample_rate, header.channels)
    if row.input[-4:].lower() == ".wav" and _promises_more(row.input):
        # decides as training would, and says so in its words
        read_audio(row.input)
    return header


def _promises_more(path: str) -> bool:
    """Whether a RIFF file is shorter than it says; libsndfile takes what is left without a word."""
    with open(path, "rb") as file:  # noqa: PTH123 - a million times
        start = file.read(8)
        return start[:4] == b"RIFF" and int.from_bytes(start[4:8], "little") + 8 > os.fstat(file.fileno()).st_size + 1


def _span(row: ManifestRow, header: Header) -> tuple[int, int] | Unusable:
    """First frame of the item and their number."""
    if row.start is None:
        return 0, header.frames
    rate = header.sample_rate
    first = round(row.start * rate)
    end = header.frames if row.duration is None else round((row.start + row.duration) * rate)
    if first < 0 or end <= first:
        return Unusable(row.where, "bad segment", f"it begins at {row.start} s and has no length", row.id)
    if first >= header.frames or end > header.frames + OVERSHOOT_SECONDS * rate:
        reason = f"it ends at {end / rate:.2f} s, but {row.input} has {header.frames / rate:.2f} s"
        return Unusable(row.where, "bad segment", reason, row.id)
    if first == 0 and header.frames - end < SLACK_SECONDS * rate:
        return 0, header.frames
    return first, min(end, header.frames) - first


def _samples(row: ManifestRow, first: int, frames: int) -> Iterator[tuple[NDArray[np.float32], int]]:
    """One channel of a piece in blocks, ``(n,)``, each with its rate.

    Raises:
        AudioError: cut short, cannot be decoded, or not finite.
    """
    read = 0
    for block, rate in _blocks_at_rate(row, first, frames):
        read += len(block)
        if not np.isfinite(block).all():
            raise AudioError(f"{row.input}: holds NaN or infinite samples; write the file again")
        yield (block.mean(axis=1, dtype=np.float32) if row.channel is None else block[:, row.channel]), rate
    if read < frames:
        raise AudioError(f"{row.input}: cut short: {read} of {frames} samples could be read; copy the file again")


def _blocks(row: ManifestRow, first: int, frames: int) -> Iterator[NDArray[np.float32]]:
    for block, _ in _blocks_at_rate(row, first, frames):
        yield block


def _blocks_at_rate(row: ManifestRow, first: int, frames: int) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Blocks of shape ``(n, channels)``, and the file's rate."""
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(row.input, **_format(row)) as file:
            if first:
                file.seek(first)
            while frames > 0:
                block = file.read(min(BLOCK, frames), dtype="float32", always_2d=True)
                if not len(block):
                    return
                frames -= len(block)
                yield block, int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{row.input}: cannot be read as audio ({error.error_string})") from error


def _write_flac(path: Path, blocks: Iterator[tuple[NDArray[np.float32], int]], rate: int) -> None:
    """Write blocks of one channel as 16-bit FLAC at ``rate`` Hz.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    soundfile = _soundfile()
    resampler: Resampler | None = None
    try:
        with soundfile.SoundFile(str(path), "w", rate, 1, format="FLAC", subtype="PCM_16") as file:
            for samples, source_rate in blocks:
                resampler = resampler or Resampler(source_rate, rate)
                file.write(_pcm(resampler.process(np.ascontiguousarray(samples))))
            if resampler:
                file.write(_pcm(resampler.process(np.zeros(0, dtype=np.float32), last=True)))
    except soundfile.LibsndfileError as error:
        # what is read turns its errors into AudioError, so this one is of the writing
        raise OSError(None, f"cannot write the audio ({error.error_string})", str(path)) from error


def _pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    pcm: NDArray[np.int16] = np.clip(np.rint(samples.astype(np.float64) * 32768.0), -32768, 32767).astype(np.int16)
    return pcm


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """As ``kdcompress.files.replacing``, for threads that may write the same file at the same time."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _length(path: Path) -> int:
    with _soundfile().SoundFile(str(path)) as file:
        return int(file.frames)


def _format(row: ManifestRow) -> dict[str, Any]:
    if row.raw is None:
        return {}
    kind = {"format": "RAW", "subtype": "PCM_16", "endian": row.raw.byte_order}
    return {"samplerate": row.raw.sample_rate, "channels": 1, **kind}


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except ImportError as error:
        raise MissingDependencyError(
            "reading audio files needs soundfile; install it with `pip install 'kdcompress[audio]'`"
        ) from error
    module: ModuleType = soundfile
    return module
