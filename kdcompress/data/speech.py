"""Speech: manifests of audio files -> batches. The batch of a step follows from seed and step alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from kdcompress.data.augment import augment_waveform
from kdcompress.data.batch import Batch, collate
from kdcompress.data.buckets import BucketPlan
from kdcompress.data.index import index_file, is_long
from kdcompress.data.items import Item, Items, Limits, load_items
from kdcompress.data.noise import read_noises
from kdcompress.data.plan import Plan, PoolPlan
from kdcompress.data.reading import read_samples
from kdcompress.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.recipe import Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary


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
        keep: Path | None = None,
    ) -> None:
        self.recipe = recipe
        self.streams = streams
        self.other_rates = sorted({*teacher_rates} - {recipe.frontend.sample_rate})
        self.rate = max([recipe.frontend.sample_rate, *self.other_rates])
        self.rank, self.world = rank, world
        self.items = speech_items(recipe.data.train, recipe, vocabulary, units_per_frame, keep)
        noise = recipe.augment.noise
        self.noises = read_noises(noise.manifest, noise.split, self.rate) if noise else []
        self._plan = _plan(self.items, recipe, streams)
        if recipe.train.batch_seconds is not None and self._plan.smallest < world:
            raise RecipeError(
                f"train.batch_seconds {recipe.train.batch_seconds:g} holds {self._plan.smallest} of the longest items "
                f"of {recipe.data.train}, too few for {world} processes; raise it, or lower data.max_duration with "
                "data.on_unusable skip"
            )

    def __getitem__(self, step: int) -> Batch:
        """Read and augment this process's share of the batch of ``step``."""
        copies = self._plan(step)
        mine = range(self.rank, len(copies), self.world)
        seeds = [_seed(self.recipe.seed, step, position) for position in mine]
        items = self.items.chosen(copies[mine] // self.streams)
        heard = [self._read(item, seed) for item, seed in zip(items, seeds, strict=True)]
        own_rate = self.recipe.frontend.sample_rate
        return collate(
            [narrowed(samples, self.rate, own_rate) for samples, _ in heard],
            [item.labels for item in items],
            [item.entry.text for item in items],
            seeds,
            items=[item.number for item in items],
            times=[times for _, times in heard],
            streams=(copies[mine] % self.streams).tolist(),
            sample_rate=own_rate,
            others={rate: [narrowed(samples, self.rate, rate) for samples, _ in heard] for rate in self.other_rates},
        )

    def __len__(self) -> int:
        """Return the number of updates."""
        return self.recipe.train.steps

    def plan(self, step: int) -> list[tuple[Item, int]]:
        """Items of the whole batch of ``step``, over all processes, each with its stream."""
        copies = self._plan(step)
        return list(zip(self.items.chosen(copies // self.streams), (copies % self.streams).tolist(), strict=True))

    def _read(self, item: Item, seed: int) -> tuple[NDArray[np.float32], tuple[float, float]]:
        """The item at the highest rate that anyone hears, and where its moments are in the recording."""
        samples, _ = read_samples(item.entry.input, self.rate)
        rng = np.random.default_rng(seed)
        shortest = -(-item.min_units * self.rate // self.recipe.frontend.sample_rate)
        augmented = augment_waveform(
            samples, self.rate, self.recipe.augment, noises=self.noises, rng=rng, min_samples=shortest
        )
        return augmented.samples, (augmented.speed, augmented.lead_in_s)


def _plan(items: Items, recipe: Recipe, streams: int) -> Plan:
    config, rate = recipe.train, recipe.frontend.sample_rate
    if config.batch_seconds is None:
        return PoolPlan(items.lengths, config.batch_size, streams=streams, seed=recipe.seed)
    budget, lead_in, slowest = (
        round(config.batch_seconds * rate),
        recipe.augment.lead_in_s[1],
        min(recipe.augment.speed),
    )

    def longest(units: int) -> int:
        return math.ceil((units + lead_in * rate) / min(1.0, slowest))

    budget = round(config.batch_seconds * rate)
    return BucketPlan(items.lengths, budget, longest=longest, streams=streams, seed=recipe.seed)


def narrowed(samples: NDArray[np.float32], rate: int, to_rate: int) -> NDArray[np.float32]:
    """Resample so that frames stay synchronous: sample n of ``rate`` is sample ``n * to_rate / rate``, none is lost."""
    import soxr

    if rate == to_rate:
        return samples
    length = -(-len(samples) * to_rate // rate)
    found = soxr.resample(samples, rate, to_rate).astype(np.float32)
    return np.pad(found[:length], (0, max(0, length - len(found))))


def speech_items(
    manifest: Path, recipe: Recipe, vocabulary: Vocabulary, units_per_frame: int, keep: Path | None = None
) -> Items:
    """Items of a manifest; see ``load_items`` for the errors.

    ``keep`` is a folder where the next start finds what one pass over a long manifest told.
    """
    limits = Limits(
        text_units=recipe.data.units,
        units_per_second=recipe.frontend.sample_rate,
        units_per_frame=units_per_frame,
        max_duration=recipe.data.max_duration,
        on_unusable=recipe.data.on_unusable,
    )
    index = index_file(keep, manifest) if keep and is_long(manifest) else None
    return load_items(manifest, vocabulary, limits, seconds=_seconds, index=index)


def evaluation_batches(items: Sequence[Item], recipe: Recipe, rates: Sequence[int] = ()) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once; at the ``rates`` of teachers, too.

    Of ``batch_size`` items, or fewer where they are longer than ``batch_seconds`` together.
    """
    lengths = items.lengths if isinstance(items, Items) else np.array([item.units for item in items])
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    own_rate, seconds = recipe.frontend.sample_rate, recipe.train.batch_seconds
    start = 0
    while start < len(order):
        fitting = int(seconds * own_rate) // max(1, int(lengths[order[start]])) if seconds else recipe.train.batch_size
        places = order[start : start + max(1, min(fitting, recipe.train.batch_size))]
        start += len(places)
        part = items.chosen(places) if isinstance(items, Items) else [items[place] for place in places]
        heard = {rate: [read_samples(item.entry.input, rate)[0] for item in part] for rate in {own_rate, *rates}}
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
    samples, rate = read_samples(entry.input)
    return len(samples) / rate


def _seed(seed: int, step: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, step, position)).generate_state(1)[0])
