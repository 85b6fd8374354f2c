"""Speech: manifests of audio files -> batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress.data.augment import augment_waveform
from kdcompress.data.batch import Batch, collate
from kdcompress.data.batches import StepBatches, items_of, read_together
from kdcompress.data.noise import read_noises
from kdcompress.data.reading import read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.data.items import Item, Items
    from kdcompress.recipe import Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary


class TrainingBatches(StepBatches):
    """Recordings, augmented, at every sample rate that somebody hears at."""

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
        self.own_rate = own_rate(recipe)
        self.other_rates = sorted({*teacher_rates} - {self.own_rate})
        self.rate = max([self.own_rate, *self.other_rates])
        items = speech_items(recipe.data.train, recipe, vocabulary, units_per_frame, keep)
        noise = recipe.augment.noise
        self.noises = read_noises(noise.manifest, noise.split, self.rate) if noise else []
        super().__init__(recipe, items, streams=streams, rank=rank, world=world)

    def read(self, items: Sequence[Item], seeds: Sequence[int], streams: Sequence[int]) -> Batch:
        """See ``StepBatches.read``."""
        heard = [self._read(item, seed) for item, seed in zip(items, seeds, strict=True)]
        return collate(
            [narrowed(samples, self.rate, self.own_rate) for samples, _ in heard],
            [item.labels for item in items],
            [item.entry.text for item in items],
            seeds,
            items=[item.number for item in items],
            times=[times for _, times in heard],
            streams=streams,
            sample_rate=self.own_rate,
            others={rate: [narrowed(samples, self.rate, rate) for samples, _ in heard] for rate in self.other_rates},
        )

    def _read(self, item: Item, seed: int) -> tuple[NDArray[np.float32], tuple[float, float]]:
        """The item at the highest rate that anyone hears, and where its moments are in the recording."""
        samples, _ = read_samples(item.entry.input, self.rate)
        rng = np.random.default_rng(seed)
        shortest = -(-item.min_units * self.rate // self.own_rate)
        augmented = augment_waveform(
            samples, self.rate, self.recipe.augment, noises=self.noises, rng=rng, min_samples=shortest
        )
        return augmented.samples, (augmented.speed, augmented.lead_in_s)


def own_rate(recipe: Recipe) -> int:
    """Hz that the network of a recipe for speech hears."""
    rate = recipe.frontend.sample_rate
    if rate is None:
        raise TypeError(f"{recipe.name}: task {recipe.task} is not speech")  # recipes are checked; a caller is wrong
    return rate


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
    """Items of a manifest of recordings; see ``items_of``."""
    return items_of(manifest, recipe, vocabulary, units_per_frame, keep, kind="audio", seconds=_seconds)


def evaluation_batches(items: Sequence[Item], recipe: Recipe, rates: Sequence[int] = ()) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once; at the ``rates`` of teachers, too.

    Of ``batch_size`` items, or fewer where they are longer than ``batch_seconds`` together.
    """
    own = own_rate(recipe)
    for part in read_together(items, recipe):
        heard = {rate: [read_samples(item.entry.input, rate)[0] for item in part] for rate in {own, *rates}}
        yield collate(
            heard.pop(own),
            [item.labels for item in part],
            [item.entry.text for item in part],
            [0] * len(part),
            items=[item.number for item in part],
            sample_rate=own,
            others=heard,
        )


def _seconds(entry: ManifestEntry) -> float:
    samples, rate = read_samples(entry.input)
    return len(samples) / rate
