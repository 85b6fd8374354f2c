"""CTC heads on blocks in the middle: intermediate CTC, Inter-KD, self-KD. The heads are gone after training.

Intermediate CTC: Lee and Watanabe, arXiv 2102.03216. Inter-KD: Yoon et al., SLT 2022, arXiv 2211.15075: the heads learn
from the teacher, too. Self-KD: Kim et al., Interspeech 2024, arXiv 2406.07909: they learn from the student's own last
layer, over all frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcompress.losses.base import Head, LossConfig, Shapes, Signals
from kdcompress.losses.ctc import ctc
from kdcompress.losses.frame_kl import frame_kl
from kdcompress.losses.frames import pair_frames

if TYPE_CHECKING:
    from kdcompress.network import Outputs


class BlockHeads(Head):
    """A linear CTC head on each of some blocks."""

    def __init__(self, layers: tuple[int, ...], shapes: Shapes) -> None:
        super().__init__()
        self.layers = layers
        self.projections = nn.ModuleList(nn.Linear(shapes.hidden_dims[i], shapes.num_tokens) for i in layers)

    def forward(self, outputs: Outputs, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:  # noqa: ARG002
        """Log-probabilities ``(heads, N, T, V)`` float32."""
        pairs = zip(self.layers, self.projections, strict=True)
        return torch.stack([head(outputs.hidden[layer]).float().log_softmax(dim=2) for layer, head in pairs])


class InterCtcLoss(LossConfig):
    """Mean over the heads of ``ctc * CTC + teacher * KL(teacher) + own * KL(last layer)``."""

    kind: Literal["inter_ctc"] = "inter_ctc"
    """Selects this loss."""
    layers: tuple[int, ...] = Field(default=(3,), min_length=1)
    """Blocks with a head, from 0; negative ones count from the end."""
    ctc: float = Field(default=1.0, ge=0)
    """Weight of the reference text."""
    own: float = Field(default=0.0, ge=0)
    """Weight of the student's own last layer (self-KD)."""

    @model_validator(mode="after")
    def _check(self) -> InterCtcLoss:
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"{self.kind}: layers {list(self.layers)} name a block twice")
        if not (self.needs_teacher or self.ctc or self.own):
            raise ValueError(f"{self.kind}: with ctc and own both zero, nothing trains the heads")
        return self

    def head(self, shapes: Shapes) -> Head:
        """One linear layer for each block."""
        return BlockHeads(self.layers, shapes)

    def __call__(self, signals: Signals) -> Tensor:
        """See the class."""
        return torch.stack([self.of_head(said, signals) for said in signals.from_head()]).mean()

    def of_head(self, said: Tensor, signals: Signals) -> Tensor:
        """Value of one head, ``(N, T, V)``."""
        lens, blank = signals.frame_lens, signals.blank_id
        value = said.new_zeros(())
        if self.ctc:
            value = value + self.ctc * ctc(said, lens, signals.labels, signals.label_lens, blank)
        if self.own:
            value = value + self.own * frame_kl(pair_frames(said, signals.log_probs, lens, blank_id=blank))
        return value


class InterKdLoss(InterCtcLoss):
    """Inter-KD: the heads in the middle learn from the teacher."""

    needs_teacher = True

    kind: Literal["inter_kd"] = "inter_kd"  # type: ignore[assignment]
    """Selects this loss."""
    teacher: float = Field(default=1.0, ge=0)
    """Weight of the teacher's frames."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after the teacher."""

    def of_head(self, said: Tensor, signals: Signals) -> Tensor:
        """With the teacher's part."""
        target = signals.posteriors()
        pairs = pair_frames(said, target, signals.frame_lens, delay_frames=self.delay_frames, blank_id=signals.blank_id)
        return super().of_head(said, signals) + self.teacher * frame_kl(pairs)
