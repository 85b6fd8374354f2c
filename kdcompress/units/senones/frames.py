"""Frames that senones are told apart by: cepstra of audio, or features from files; without their mean, with deltas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress.data.feature_files import FeatureFiles
from kdcompress.data.features import with_deltas
from kdcompress.data.reading import read_samples
from kdcompress.frontend import LogMel, LogMelConfig
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kdcompress_runtime.manifest import ManifestEntry

    FrameReader = Callable[[ManifestEntry], NDArray[np.float32]]
    """Frames of an entry, ``(T, F)``; the k-th is about the time from k to k + 1 frame lengths."""

CEPSTRA = 13
"""A diagonal Gaussian fits features that are not correlated; log-mels are, their cosine transform is hardly."""
DELTAS = 2


def audio_reader(sample_rate: int = 16000, *, cepstra: int = CEPSTRA, frame_s: float = 0.01) -> FrameReader:
    """Read audio through the frontend for students.

    Args:
        sample_rate: Hz that all audio is resampled to.
        cepstra: coefficients of the cosine transform of the log-mels that are kept; 0 leaves the log-mels.
        frame_s: seconds between frames.
    """
    frontend = LogMel(LogMelConfig(sample_rate=sample_rate, frame_shift_ms=1000 * frame_s)).eval()
    transform = cosine_transform(cepstra or frontend.feature_dim, frontend.feature_dim) if cepstra else None

    def read(entry: ManifestEntry) -> NDArray[np.float32]:
        _check_kind(entry, "audio")
        frames = log_mels(frontend, read_samples(entry.input, sample_rate)[0])
        return normalised(frames if transform is None else frames @ transform.T)

    return read


def feature_reader(feature_dim: int) -> FrameReader:
    """Read features from the files that a manifest names, such as cepstra, as they are."""
    files = FeatureFiles(feature_dim)

    def read(entry: ManifestEntry) -> NDArray[np.float32]:
        _check_kind(entry, "features")
        return normalised(files.read(entry))

    return read


def _check_kind(entry: ManifestEntry, kind: str) -> None:
    if entry.kind != kind:
        raise ManifestError(
            f"item {entry.id} is {entry.kind}, not {kind}; a feature dimension is given for features, and only for them"
        )


def log_mels(frontend: LogMel, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mels of one recording, ``(T, F)``: the t-th is about samples t to t + 1 hops; an incomplete hop counts."""
    short = -len(samples) % frontend.hop + frontend.late_features * frontend.hop
    with torch.no_grad():
        frames = frontend(torch.from_numpy(np.pad(samples, (0, short)))[None])[0, frontend.late_features :]
    found: NDArray[np.float32] = frames.numpy()
    return found


def cosine_transform(coefficients: int, bins: int) -> NDArray[np.float32]:
    """Return the first rows of the orthonormal DCT-II, ``(coefficients, bins)``."""
    places = np.outer(np.arange(coefficients), 2 * np.arange(bins) + 1) * np.pi / (2 * bins)
    rows = np.cos(places) * np.sqrt(2 / bins)
    rows[0] /= np.sqrt(2)
    found: NDArray[np.float32] = rows.astype(np.float32)
    return found


def normalised(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the mean of the item away, ``(T, F)``, and append deltas and their deltas: ``(T, 3 F)``."""
    return with_deltas(frames - frames.mean(axis=0), DELTAS)
