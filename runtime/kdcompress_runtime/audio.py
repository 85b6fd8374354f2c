"""Audio files in, float32 mono out. soundfile and soxr are imported when first needed."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from kdcompress_runtime.byte_range import has_scheme, parse_byte_range, read_range
from kdcompress_runtime.errors import AudioError, AudioFileNotFoundError, MissingDependencyError
from kdcompress_runtime.resample import resample

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

_LENGTH_UNKNOWN = 0x7FFFF000
"""Programs that write RIFF to a pipe put this length, or a greater one, into the header."""


def read_audio(path: str | Path, sample_rate: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Read an audio file whole; channels are averaged.

    Args:
        path: wav, flac, ogg, mp3 or whatever else libsndfile reads; or ``file:offset:length``, such a file among the
            bytes of another, as in a tar.
        sample_rate: Hz to resample to; the file's own rate when left out.

    Returns:
        Samples of shape ``(n,)``, float32, and their rate in Hz.

    Raises:
        AudioFileNotFoundError: there is no such file.
        AudioError: not audio, cut short, empty, or not finite.
        MissingDependencyError: soundfile (or soxr, where the rate must change) is not installed.
    """
    name = str(path)
    if has_scheme(name):
        raise AudioError(f"{name}: is in an object store, which only training reads; copy or mount it, and name a path")
    path = Path(path)
    if not path.is_file():
        if part := parse_byte_range(name):
            return decode_audio(read_range(part), name, sample_rate)
        raise AudioFileNotFoundError(f"audio file not found: {path}; check the path")
    with path.open("rb") as file:
        return _read(file, name, sample_rate)


def decode_audio(content: bytes, name: str, sample_rate: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Do as ``read_audio`` with the bytes of a file; ``name`` stands for it in messages."""
    return _read(io.BytesIO(content), name, sample_rate)


def _read(file: BinaryIO, name: str, sample_rate: int | None) -> tuple[NDArray[np.float32], int]:
    samples, rate = _decode(file, name)
    if not samples.size:
        raise AudioError(f"{name}: no samples; the file is empty or only a header")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds NaN or infinite samples; write the file again")
    mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if sample_rate is None or sample_rate == rate:
        return np.ascontiguousarray(mono), rate
    return resample(mono, rate, sample_rate), sample_rate


def _decode(file: BinaryIO, name: str) -> tuple[NDArray[np.float32], int]:
    """Samples of shape ``(n, channels)`` and the rate, or one of our errors."""
    soundfile = _soundfile()
    # a file of its own is read by its name, which tells libsndfile a few formats that its bytes do not
    whole = file.name if isinstance(file, io.BufferedReader) else file
    try:
        with soundfile.SoundFile(whole) as decoder:
            promised, rate = int(decoder.frames), int(decoder.samplerate)
            samples = decoder.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{name}: cannot be read as audio ({error.error_string}); convert it to wav or flac"
        ) from error
    if len(samples) < promised:
        raise AudioError(f"{name}: cut short: {len(samples)} of {promised} samples could be read; copy the file again")
    _check_wav_length(file, name)
    return samples, rate


def _check_wav_length(file: BinaryIO, name: str) -> None:
    """Refuse a RIFF file shorter than its header says; libsndfile silently reads what is left of it."""
    file.seek(0)
    if file.read(4) != b"RIFF":
        return
    promised = int.from_bytes(file.read(4), "little") + 8
    if file.read(4) != b"WAVE" or promised >= _LENGTH_UNKNOWN:
        return
    found = file.seek(0, io.SEEK_END)
    # Some writers count one padding byte too many; a real cut is longer.
    if found + 1 < promised:
        raise AudioError(f"{name}: cut short: {found} of {promised} bytes are there; copy the file again")


def _soundfile() -> ModuleType:
    try:
        return importlib.import_module("soundfile")
    except ImportError as error:
        raise MissingDependencyError(
            "reading audio files needs soundfile; install it with `pip install 'kdcompress[audio]'`"
        ) from error
