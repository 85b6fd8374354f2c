"""Noise in prepared dev and test sets. Training sets stay clean: training mixes its own noise on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.data.noise import mix_at_snr, read_noises
from kdcompress.files import file_sha256
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcompress.data.noise import Noise, Samples


@dataclass(frozen=True)
class NoiseConfig:
    """Noise for the dev and test sets. Every item draws a type of noise, then one of its recordings."""

    manifest: Path
    """Noise manifest, see ``read_noises``."""
    dev_snr_db: tuple[float, ...] = (0.0, 5.0, 10.0)
    """Ratios of the dev items, taken in turn; empty: clean."""
    test_snr_db: tuple[float, ...] = (0.0, 5.0, 10.0)
    """Ratios of the test items, taken in turn; empty: clean."""
    dev_split: str = "train"
    """Split of the manifest that dev draws from: the noises that training may hear too, so dev says nothing
    about unheard noise."""
    test_split: str = "test"
    """Split of the manifest that test draws from: noises nothing else has heard."""

    def choices(self, split: str) -> tuple[str, tuple[float, ...]]:
        """Return the noise split and the ratios for a data split; no ratios mean clean."""
        if split == "dev":
            return self.dev_split, self.dev_snr_db
        return (self.test_split, self.test_snr_db) if split == "test" else ("", ())

    def recorded(self) -> dict[str, Any]:
        """Return what decides the noise, as JSON values without paths.

        Raises:
            ManifestError: there is no such manifest.
        """
        if not self.manifest.is_file():
            raise ManifestError(f"noise manifest not found: {self.manifest}; check the path")
        return {
            "manifest_sha256": file_sha256(self.manifest),
            "dev": [self.dev_split, *self.dev_snr_db],
            "test": [self.test_split, *self.test_snr_db],
        }


@dataclass(frozen=True)
class SetNoise:
    """Noise of one data split; without noises or ratios it changes nothing."""

    noises: Sequence[Noise] = ()
    snr_db: Sequence[float] = ()

    def mixed(
        self, samples: Samples, sample_rate: int, key: tuple[int, ...], turn: int
    ) -> tuple[Samples, dict[str, Any]]:
        """Mix noise into an item.

        Args:
            samples: ``(n,)`` float32; not changed.
            sample_rate: Hz.
            key: seed of the draws, the item's own.
            turn: which of the ratios it is; they are taken in turn.

        Returns:
            The mixture, and the fields ``snr_db`` and ``noise_type`` for its line; for a clean split the
            samples and no fields.
        """
        if not (self.noises and self.snr_db):
            return samples, {}
        # A generator of its own: the noisy set holds the same items as the clean one.
        rng = np.random.default_rng((*key, 1))
        # The type first: a type with many recordings is no more frequent than one with a few.
        types = sorted({noise.noise_type for noise in self.noises})
        kind = types[int(rng.integers(len(types)))]
        noises = [noise for noise in self.noises if noise.noise_type == kind]
        noise = noises[int(rng.integers(len(noises)))]
        snr_db = self.snr_db[turn % len(self.snr_db)]
        mixture = mix_at_snr(samples, noise.samples, snr_db, rng, frame=sample_rate // 50)
        return mixture, {"snr_db": snr_db, "noise_type": kind}


def read_set_noise(config: NoiseConfig | None, split: str, sample_rate: int) -> SetNoise:
    """Read the noise of a data split at ``sample_rate`` Hz; see ``read_noises`` for the errors."""
    noise_split, ratios = config.choices(split) if config else ("", ())
    if not config or not ratios:
        return SetNoise()
    return SetNoise(read_noises(config.manifest, noise_split, sample_rate), ratios)
