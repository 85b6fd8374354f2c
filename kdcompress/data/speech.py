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
        self,
        recipe: Recipe,
        vocabulary: Vocabulary,
        *,
        units_per_frame: int,
        teacher_rates: Sequence[int] = (),
        streams: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.recipe = recipe
        self.streams = streams
        self.other_rates = sorted({*teacher_rates} - {recipe.frontend.sample_rate})
        self.rate = max([recipe.frontend.sample_rate, *self.other_rates])
        self.rank, self.world = rank, world
        self.items = speech_items(recipe.data.train, recipe, vocabulary, units_per_frame)
        noise = recipe.augment.noise
        self.noises = read_noises(noise.manifest, noise.split, self.rate) if noise else []
        self._lengths = np.array([item.units for item in self.items])
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.zeros((0, 0), dtype=np.int64))

    def __getitem__(self, step: int) -> Batch:
        """Read and augment this process's share of the batch of ``step``."""
        seeds = [_seed(self.recipe.seed, step, position) for position in range(self.recipe.train.batch_size)]
        chosen = self.plan(step)
        mine = range(self.rank, len(chosen), self.world)
        items = [chosen[position][0] for position in mine]
        heard = [self._read(item, seeds[position]) for item, position in zip(items, mine, strict=True)]
        own_rate = self.recipe.frontend.sample_rate
        return collate(
            [narrowed(samples, self.rate, own_rate) for samples, _ in heard],
            [item.labels for item in items],
            [item.entry.text for item in items],
            [seeds[position] for position in mine],
            items=[item.number for item in items],
            times=[times for _, times in heard],
            streams=[chosen[position][1] for position in mine],
            sample_rate=own_rate,
            others={rate: [narrowed(samples, self.rate, rate) for samples, _ in heard] for rate in self.other_rates},
        )

    def __len__(self) -> int:
        """Return the number of updates."""
        return self.recipe.train.steps

    def plan(self, step: int) -> list[tuple[Item, int]]:
        """Items of the whole batch of ``step``, over all processes, each with its stream."""
        copies = len(self.items) * self.streams
        size = min(self.recipe.train.batch_size, copies)
        epoch, index = divmod(step, copies // size)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._plan_epoch(epoch, size))
        return [(self.items[copy // self.streams], int(copy % self.streams)) for copy in self._epoch[1][index]]

    def _plan_epoch(self, epoch: int, size: int) -> NDArray[np.int64]:
        """Indices of every batch of an epoch, ``(batches, size)``; index ``i * streams + k`` is item i, stream k."""
        rng = np.random.default_rng((self.recipe.seed, epoch))
        # what fills no batch is left out before sorting; after it, that would always be the longest items
        copies = len(self.items) * self.streams
        order = rng.permutation(copies)[: copies // size * size]
        pool = size * BUCKET_BATCHES
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        lengths = self._lengths.repeat(self.streams)
        by_length = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in pools])
        batches = by_length.reshape(-1, size)
        shuffled: NDArray[np.int64] = batches[rng.permutation(len(batches))]
        return shuffled

    def _read(self, item: Item, seed: int) -> tuple[NDArray[np.float32], tuple[float, float]]:
        """The item at the highest rate that anyone hears, and where its moments are in the recording."""
        samples, _ = read_audio(item.entry.input, self.rate)
        rng = np.random.default_rng(seed)
        shortest = -(-item.min_units * self.rate // self.recipe.frontend.sample_rate)
        augmented = augment_waveform(
            samples, self.rate, self.recipe.augment, noises=self.noises, rng=rng, min_samples=shortest
        )
        return augmented.samples, (augmented.speed, augmented.lead_in_s)


def narrowed(samples: NDArray[np.float32], rate: int, to_rate: int) -> NDArray[np.float32]:
    """Resample so that frames stay synchronous: sample n of ``rate`` is sample ``n * to_rate / rate``, none is lost."""
    import soxr

    if rate == to_rate:
        return samples
    length = -(-len(samples) * to_rate // rate)
    found = soxr.resample(samples, rate, to_rate).astype(np.float32)
    return np.pad(found[:length], (0, max(0, length - len(found))))


def speech_items(manifest: Path, recipe: Recipe, vocabulary: Vocabulary, units_per_frame: int) -> list[Item]:
    """Items of a manifest; see ``load_items`` for the errors."""
    return load_items(
        manifest,
        vocabulary,
        text_units=recipe.data.units,
        units_per_second=recipe.frontend.sample_rate,
        units_per_frame=units_per_frame,
        max_duration=recipe.data.max_duration,
        on_unusable=recipe.data.on_unusable,
        seconds=_seconds,
    )


def evaluation_batches(items: Sequence[Item], recipe: Recipe, rates: Sequence[int] = ()) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once; at the ``rates`` of teachers, too."""
    ordered = sorted(items, key=lambda item: -item.units)
    size, own_rate = recipe.train.batch_size, recipe.frontend.sample_rate
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        heard = {rate: [read_audio(item.entry.input, rate)[0] for item in part] for rate in {own_rate, *rates}}
        yield collate(
            heard.pop(own_rate),
            [item.labels for item in part],
            [item.entry.text for item in part],
            [0] * len(part),
            items=[item.number for item in part],
            sample_rate=own_rate,
            others=heard,
        )


def _seconds(entry: ManifestEntry) -> float:
    samples, rate = read_audio(entry.input)
    return len(samples) / rate


def _seed(seed: int, step: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, step, position)).generate_state(1)[0])
