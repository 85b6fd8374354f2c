"""The one place that says how each task turns manifests into batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.data.features import FeatureBatches, feature_evaluation_batches, feature_items
from kdcompress.data.speech import TrainingBatches, evaluation_batches, speech_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcompress.data.batch import Batch
    from kdcompress.data.batches import StepBatches
    from kdcompress.data.items import Items


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


TASKS = {
    "speech": Task(TrainingBatches, speech_items, evaluation_batches),
    "features": Task(FeatureBatches, feature_items, feature_evaluation_batches),
}
"""By the ``task`` of a recipe."""
