"""Scene text: manifests of images of lines -> batches of columns. Input units are columns at the model's height."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress.data.batch import Batch, collate
from kdcompress.data.batches import StepBatches, items_of, read_together
from kdcompress.data.image_augment import augment_image
from kdcompress.data.reading import read_pixels
from kdcompress.image_frontend import ImageConfig
from kdcompress_runtime.images import columns_of, to_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.data.items import Item, Items
    from kdcompress.recipe import Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary


class LineBatches(StepBatches):
    """Lines, distorted, as columns."""

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
        items = line_items(recipe.data.train, recipe, vocabulary, units_per_frame, keep)
        super().__init__(recipe, items, streams=streams, rank=rank, world=world)

    def read(self, items: Sequence[Item], seeds: Sequence[int], streams: Sequence[int]) -> Batch:
        """See ``StepBatches.read``."""
        seen = [self._read(item, seed) for item, seed in zip(items, seeds, strict=True)]
        return collate(
            [columns for columns, _ in seen],
            [item.labels for item in items],
            [item.entry.text for item in items],
            seeds,
            items=[item.number for item in items],
            times=[times for _, times in seen],
            streams=streams,
        )

    def _read(self, item: Item, seed: int) -> tuple[NDArray[np.float32], tuple[float, float]]:
        """Columns of an item; what is at column x is at ``factor * x - offset`` of the item as it was."""
        image = read_pixels(item.entry.input, self.config.channels)
        height, width = image.shape[:2]
        before = columns_of(width, height, self.config.height)
        lead_in = 0.0
        if self.recipe.augment.image is not None:
            changed = augment_image(image, self.recipe.augment.image, np.random.default_rng(seed))
            if columns_of(changed.image.shape[1], height, self.config.height) >= item.min_units:
                image, lead_in = changed.image, changed.lead_in * before / width
            # else squeezed too much for its text
        columns = to_columns(image, self.config.height, self.config.channels).astype(np.float32)
        # the factor makes the last column the last one of the item: what was put on or cut off on the right spreads
        # over the line, under a column on average, and answers about the item fit to the end
        return columns, ((before + lead_in) / len(columns), lead_in)


def line_items(
    manifest: Path, recipe: Recipe, vocabulary: Vocabulary, units_per_frame: int, keep: Path | None = None
) -> Items:
    """Items of a manifest of images; see ``items_of``. Where a line has no width and height, the image is opened."""
    config = settings_of(recipe)

    def columns(entry: ManifestEntry) -> float:
        width, height = entry.extra.get("width"), entry.extra.get("height")
        if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
            height, width = read_pixels(entry.input).shape[:2]
        return columns_of(width, height, config.height)

    return items_of(manifest, recipe, vocabulary, units_per_frame, keep, kind="image", seconds=columns)


def line_evaluation_batches(items: Sequence[Item], recipe: Recipe, rates: Sequence[int] = ()) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once. ``rates`` are those of audio."""
    del rates
    config = settings_of(recipe)
    for part in read_together(items, recipe):
        yield collate(
            [read_columns(item.entry, config) for item in part],
            [item.labels for item in part],
            [item.entry.text for item in part],
            [0] * len(part),
            items=[item.number for item in part],
        )


def settings_of(recipe: Recipe) -> ImageConfig:
    """Settings of the frontend of a recipe for images."""
    if not isinstance(recipe.frontend, ImageConfig):
        raise TypeError(f"{recipe.name}: task {recipe.task} has no images")  # recipes are checked; a caller is wrong
    return recipe.frontend


def read_columns(entry: ManifestEntry, config: ImageConfig) -> NDArray[np.float32]:
    """Columns of an item ``(columns, height * channels)``, 0 to 255; for the errors see ``read_pixels``."""
    pixels = read_pixels(entry.input, config.channels)
    return to_columns(pixels, config.height, config.channels).astype(np.float32)
