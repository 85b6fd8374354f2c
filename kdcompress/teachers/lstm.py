"""A recurrent CTC teacher: layers of LSTM that read both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import BothWays, Subsampling, frame_mask
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.model_settings import LstmConfig
    from kdcompress.network import Frontend


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
