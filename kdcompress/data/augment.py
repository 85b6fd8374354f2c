"""Augmentation of waveforms before the frontend, and masks on features after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray  # noqa: TC002 (a NamedTuple shows it)

from kdcompress.data.noise import limit_peak, mix_at_snr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcompress.data.noise import Noise
    from kdcompress.recipe import AugmentConfig, SpecAugment


class Augmented(NamedTuple):
    """What became of a recording."""

    samples: NDArray[np.float32]
    """``(n,)`` float32 in [-1, 1]."""
    speed: float
    """What is heard at second t is at ``speed * t - lead_in_s`` in the recording."""
    lead_in_s: float
    """Seconds put in front, before the speed was changed."""


LEAD_IN_RMS = 1e-3
"""Of the noise in front of an item: -60 dBFS, never digital zero."""


def augment_waveform(
    samples: NDArray[np.float32],
    sample_rate: int,
    config: AugmentConfig,
    *,
    noises: Sequence[Noise],
    rng: np.random.Generator,
    min_samples: int,
) -> Augmented:
    """Return a copy with a lead-in, another speed, noise and gain.

    Args:
        samples: ``(n,)`` float32 in [-1, 1]; not changed.
        sample_rate: Hz.
        config: what may happen.
        noises: recordings at ``sample_rate``; one is drawn.
        rng: where the draws come from.
        min_samples: shortest length the reference still fits in; a speed that goes below is not used.
    """
    import soxr

    recorded = len(samples)
    if config.lead_in_s[1] > 0:
        lead_in = rng.standard_normal(int(rng.uniform(*config.lead_in_s) * sample_rate)) * LEAD_IN_RMS
        samples = np.concatenate([lead_in.astype(np.float32), samples])
    lead_in_s = (len(samples) - recorded) / sample_rate
    speed = float(rng.choice(config.speed))
    if speed != 1.0 and len(samples) / speed >= min_samples + 1:
        samples = soxr.resample(samples, sample_rate * speed, sample_rate)
    else:
        speed = 1.0
    if config.noise and noises and rng.random() < config.noise.probability:
        noise = noises[int(rng.integers(len(noises)))]
        ratio = float(rng.uniform(*config.noise.snr_db))
        samples = mix_at_snr(samples, noise.samples, ratio, rng, frame=sample_rate // 50)
    gain = 10 ** (rng.uniform(*config.gain_db) / 20)
    return Augmented(limit_peak((samples * np.float32(gain)).astype(np.float32)), speed, lead_in_s)


def mask_features(  # noqa: PLR0917 (positions read well here)
    features: Tensor, lengths: Tensor, fill: Tensor, config: SpecAugment, seeds: Sequence[int], view: int = 0
) -> Tensor:
    """SpecAugment without time warping (Park et al., arXiv 1904.08779).

    Args:
        features: ``(N, T, F)``; not changed.
        lengths: valid frames, ``(N,)``; masks stay inside.
        fill: ``(F,)``, the value of a masked bin: the mean of the training data.
        config: number and width of masks.
        seeds: one for each item. The times that are masked follow from it and ``view`` alone, not from the number of
            bins: a teacher with another frontend misses the same moments.
        view: another one gives other masks.
    """
    masked = torch.zeros(features.shape, dtype=torch.bool)
    bins = features.shape[2]
    for row, length, seed in zip(masked, lengths.tolist(), seeds, strict=True):
        rng = np.random.default_rng((seed, 1, view))
        for _ in range(config.freq_masks):
            width = int(rng.integers(0, int(bins * config.freq_fraction) + 1))
            start = int(rng.integers(0, bins - width + 1))
            row[:length, start : start + width] = True
        rng = np.random.default_rng((seed, 2, view))
        for _ in range(config.time_masks):
            width = int(rng.integers(0, min(config.time_frames, int(length * config.time_fraction)) + 1))
            start = int(rng.integers(0, length - width + 1))
            row[start : start + width] = True
    return torch.where(masked.to(features.device), fill.to(features), features)
