"""What the tests of teachers share: a batch, as a teacher hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdcompress.data.batch import collate
from kdcompress.hearing import Heard
from kdcompress.recipe import Recipe

if TYPE_CHECKING:
    from kdcompress.teachers.teacher import Said, Teacher

RECIPE = Recipe.model_validate(
    {
        "schema": 1,
        "name": "given",
        "data": {"train": "train.jsonl"},
        "model": {"kind": "separable_conv", "width": 8, "depth": 2, "kernel": 9},
    }
)


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes, float32."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    swell = 0.6 + 0.4 * np.sin(np.arange(samples) * 20 / rate)
    return (0.1 * swell * rng.standard_normal(samples)).astype(np.float32)


def heard(items: list[np.ndarray], rate: int, views: int = 1) -> Heard:
    """A batch of one rate; teachers from elsewhere look at nothing else."""
    many = range(len(items))
    batch = collate(items, [[1]] * len(items), ["a"] * len(items), list(many), items=list(many), sample_rate=rate)
    return Heard(
        batch=batch,
        recipe=RECIPE,
        features=torch.zeros(views * len(items), 1, 1),
        frame_lens=torch.ones(views * len(items), dtype=torch.int64),
        labels=batch.labels.repeat(views, 1),
        label_lens=batch.label_lens.repeat(views),
        views=views,
    )


def answers(teacher: Teacher, items: list[np.ndarray], **how: Any) -> list[torch.Tensor]:
    """Valid log-probabilities ``(T, V)`` of each item."""
    return rows(teacher.answer(heard(items, teacher.info.sample_rate or 0, **how)))


def rows(said: Said) -> list[torch.Tensor]:
    """Valid log-probabilities of an answer, item by item; each frame is a distribution."""
    assert said.log_probs is not None
    assert said.log_probs.isfinite().all()
    assert said.log_probs.dtype == torch.float32
    torch.testing.assert_close(said.log_probs.exp().sum(2), torch.ones(said.log_probs.shape[:2]), atol=1e-4, rtol=0)
    return [one[:count] for one, count in zip(said.log_probs, said.frame_lens.tolist(), strict=True)]
