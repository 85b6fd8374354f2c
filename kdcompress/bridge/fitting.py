"""Texts that a student cannot align are left out; where none is left there is the reference: no item goes silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from kdcompress.losses.base import Hypotheses

if TYPE_CHECKING:
    from torch import Tensor


class Fitted(NamedTuple):
    """What is left of the texts of a batch."""

    hypotheses: Hypotheses
    """Those that fit, weights of an item one again; references where there are none."""
    too_long: int
    """Texts that needed more frames than their items have."""
    references: int
    """Items that learn from their reference instead."""


def fitted_texts(found: Hypotheses, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Fitted:
    """Leave out texts that are too long for CTC, and give references to items without a text.

    Args:
        found: texts in the student's tokens, some of any weight.
        frame_lens: frames of the student, ``(N,)`` int64.
        labels: references in the student's tokens, ``(N, U)`` int64.
        label_lens: ``(N,)`` int64; an item without a reference is left without a text.
    """
    told = found.weights > 0
    fits = frames_of_texts(found.labels, found.label_lens) <= frame_lens[found.items]
    kept = told & fits
    items, weights = found.items[kept], found.weights[kept]
    total = weights.new_zeros(len(frame_lens)).index_add_(0, items, weights)
    alone = ((total == 0) & (label_lens > 0)).nonzero()[:, 0]
    if bool(fits.all()) and not len(alone):
        return Fitted(found, 0, 0)
    width = max(found.labels.shape[1], labels.shape[1])
    texts = [F.pad(part, (0, width - part.shape[1])) for part in (found.labels[kept], labels[alone])]
    left = Hypotheses(
        torch.cat([items, alone]),
        torch.cat(texts),
        torch.cat([found.label_lens[kept], label_lens[alone]]),
        torch.cat([weights / total[items], weights.new_ones(len(alone))]),
    )
    return Fitted(left if len(left.items) else _nothing(found), int((told & ~fits).sum()), len(alone))


def frames_of_texts(labels: Tensor, label_lens: Tensor) -> Tensor:
    """Shortest CTC alignment of each of ``(H, U)``: a frame a label, and a blank between two equal ones; ``(H,)``."""
    places = torch.arange(1, labels.shape[1], device=labels.device)
    doubled = (labels[:, 1:] == labels[:, :-1]) & (places < label_lens[:, None])
    return label_lens + doubled.sum(dim=1)


def _nothing(found: Hypotheses) -> Hypotheses:
    """One empty text of no weight: a loss needs one to return something."""
    zero = found.label_lens.new_zeros(1)
    return Hypotheses(zero, zero[:, None], zero, found.weights.new_zeros(1))
