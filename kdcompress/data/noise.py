"""Background noise: read it once, mix it at a signal-to-noise ratio. Needs numpy only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import ManifestError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator

Samples = NDArray[np.float32]
"""Mono audio, shape ``(n,)``, in [-1, 1]."""
ACTIVE_RANGE_DB = 30.0
"""Frames at most this far under the loudest one count as speech."""
PEAK_LIMIT = 0.99
"""Mixtures louder than this are scaled down as a whole."""


@dataclass(frozen=True)
class Noise:
    """One background recording."""

    samples: Samples
    """Shape ``(n,)``, float32, in [-1, 1]."""
    noise_type: str
    """Such as ``rain``."""
    name: str
    """The path in its manifest."""


def read_noises(manifest: str | Path, split: str, sample_rate: int) -> list[Noise]:
    """Read the recordings of one split of a noise manifest, resampled to ``sample_rate`` Hz.

    A line of the manifest is a JSON object with ``audio_filepath`` (relative to the manifest), ``split`` and,
    optionally, ``noise_type``.

    Raises:
        ManifestError: the manifest is missing, a line cannot be read, or the split is empty.
        AudioError: a recording cannot be read.
        MissingDependencyError: soundfile or soxr is not installed.
    """
    manifest = Path(manifest)
    noises = [
        Noise(
            samples=read_audio(manifest.parent / row["audio_filepath"], sample_rate)[0],
            noise_type=str(row.get("noise_type", "unknown")),
            name=row["audio_filepath"],
        )
        for row in _rows(manifest)
        if row["split"] == split
    ]
    if not noises:
        raise ManifestError(f"{manifest}: no line has split {split!r}; check the split or the manifest")
    return noises


def mix_at_snr(
    speech: Samples, noise: Samples, snr_db: float, rng: np.random.Generator, *, frame: int = 160
) -> Samples:
    """Add a stretch of ``noise`` to ``speech``, drawn at a random offset and looped if it is too short.

    The ratio is the power of the speech over its active frames (within 30 dB of the loudest one, so that
    pauses do not count) to the power of the stretch of noise. Where the sum would clip, all of it is scaled
    down, which leaves the ratio as it is. Nothing given is changed.

    Args:
        speech: shape ``(n,)``, float32.
        noise: shape ``(m,)``, float32, at the same sample rate.
        snr_db: wanted ratio in decibels.
        rng: draws the offset, one integer a call.
        frame: samples a frame; 160 are 20 ms at 8 kHz.

    Returns:
        The mixture, shape ``(n,)``, float32. Where speech or noise is all zeros there is no ratio, and the
        speech is returned as it is.

    Raises:
        OptionsError: the noise is empty, or ``snr_db`` is not finite.
    """
    if not noise.size:
        raise OptionsError("the noise has no samples; remove it from the noise manifest")
    if not np.isfinite(snr_db):
        raise OptionsError(f"snr_db must be a finite number of decibels, found {snr_db}")
    stretch = _stretch(noise, len(speech), rng)
    speech_power = active_power(speech, frame)
    noise_power = _power(stretch)
    if speech_power == 0.0 or noise_power == 0.0:
        return speech.copy()
    gain = (speech_power / noise_power) ** 0.5 * 10.0 ** (-snr_db / 20.0)
    mixed = speech + np.float32(gain) * stretch
    return limit_peak(mixed.astype(np.float32, copy=False))


def active_power(speech: Samples, frame: int = 160) -> float:
    """Mean square of the samples in active frames, those within 30 dB of the loudest; 0.0 for silence."""
    whole = len(speech) // frame * frame
    if not whole:
        return _power(speech)
    powers = np.square(speech[:whole], dtype=np.float64).reshape(-1, frame).mean(axis=1)
    floor = powers.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)
    return float(powers[powers >= floor].mean())


def limit_peak(samples: Samples, limit: float = PEAK_LIMIT) -> Samples:
    """Return ``samples``, scaled down as a whole where their peak is over ``limit``."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= limit else samples * np.float32(limit / peak)


def _stretch(noise: Samples, length: int, rng: np.random.Generator) -> Samples:
    """``length`` samples of noise from a random offset; only a noise that is too short is looped."""
    if len(noise) > length:
        start = int(rng.integers(len(noise) - length + 1))
        return noise[start : start + length]
    return np.resize(np.roll(noise, -int(rng.integers(len(noise)))), length)


def _power(samples: Samples) -> float:
    return float(np.square(samples, dtype=np.float64).mean()) if samples.size else 0.0


def _rows(manifest: Path) -> Iterator[dict[str, Any]]:
    if not manifest.is_file():
        raise ManifestError(f"noise manifest not found: {manifest}; check the path")
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{manifest}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(f"{where}: not valid JSON ({error.msg}); mend or remove the line") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("audio_filepath", "split")):
            raise ManifestError(f"{where}: needs audio_filepath and split, both text; mend or remove the line")
        yield row
