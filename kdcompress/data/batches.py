"""What the batches of every task share: the items of a step, items that are read together, items of a manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from kdcompress.data.batch import Batch
from kdcompress.data.buckets import BucketPlan
from kdcompress.data.index import index_file, is_long
from kdcompress.data.items import Item, Items, Limits, load_items
from kdcompress.data.plan import Plan, PoolPlan
from kdcompress.data.text import wording
from kdcompress.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from kdcompress.recipe import Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary


class StepBatches(Dataset[Batch], ABC):
    """``batches[step]`` for any step; the same on every machine, at every restart, for every worker count.

    A task says in ``read`` how items become a batch.
    """

    def __init__(self, recipe: Recipe, items: Items, *, streams: int = 1, rank: int = 0, world: int = 1) -> None:
        self.recipe, self.items = recipe, items
        self.streams = streams
        self.rank, self.world = rank, world
        self._plan = _plan(items, recipe, streams)
        if recipe.train.batch_seconds is not None and self._plan.smallest < world:
            raise RecipeError(
                f"train.batch_seconds {recipe.train.batch_seconds:g} holds {self._plan.smallest} of the longest items "
                f"of {recipe.data.train}, too few for {world} processes; raise it, or lower data.max_duration with "
                "data.on_unusable skip"
            )

    @abstractmethod
    def read(self, items: Sequence[Item], seeds: Sequence[int], streams: Sequence[int]) -> Batch:
        """Read and augment items; what is random of each follows from its seed alone."""

    def __getitem__(self, step: int) -> Batch:
        """Read and augment this process's share of the batch of ``step``."""
        copies = self._plan(step)
        mine = range(self.rank, len(copies), self.world)
        seeds = [_seed(self.recipe.seed, step, position) for position in mine]
        items = self.items.chosen(copies[mine] // self.streams)
        batch = self.read(items, seeds, (copies[mine] % self.streams).tolist())
        return replace(batch, words=tuple(wording(item.entry) for item in items))

    def __len__(self) -> int:
        """Return the number of updates."""
        return self.recipe.train.steps

    def plan(self, step: int) -> list[tuple[Item, int]]:
        """Items of the whole batch of ``step``, over all processes, each with its stream."""
        copies = self._plan(step)
        return list(zip(self.items.chosen(copies // self.streams), (copies % self.streams).tolist(), strict=True))


def _plan(items: Items, recipe: Recipe, streams: int) -> Plan:
    config, rate = recipe.train, recipe.frontend.units_per_second
    if config.batch_seconds is None:
        return PoolPlan(items.lengths, config.batch_size, streams=streams, seed=recipe.seed)

    def longest(units: int) -> int:
        return recipe.frontend.grown(recipe.augment, units)

    budget = round(config.batch_seconds * rate)
    return BucketPlan(items.lengths, budget, longest=longest, streams=streams, seed=recipe.seed)


def _seed(seed: int, step: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, step, position)).generate_state(1)[0])


def read_together(items: Sequence[Item], recipe: Recipe) -> Iterator[list[Item]]:
    """Every item once, longest together: ``batch_size`` of them, or fewer that are ``batch_seconds`` long together."""
    lengths = items.lengths if isinstance(items, Items) else np.array([item.units for item in items])
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    rate, seconds = recipe.frontend.units_per_second, recipe.train.batch_seconds
    start = 0
    while start < len(order):
        fitting = int(seconds * rate) // max(1, int(lengths[order[start]])) if seconds else recipe.train.batch_size
        places = order[start : start + max(1, min(fitting, recipe.train.batch_size))]
        start += len(places)
        yield items.chosen(places) if isinstance(items, Items) else [items[place] for place in places]


def items_of(
    manifest: Path,
    recipe: Recipe,
    vocabulary: Vocabulary,
    units_per_frame: int,
    keep: Path | None,
    *,
    kind: str,
    seconds: Callable[[ManifestEntry], float],
    frames_per_unit: int = 1,
    remedy: str = "correct the manifest",
) -> Items:
    """Items of a manifest whose inputs are of one kind; see ``load_items`` for the errors.

    ``keep`` is a folder where the next start finds what one pass over a long manifest told; ``seconds`` measures an
    entry whose line does not tell its duration, in the unit of ``data.max_duration``; ``remedy`` is what to do about a
    reference that needs more frames than its input has.
    """
    limits = Limits(
        text_units=recipe.data.units,
        units_per_second=recipe.frontend.units_per_second,
        units_per_frame=units_per_frame,
        max_duration=recipe.longest,
        on_unusable=recipe.data.on_unusable,
        frames_per_unit=frames_per_unit,
        measure=recipe.frontend.measure,
    )
    index = index_file(keep, manifest) if keep and is_long(manifest) else None
    return load_items(manifest, vocabulary, limits, kind=kind, seconds=seconds, remedy=remedy, index=index)
