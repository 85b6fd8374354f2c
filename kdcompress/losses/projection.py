"""The head of losses that look at one block of the student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from kdcompress.losses.base import Head

if TYPE_CHECKING:
    from kdcompress.network import Outputs


class Projection(Head):
    """A linear layer on one block."""

    def __init__(self, layer: int, width: int, size: int) -> None:
        """Map block ``layer`` of ``width`` channels to ``size``."""
        super().__init__()
        self.layer = layer
        self.linear = nn.Linear(width, size)

    def forward(self, outputs: Outputs, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:  # noqa: ARG002
        """``(N, T, size)`` float32."""
        projected: Tensor = self.linear(outputs.hidden[self.layer]).float()
        return projected
