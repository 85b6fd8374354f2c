"""A teacher inside the student: one streaming backbone, and a branch that also sees the reference text.

Yoon, "Heuristic-free Knowledge Distillation for Streaming ASR via Multi-modal Training" (AAAI 2025), known here from
summaries: the branch attends from the backbone's frames to the text by cross-attention, is trained by CTC, and its
posterior is the student's frame target. Both hear the same frames at the same time, so no delay has to be found. The
branch has seen the answer: it is never reported as a recogniser, and it is gone after training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcompress.layers import frame_mask
from kdcompress.losses.base import Head, LossConfig, Shapes, Signals
from kdcompress.losses.ctc import ctc
from kdcompress.losses.frame_kl import frame_kl
from kdcompress.losses.frames import pair_frames
from kdcompress.teachers.oracle import FusionBlock, hide_labels, label_keys, placed

if TYPE_CHECKING:
    from kdcompress.network import Outputs


class TextBranch(Head):
    """Fusion blocks on a block of the backbone, keys and values from the labels, linear CTC head."""

    def __init__(self, config: InPlaceLoss, shapes: Shapes) -> None:
        super().__init__()
        width = shapes.hidden_dims[config.layer]
        self.config = config
        self.mask_id = shapes.num_tokens
        self.embedding = nn.Embedding(shapes.num_tokens + 1, width)
        self.fusion = nn.ModuleList(
            FusionBlock(width, config.heads, 0.0, self_attention=False) for _ in range(config.fusion_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, shapes.num_tokens)

    def forward(self, outputs: Outputs, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """Log-probabilities ``(N, T, V)`` float32."""
        source = outputs.hidden[self.config.layer]
        if self.config.detach:
            source = source.detach()
        labels = hide_labels(labels, self.config.label_mask_prob if self.training else 0.0, self.mask_id)
        keys, padded_target = label_keys(labels, label_lens, self.mask_id)
        source, target = placed(source, self.embedding(keys), self.config.positions)
        padded_source = ~frame_mask(frame_lens, source.shape[1])
        for block in self.fusion:
            source = block(source, padded_source, target, padded_target)
        said: Tensor = self.classify(self.norm(source)).float().log_softmax(dim=2)
        return said


class InPlaceLoss(LossConfig):
    """``KL(branch || student) + teacher_ctc * CTC(branch)``; the student's own CTC is the ``ctc`` loss beside it."""

    kind: Literal["in_place"] = "in_place"
    """Selects this loss."""
    teacher_ctc: float = Field(default=1.0, ge=0)
    """Weight of the branch's own CTC, relative to the KL."""
    layer: int = -1
    """Block of the backbone that the branch reads, from 0; negative ones count from the end."""
    fusion_depth: int = Field(default=1, ge=1)
    """Blocks in which frames attend to the labels."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; the backbone's width must be a multiple."""
    positions: Literal["none", "source", "target", "both"] = "none"
    """Where positions are encoded, as in the Oracle Teacher."""
    label_mask_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the labels hidden from the branch."""
    detach: bool = False
    """Whether the branch's CTC is kept from training the backbone."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the KL, on both sides."""

    @model_validator(mode="after")
    def _check(self) -> InPlaceLoss:
        if not self.teacher_ctc and self.weight:
            raise ValueError("in_place: with teacher_ctc 0 nothing trains the branch")
        return self

    def head(self, shapes: Shapes) -> Head:
        """Build the branch.

        Raises:
            ValueError: the block's width cannot be divided among the attention heads.
        """
        width = shapes.hidden_dims[self.layer]
        if width % self.heads:
            raise ValueError(f"the block's width {width} is not divisible by heads {self.heads}")
        return TextBranch(self, shapes)

    def __call__(self, signals: Signals) -> Tensor:
        """See the class."""
        said, lens, blank = signals.from_head(), signals.frame_lens, signals.blank_id
        taught = frame_kl(pair_frames(signals.log_probs, said, lens, blank_id=blank), self.temperature)
        return taught + self.teacher_ctc * ctc(said, lens, signals.labels, signals.label_lens, blank)
