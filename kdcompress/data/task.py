"""The one place that says how each task turns manifests into batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.data.features import FeatureBatches, feature_evaluation_batches, feature_items
from kdcompress.data.scene_text import LineBatches, line_evaluation_batches, line_items
from kdcompress.data.speech import TrainingBatches, evaluation_batches, speech_items
from kdcompress.data.translation import (
    SentenceBatches,
    sentence_evaluation_batches,
    sentence_items,
    with_source_table,
    without_source_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcompress.data.batch import Batch
    from kdcompress.data.batches import StepBatches
    from kdcompress.data.items import Items
    from kdcompress.recipe import AnyFrontend, Recipe


def as_it_is(recipe: Recipe, taught_by: Sequence[AnyFrontend] = ()) -> Recipe:
    """Return a recipe that says all there is to say of its inputs."""
    del taught_by
    return recipe


@dataclass(frozen=True)
class Task:
    """Readers of one kind of input."""

    training_batches: Callable[..., StepBatches]
    """``(recipe, vocabulary, *, units_per_frame, teacher_rates, streams, rank, world, keep)``; batch k is a function of
    seed and k."""
    items: Callable[..., Items]
    """Items of a manifest: ``(manifest, recipe, vocabulary, units_per_frame, keep=None)``; ``keep`` is a folder where
    the next start finds what one pass over a long manifest told."""
    evaluation_batches: Callable[..., Iterator[Batch]]
    """``(items, recipe, rates=())``: every item once, not augmented; for teachers at other sample rates, too."""
    inputs: str = "audio"
    """``ManifestEntry.kind`` of its items."""
    resolved: Callable[[Recipe, Sequence[AnyFrontend]], Recipe] = as_it_is
    """``(recipe, frontends of the teachers and of the start)``: the recipe with what only the data can tell of its
    inputs; the run keeps it."""
    asked: Callable[[Recipe], Recipe] = as_it_is
    """A recipe as it was before ``resolved``."""


TASKS = {
    "speech": Task(TrainingBatches, speech_items, evaluation_batches),
    "features": Task(FeatureBatches, feature_items, feature_evaluation_batches, "features"),
    "scene_text": Task(LineBatches, line_items, line_evaluation_batches, "image"),
    "translation": Task(
        SentenceBatches,
        sentence_items,
        sentence_evaluation_batches,
        "text",
        with_source_table,
        without_source_table,
    ),
}
"""By the ``task`` of a recipe."""
