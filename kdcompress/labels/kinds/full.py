"""All posteriors in float16: a student learns from them as from the teacher itself, for 2 V bytes a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from kdcompress.labels.kinds.base import SMALLEST_LOG_PROB, LabelKind, Layout, frames_of, posteriors, stacked
from kdcompress.teachers.teacher import Said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.labels.kinds.base import Arrays, Reference
    from kdcompress.losses.base import Answer


class Full(LabelKind):
    """Log-probabilities ``(T, V)`` float16; their probabilities sum to one within 1/1000."""

    needs: ClassVar[tuple[Answer, ...]] = ("log_probs",)
    gives: ClassVar[Answer] = "log_probs"

    def __init__(self, num_tokens: int) -> None:
        self.layout = {"log_probs": Layout("frames", "<f2", (num_tokens,))}

    def encode(self, said: Said, reference: Reference) -> list[Arrays]:  # noqa: ARG002
        """See ``LabelKind.encode``."""
        log_probs = posteriors(said).clamp(min=SMALLEST_LOG_PROB).half()
        return [{"log_probs": frames} for frames in frames_of(log_probs, said.frame_lens)]

    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:  # noqa: ARG002
        """See ``LabelKind.decode``."""
        device = frame_lens.device
        return Said(frame_lens, stacked([item["log_probs"] for item in items], device, torch.float32))
