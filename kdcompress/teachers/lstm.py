"""A recurrent CTC teacher: layers of LSTM that read both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import Subsampling, frame_mask
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.model_settings import LstmConfig
    from kdcompress.network import Frontend


class BothWays(nn.Module):
    """An LSTM from the start of each item and one from its end, side by side, then a layer norm.

    Without the norm CTC stays at "all blank" for hundreds of updates. Items are turned round by hand and not packed:
    on a CPU, training on packed sequences takes three times as long.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(inputs, cells, batch_first=True)
        self.homeward = nn.LSTM(inputs, cells, batch_first=True)
        self.norm = nn.LayerNorm(2 * cells)

    def forward(self, frames: Tensor, turned: Tensor) -> Tensor:
        """``(N, T, C)`` to ``(N, T, 2 * cells)``; ``turned (N, T)`` says which frame is at t in the other order."""
        onward, _ = self.onward(frames)
        back, _ = self.homeward(_reordered(frames, turned))
        normed: Tensor = self.norm(torch.cat([onward, _reordered(back, turned)], dim=2))
        return normed


class LstmTeacher(CtcNetwork):
    """Subsampling convolution, ``depth`` bidirectional LSTM layers, linear head."""

    def __init__(self, config: LstmConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        self.subsampling = Subsampling(frontend.feature_dim, config.width, config.subsampling_factor)
        self.layers = nn.ModuleList(
            BothWays(width, config.width) for width in (config.width, *[2 * config.width] * (config.depth - 1))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.width, num_tokens)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Every layer, both directions side by side."""
        return (self.head.in_features,) * len(self.layers)

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:  # noqa: ARG002
        """See ``CtcNetwork.outputs``; labels are not looked at."""
        normalised = self.feature_norm(features).transpose(1, 2)
        frames = self.subsampling(F.pad(normalised, (self.subsampling_factor, 0))).transpose(1, 2)
        places = torch.arange(frames.shape[1], device=frames.device)[None]
        inside = frame_mask(frame_lens, frames.shape[1])
        # Padding stays behind the item, where neither direction comes before it has read the item.
        turned = torch.where(inside, frame_lens[:, None] - 1 - places, places)
        hidden = []
        for layer in self.layers:
            frames = self.dropout(layer(frames, turned)) * inside[..., None]
            hidden.append(frames)
        return Outputs(self.head(frames).float().log_softmax(dim=2), tuple(hidden))


def _reordered(frames: Tensor, order: Tensor) -> Tensor:
    return frames.gather(1, order[..., None].expand_as(frames))
