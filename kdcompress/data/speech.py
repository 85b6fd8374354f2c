"""Speech: manifests of audio files -> batches. The batch of a step follows from seed and step alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from kdcompress.data.augment import augment_waveform
from kdcompress.data.batch import Batch, collate
from kdcompress.data.items import Item, load_items
from kdcompress.data.noise import read_noises
from kdcompress_runtime.audio import read_audio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.recipe import Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary

BUCKET_BATCHES = 16
"""Items of this many batches are sorted by length together: little padding, still a good shuffle."""


class TrainingBatches(Dataset[Batch]):
    """``batches[step]`` for any step; the same on every machine, at every restart, for every worker count."""

    def __init__(
        self, recipe: Recipe, vocabulary: Vocabulary, *, units_per_frame: int, rank: int = 0, world: int = 1
    ) -> None:
        self.recipe = recipe
        self.rank, self.world = rank, world
        self.items = speech_items(recipe.data.train, recipe, vocabulary, units_per_frame)
        noise = recipe.augment.noise
        rate = recipe.frontend.sample_rate
        self.noises = read_noises(noise.manifest, noise.split, rate) if noise else []
        self._lengths = np.array([item.units for item in self.items])
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.zeros((0, 0), dtype=np.int64))

    def __getitem__(self, step: int) -> Batch:
        """Read and augment this process's share of the batch of ``step``."""
        seeds = [_seed(self.recipe.seed, step, position) for position in range(self.recipe.train.batch_size)]
        chosen = self.plan(step)
        mine = range(self.rank, len(chosen), self.world)
        items = [chosen[position] for position in mine]
        inputs = [self._read(item, seeds[position]) for item, position in zip(items, mine, strict=True)]
        return collate(
            inputs, [i.labels for i in items], [i.entry.text for i in items], [seeds[position] for position in mine]
        )

    def __len__(self) -> int:
        """Return the number of updates."""
        return self.recipe.train.steps

    def plan(self, step: int) -> list[Item]:
        """Items of the whole batch of ``step``, over all processes."""
        size = min(self.recipe.train.batch_size, len(self.items))
        epoch, index = divmod(step, len(self.items) // size)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._plan_epoch(epoch, size))
        return [self.items[i] for i in self._epoch[1][index]]

    def _plan_epoch(self, epoch: int, size: int) -> NDArray[np.int64]:
        """Indices of the items of every batch of an epoch, ``(batches, size)``."""
        rng = np.random.default_rng((self.recipe.seed, epoch))
        # what fills no batch is left out before sorting; after it, that would always be the longest items
        order = rng.permutation(len(self.items))[: len(self.items) // size * size]
        pool = size * BUCKET_BATCHES
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        by_length = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in pools])
        batches = by_length.reshape(-1, size)
        shuffled: NDArray[np.int64] = batches[rng.permutation(len(batches))]
        return shuffled

    def _read(self, item: Item, seed: int) -> NDArray[np.float32]:
        rate = self.recipe.frontend.sample_rate
        samples, _ = read_audio(item.entry.input, rate)
        rng = np.random.default_rng(seed)
        return augment_waveform(
            samples, rate, self.recipe.augment, noises=self.noises, rng=rng, min_samples=item.min_units
        )


def speech_items(manifest: Path, recipe: Recipe, vocabulary: Vocabulary, units_per_frame: int) -> list[Item]:
    """Items of a manifest; see ``load_items`` for the errors."""
    return load_items(
        manifest,
        vocabulary,
        units_per_second=recipe.frontend.sample_rate,
        units_per_frame=units_per_frame,
        max_duration=recipe.data.max_duration,
        on_unusable=recipe.data.on_unusable,
        seconds=_seconds,
    )


def evaluation_batches(items: Sequence[Item], recipe: Recipe) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once."""
    ordered = sorted(items, key=lambda item: -item.units)
    size = recipe.train.batch_size
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        inputs = [read_audio(item.entry.input, recipe.frontend.sample_rate)[0] for item in part]
        yield collate(inputs, [i.labels for i in part], [i.entry.text for i in part], [0] * len(part))


def _seconds(entry: ManifestEntry) -> float:
    samples, rate = read_audio(entry.input)
    return len(samples) / rate


def _seed(seed: int, step: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, step, position)).generate_state(1)[0])
