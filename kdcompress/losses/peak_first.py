"""Peak-first regularisation (Tian et al., arXiv 2211.03284): a student that streams learns to answer earlier.

Each frame is pulled towards what the model itself says one frame later, so that over an update spikes move to the left.
Known here from its abstract and from later work; the form is theirs, the weight is not known. The shift has an end only
in what the other losses allow: keep ``weight`` small beside CTC, and watch the error rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.base import LossConfig
from kdcompress.losses.frames import LOG_ZERO, delay

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def peak_first(log_probs: Tensor, frame_lens: Tensor) -> Tensor:
    """``sum over t of KL(sg(p_{t+1}) || p_t)`` inside each item, divided by the number of valid frames.

    Args:
        log_probs: ``(N, T, V)``.
        frame_lens: valid frames, ``(N,)`` int64.

    Returns:
        Scalar, float32.
    """
    later, now, inside = delay(log_probs, log_probs, frame_lens, 1)
    target = later[inside].detach().float().clamp(min=LOG_ZERO)
    return F.kl_div(now[inside].float(), target, reduction="sum", log_target=True) / frame_lens.sum()


class PeakFirstLoss(LossConfig):
    """Each frame learns from the next one; no teacher."""

    kind: Literal["peak_first"] = "peak_first"
    """Selects this loss."""
    weight: float = Field(default=0.1, ge=0)
    """Factor in the sum; small, see the file."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``peak_first``."""
        return peak_first(signals.log_probs, signals.frame_lens)
