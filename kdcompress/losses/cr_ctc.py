"""Consistency regularisation of CTC (Yao et al., ICLR 2025, arXiv 2410.05101): two masked views teach each other.

No teacher is needed. The paper masks 2.5 times as much time as usual (``augment.spec.time_masks``, ``time_fraction``)
and halves the batch, since an update costs twice; and it warms the weight up: without the ramp small students collapse
to blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import frame_mask
from kdcompress.losses.base import LossConfig, Ramp

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def consistency(log_probs: Tensor, frame_lens: Tensor) -> Tensor:
    """``1/2 * sum of KL(sg(b) || a) + KL(sg(a) || b)`` over valid frames, divided by their number in one view.

    Args:
        log_probs: ``(2N, T, V)``: the N items under one mask, then the same items under another.
        frame_lens: valid frames, ``(2N,)`` int64; both halves are equal.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the halves are not of the same items.
    """
    one, two = frame_lens[: len(frame_lens) // 2], frame_lens[len(frame_lens) // 2 :]
    if not torch.equal(one, two):
        raise ValueError(f"two views of the same items have the same frames, found {frame_lens.tolist()}")
    first, second = log_probs.float().chunk(2)
    valid = frame_mask(one, log_probs.shape[1])
    first, second = first[valid], second[valid]
    there = F.kl_div(first, second.detach(), reduction="sum", log_target=True)
    back = F.kl_div(second, first.detach(), reduction="sum", log_target=True)
    return (there + back) / 2 / valid.sum()


class CrCtcLoss(LossConfig):
    """Consistency of two views. The ``ctc`` loss beside it is the mean over both."""

    views: ClassVar[int] = 2

    kind: Literal["cr_ctc"] = "cr_ctc"
    """Selects this loss."""
    weight: float = Field(default=0.2, ge=0)
    """The paper's."""
    ramp: Ramp | None = Ramp(end=0.2)
    """The warm-up that keeps it from collapsing."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``consistency``."""
        return consistency(signals.log_probs, signals.frame_lens)
