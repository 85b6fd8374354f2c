"""Where speech begins and ends in a recording, and the noise of its room to go on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

FRAME_SECONDS = 0.01
"""Of one level."""
_SMOOTH = 3
"""Frames of 10 ms of which the median is taken: a click is no speech."""
_OVER_FLOOR_DB, _UNDER_PEAK_DB = 12.0, 35.0
_SPECTRUM = 512
_QUIET_SHARE = 0.1
_SILENT_POWER = 1e-10
_FAINT = 1e-4


def levels(samples: Samples, rate: int) -> NDArray[np.float64]:
    """Level of each 10 ms in dB, the median of three; never below -100. Empty for less than three."""
    size = max(1, round(FRAME_SECONDS * rate))
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    if len(frames) < _SMOOTH:
        return np.zeros(0)
    power = 10 * np.log10((frames**2).mean(axis=1) + _SILENT_POWER)
    padded = np.pad(power, _SMOOTH // 2, mode="edge")
    smooth: NDArray[np.float64] = np.median(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTH), axis=1)
    return smooth


def speech_bounds(samples: Samples, rate: int) -> tuple[float, float]:
    """Seconds at which speech begins and ends, by energy.

    Speech is what lies both 12 dB above the room (the 10th percentile of the levels of 10 ms) and less than 35 dB
    below the loudest (the 99th); where that leaves nothing, all of the recording.
    """
    found, size = levels(samples, rate), max(1, round(FRAME_SECONDS * rate))
    whole = (0.0, len(samples) / rate)
    if not len(found):
        return whole
    floor, peak = np.percentile(found, [10, 99])
    spoken = np.flatnonzero(found > max(floor + _OVER_FLOOR_DB, peak - _UNDER_PEAK_DB))
    if not len(spoken):
        return whole
    return float(spoken[0]) * size / rate, float(spoken[-1] + 1) * size / rate


def room_noise(samples: Samples, seconds: float, rate: int, seed: int) -> Samples:
    """Noise with the spectrum of the quietest tenth of a recording, which is its room and its microphone.

    Digital silence, which some recordings hold, does not count; one that holds nothing else gets faint white noise.
    """
    length = round(seconds * rate)
    white = np.random.default_rng(seed).standard_normal(length + _SPECTRUM)
    starts = range(0, len(samples) - _SPECTRUM + 1, _SPECTRUM // 2)
    frames = np.array([samples[start : start + _SPECTRUM] for start in starts], dtype=np.float64)
    power = (frames**2).mean(axis=1) if len(frames) else np.zeros(0)
    frames, power = frames[power > _SILENT_POWER], power[power > _SILENT_POWER]
    if not len(frames):
        return (_FAINT * white[:length]).astype(np.float32)
    quiet = frames[np.argsort(power)[: max(1, round(_QUIET_SHARE * len(frames)))]]
    window = np.hanning(_SPECTRUM)
    spectrum = np.sqrt((np.abs(np.fft.rfft(quiet * window, axis=1)) ** 2).mean(axis=0))
    response = np.fft.irfft(spectrum / np.sqrt((window**2).sum()))  # white noise of variance 1 comes out at this level
    shaped = np.fft.irfft(np.fft.rfft(white) * np.fft.rfft(response, len(white)), len(white))
    return shaped[_SPECTRUM:].astype(np.float32)
