"""Guided CTC training (Kurata and Audhkhasi, Interspeech 2019): emit where a guide emits.

Independent CTC models put their spikes on different frames, so that neither their average nor a student with another
context can agree with them frame by frame. The paper's chain for streaming has three trainings: a guide that streams,
of the student's architecture, from labels; full-context teachers from labels and this loss, with the guide as the
recipe's teacher, so that they spike when a streaming model can; and a fresh streaming student by frame KL from these
teachers, alone or averaged, without CTC. This loss with an ordinary full-context teacher as the guide of a streaming
student is not the paper's method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdcompress.losses.frames import FrameLoss, Pairs

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


def guided_ctc(pairs: Pairs) -> Tensor:
    """``- sum of p_student(best token of the guide)`` over the pairs, divided by their divisor.

    Probabilities, not logarithms, as in the paper: a frame on which the student disagrees strongly pulls little.

    Args:
        pairs: frames where the guide's best token is no blank, see ``pair_frames``.

    Returns:
        Scalar, float32; between -1 and 0.
    """
    best = pairs.teacher.argmax(dim=1, keepdim=True)
    return -pairs.student.gather(1, best).exp().sum() / pairs.divisor


class GuidedCtcLoss(FrameLoss):
    """Spikes where the guide, which is the recipe's teacher, has them."""

    kind: Literal["guided_ctc"] = "guided_ctc"
    """Selects this loss."""
    frames: Literal["nonblank"] = "nonblank"
    """The guide's spikes; there is no other choice."""

    def __call__(self, signals: Signals) -> Tensor:
        """See ``guided_ctc``."""
        guide = signals.posteriors()
        return guided_ctc(self.pairs(signals.log_probs, guide, signals.frame_lens, signals.blank_id))
