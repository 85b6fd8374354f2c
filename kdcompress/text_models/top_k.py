"""The most probable units of each place, and what is left: how scores are kept small."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcompress.text_models.network_model import LEAST_LOG_PROB
from kdcompress.text_models.text_model import Scores

if TYPE_CHECKING:
    from torch import Tensor


class TopK(NamedTuple):
    """The k most probable of V units, the most probable first."""

    ids: Tensor
    """``(U, k)`` int64."""
    log_probs: Tensor
    """Natural logarithms, as they were among all V, ``(U, k)`` float32."""


def top_k(scores: Scores | Tensor, k: int) -> TopK:
    """Keep the ``k`` most probable units of each place; all of them where there are no more.

    Args:
        scores: of a text, or its log-probabilities ``(U, V)``.
        k: at least 1.
    """
    log_probs = scores.log_probs if isinstance(scores, Scores) else scores
    values, ids = log_probs.topk(min(k, log_probs.shape[1]), dim=1)
    return TopK(ids, values.float())


def spread(kept: TopK, units: int) -> Tensor:
    """Give what was left out to all other units alike; ``(U, V)`` float32 log-probabilities that sum to one.

    Args:
        kept: of ``top_k``.
        units: V.
    """
    count, k = kept.ids.shape
    if k >= units:
        return torch.empty(count, units).scatter_(1, kept.ids, kept.log_probs)
    left = (1.0 - kept.log_probs.double().exp().sum(dim=1, keepdim=True)).clamp(min=0.0)
    even = (left.log() - math.log(units - k)).clamp(min=LEAST_LOG_PROB).float()
    return even.repeat(1, units).scatter_(1, kept.ids, kept.log_probs)
