"""Label interpolation: the output layer itself learns from labels and from a language model. The older way.

Bai et al., "Learn Spelling from Teachers" (arXiv 1907.06017) for attention models; for CTC, Futami et al. (arXiv
2209.02030) put the distributions on the frames of "the most plausible CTC paths". The language model's tokens must be
the student's. What speaks against it: acoustics and text ask different things of one layer, the layer's posteriors are
biased where they decode, and a language model that is fused later counts twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from kdcompress.losses.ctc import ctc
from kdcompress.losses.unit_targets import Placement, TextLoss, cross_entropy, path_frames, placed

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.losses.base import Signals


class LabelInterpolationLoss(TextLoss):
    """``(1 - share) * CTC + share * cross-entropy(language model, student)`` over the frames of units.

    The cross-entropy is summed over the frames of units and divided by all valid frames, as CTC is.
    """

    kind: Literal["label_interpolation"] = "label_interpolation"
    """Selects this loss."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Of the language model; the rest is the text's."""
    placement: Placement = "path"
    """Where the units are: on the student's most plausible path, or in ``distill.alignment``."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the language model's distributions; above 1 they are flatter."""

    @property
    def needs_alignment(self) -> bool:
        """See ``LossConfig.needs_alignment``."""
        return self.placement == "alignment"

    @property
    def needs_own_tokens(self) -> bool:
        """See ``LossConfig.needs_own_tokens``."""
        return True

    def __call__(self, signals: Signals) -> Tensor:
        """See the class."""
        said, lens, blank = signals.log_probs, signals.frame_lens, signals.blank_id
        value = (1 - self.share) * ctc(said, lens, signals.labels, signals.label_lens, blank)
        targets = self.targets(signals, self.temperature)
        if targets.tokens is None:
            raise ValueError("label interpolation needs a language model over the student's tokens")
        frames = targets.frames
        if self.placement == "path" or frames is None:
            frames = path_frames(said, lens, targets, blank)
        at = placed(targets, frames, lens, self.delay_frames)
        text = cross_entropy(said[at.where].float(), targets.tokens[at.ids], at.log_probs, blank).sum() / lens.sum()
        return value + self.share * text
