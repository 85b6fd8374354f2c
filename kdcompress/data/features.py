"""Items that come as frames of features: manifests -> batches.

What is made of a whole item is made here, after its frames were moved in time: read, take away the mean, put quiet
frames in front, change the speed, append deltas. Input units are frames; ``Batch.sample_rate`` is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray  # noqa: TC002 (a NamedTuple shows it)

from kdcompress.data.batch import Batch, collate
from kdcompress.data.batches import StepBatches, items_of, read_together
from kdcompress.data.feature_files import FeatureFiles
from kdcompress.feature_frontend import FeaturesConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kdcompress.data.items import Item, Items
    from kdcompress.recipe import AugmentConfig, Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary

QUIET_FRAMES = 10
"""Length of the quietest stretch of an item, of which the frames in front of it are made."""


class Moved(NamedTuple):
    """What became of the frames of an item."""

    frames: NDArray[np.float32]
    """``(n, feature_dim)``."""
    speed: float
    """What is at frame t is at ``speed * t - lead_in`` in the item."""
    lead_in: int
    """Frames put in front, before the speed was changed."""


class FeatureBatches(StepBatches):
    """Frames of features, moved in time, with their deltas."""

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
        del teacher_rates  # teachers of audio are refused before
        self.config = settings_of(recipe)
        self.files = FeatureFiles(self.config.feature_dim)
        items = feature_items(recipe.data.train, recipe, vocabulary, units_per_frame, keep)
        super().__init__(recipe, items, streams=streams, rank=rank, world=world)

    def read(self, items: Sequence[Item], seeds: Sequence[int], streams: Sequence[int]) -> Batch:
        """See ``StepBatches.read``."""
        moved = [self._read(item, seed) for item, seed in zip(items, seeds, strict=True)]
        return collate(
            [with_deltas(one.frames, self.config.deltas) for one in moved],
            [item.labels for item in items],
            [item.entry.text for item in items],
            seeds,
            items=[item.number for item in items],
            times=[(one.speed, float(one.lead_in)) for one in moved],
            streams=streams,
        )

    def _read(self, item: Item, seed: int) -> Moved:
        return move_frames(
            read_frames(self.files, item.entry, self.config),
            self.recipe.augment,
            units_per_second=self.config.units_per_second,
            rng=np.random.default_rng(seed),
            min_frames=item.min_units,
        )


def feature_items(
    manifest: Path, recipe: Recipe, vocabulary: Vocabulary, units_per_frame: int, keep: Path | None = None
) -> Items:
    """Items of a manifest of features; see ``items_of``. Where a line has no duration, its frames are counted."""
    config = settings_of(recipe)
    files = FeatureFiles(config.feature_dim)

    def seconds(entry: ManifestEntry) -> float:
        told = entry.extra.get("num_frames")
        frames = told if isinstance(told, int) and told > 0 else files.frames(entry)
        return frames / config.units_per_second

    return items_of(manifest, recipe, vocabulary, units_per_frame, keep, kind="features", seconds=seconds)


def feature_evaluation_batches(items: Sequence[Item], recipe: Recipe, rates: Sequence[int] = ()) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once. ``rates`` are those of audio."""
    del rates
    config = settings_of(recipe)
    files = FeatureFiles(config.feature_dim)
    for part in read_together(items, recipe):
        yield collate(
            [with_deltas(read_frames(files, item.entry, config), config.deltas) for item in part],
            [item.labels for item in part],
            [item.entry.text for item in part],
            [0] * len(part),
            items=[item.number for item in part],
        )


def settings_of(recipe: Recipe) -> FeaturesConfig:
    """Settings of the frontend of a recipe for features."""
    if not isinstance(recipe.frontend, FeaturesConfig):
        raise TypeError(f"{recipe.name}: task {recipe.task} has no frames")  # recipes are checked; a caller is wrong
    return recipe.frontend


def read_frames(files: FeatureFiles, entry: ManifestEntry, config: FeaturesConfig) -> NDArray[np.float32]:
    """Frames of an item ``(frames, feature_dim)``, less their mean if so set; for the errors see ``FeatureFiles``."""
    frames = files.read(entry)
    return frames - frames.mean(axis=0) if config.mean == "item" else frames


def with_deltas(frames: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Append differences over time, ``times`` over: ``(n, F)`` to ``(n, F * (1 + times))``."""
    parts = [frames]
    for _ in range(times):
        parts.append(deltas(parts[-1]))
    return np.concatenate(parts, axis=1)


def deltas(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slope of the regression over two frames to each side, as HTK and Kaldi have it; the edges are repeated."""
    padded = np.pad(frames, ((2, 2), (0, 0)), mode="edge")
    slope: NDArray[np.float32] = (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / np.float32(10)
    return slope


def move_frames(
    frames: NDArray[np.float32],
    config: AugmentConfig,
    *,
    units_per_second: float,
    rng: np.random.Generator,
    min_frames: int,
) -> Moved:
    """Return a copy with quiet frames in front and another speed; of ``config``, ``lead_in_s`` and ``speed`` count.

    Args:
        frames: ``(n, F)``; not changed.
        config: what may happen.
        units_per_second: frames.
        rng: where the draws come from.
        min_frames: shortest length the reference still fits in; a speed that goes below is not used.
    """
    lead_in = int(rng.uniform(*config.lead_in_s) * units_per_second) if config.lead_in_s[1] > 0 else 0
    if lead_in:
        frames = np.concatenate([quiet_frames(frames, lead_in, rng), frames])
    speed = float(rng.choice(config.speed))
    if speed == 1.0 or len(frames) / speed < min_frames + 1:
        return Moved(frames, 1.0, lead_in)
    return Moved(resampled(frames, speed), speed, lead_in)


def quiet_frames(frames: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Make ``(count, F)`` of the quietest stretch of an item, to and fro, so that neighbours stay neighbours.

    Loudness is the sum of a frame: of log energies it is the loudness, and c0 rules that of cepstra.
    """
    length = min(QUIET_FRAMES, len(frames))
    sums = np.concatenate([[0.0], np.cumsum(frames.sum(axis=1, dtype=np.float64))])
    start = int(np.argmin(sums[length:] - sums[:-length]))
    turn = np.concatenate([np.arange(length), np.arange(length - 2, 0, -1)])
    chosen: NDArray[np.float32] = frames[start + turn[(int(rng.integers(len(turn))) + np.arange(count)) % len(turn)]]
    return chosen


def resampled(frames: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Frames at ``speed`` times the speed, on the straight line between neighbours: frame t is from ``speed * t``."""
    places = np.minimum(np.arange(max(1, int(len(frames) / speed))) * speed, len(frames) - 1)
    left = np.minimum(places.astype(np.int64), max(0, len(frames) - 2))
    share = (places - left).astype(np.float32)[:, None]
    right = np.minimum(left + 1, len(frames) - 1)
    between: NDArray[np.float32] = frames[left] * (1 - share) + frames[right] * share
    return between
