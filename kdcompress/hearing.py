"""A batch as losses and teachers see it: features under masks, each item once for every view."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from kdcompress.data.augment import mask_features

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe
    from kdcompress.teachers.teacher import Said


@dataclass(frozen=True)
class Heard:
    """A batch as the student's loss sees it: masked, and each item once for every view."""

    batch: Batch
    recipe: Recipe
    """The student's."""
    features: Tensor
    """The student's features, masked, ``(views * N, T', F)``."""
    frame_lens: Tensor
    """Valid frames of the student, ``(views * N,)``."""
    labels: Tensor
    """In the student's tokens, ``(views * N, U)``."""
    label_lens: Tensor
    """``(views * N,)``."""
    views: int
    """Differently masked copies of the batch, one after the other."""
    answers: dict[Path, Said] = field(default_factory=dict)
    """What teachers have said of all of it already, by where they were read."""

    def at_rate(self, sample_rate: int | None) -> Batch:
        """Return the batch as a teacher of that sample rate hears it, unmasked, each item once.

        Raises:
            KeyError: the batch was not read for such a teacher.
        """
        return self.batch if sample_rate is None else self.batch.at_rate(sample_rate)


Memo = dict[tuple[int, int], Heard]
"""What was computed from one batch, by views and look-ahead."""


def hear(network: CtcNetwork, recipe: Recipe, batch: Batch, memo: Memo | None = None) -> Heard:
    """Features under masks, once for each view that a loss asks for.

    ``memo`` holds what runs that train side by side have heard of this batch; what is new is added.
    """
    memo = {} if memo is None else memo
    views = max(loss.views for loss in recipe.losses)
    key = (views, network.lookahead_frames)
    if key not in memo:
        memo[key] = Heard(
            batch=batch,
            recipe=recipe,
            features=masked_views(network.features(batch.inputs), network, batch, recipe, views),
            frame_lens=network.frame_lens(batch.input_lens).repeat(views),
            labels=batch.labels.repeat(views, 1),
            label_lens=batch.label_lens.repeat(views),
            views=views,
        )
    return memo[key]


def hear_plainly(network: CtcNetwork, recipe: Recipe, batch: Batch) -> Heard:
    """One view without masks: held-out items, and items to be labelled."""
    return Heard(
        batch=batch,
        recipe=recipe.model_copy(update={"augment": recipe.augment.model_copy(update={"spec": None})}),
        features=network.features(batch.inputs),
        frame_lens=network.frame_lens(batch.input_lens),
        labels=batch.labels,
        label_lens=batch.label_lens,
        views=1,
    )


def masked_views(features: Tensor, network: CtcNetwork, batch: Batch, recipe: Recipe, views: int) -> Tensor:
    """Copies of ``features (N, T', F)`` under different masks: ``(views * N, T', F)``."""
    spec = recipe.augment.spec
    if spec is None:
        return torch.cat([features] * views)
    lengths = network.frame_lens(batch.input_lens) * network.subsampling_factor
    fill = network.feature_norm.mean
    return torch.cat([mask_features(features, lengths, fill, spec, batch.seeds, view) for view in range(views)])
