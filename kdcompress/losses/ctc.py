"""Connectionist temporal classification (Graves et al., ICML 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.base import LossConfig

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def ctc(log_probs: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor, blank_id: int = 0) -> Tensor:
    """Negative log-likelihood of the labels, summed over items, divided by the number of valid frames.

    Args:
        log_probs: ``(N, T, V)`` natural-log probabilities; float32 inside whatever comes in.
        frame_lens: valid frames, ``(N,)`` int64.
        labels: ``(N, U)`` int64, no blank among the valid ones.
        label_lens: valid labels, ``(N,)`` int64; zero is allowed.
        blank_id: id of the blank.

    Returns:
        Scalar. An item whose labels cannot be aligned adds nothing; data loading refuses such items.
    """
    nll = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        labels,
        frame_lens,
        label_lens,
        blank=blank_id,
        reduction="none",
        zero_infinity=True,
    )
    return nll.sum() / frame_lens.sum()


class CtcLoss(LossConfig):
    """The reference text, aligned by CTC."""

    kind: Literal["ctc"] = "ctc"
    """Selects this loss."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``ctc``."""
        return ctc(signals.log_probs, signals.frame_lens, signals.labels, signals.label_lens, signals.blank_id)
