"""A recurrent CTC teacher: layers of LSTM that read both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from kdcompress.layers import Subsampling
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.network import Frontend
    from kdcompress.recipe import LstmConfig


class LstmTeacher(CtcNetwork):
    """Subsampling convolution, ``depth`` bidirectional LSTM layers, linear head."""

    def __init__(self, config: LstmConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        self.subsampling = Subsampling(frontend.feature_dim, config.width, config.subsampling_factor)
        self.layers = nn.ModuleList(
            nn.LSTM(width, config.width, batch_first=True, bidirectional=True)
            for width in (config.width, *[2 * config.width] * (config.depth - 1))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.width, num_tokens)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Every layer, both directions side by side."""
        return (self.head.in_features,) * len(self.layers)

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:  # noqa: ARG002
        """See ``CtcNetwork.outputs``; labels are not looked at."""
        factor = self.subsampling_factor
        normalised = self.feature_norm(features).transpose(1, 2)
        frames = self.subsampling(F.pad(normalised, (factor, 0))).transpose(1, 2)
        # Packed, so that the backward direction starts at the end of each item and not in its padding.
        packed = pack_padded_sequence(frames, frame_lens.cpu(), batch_first=True, enforce_sorted=False)
        hidden = []
        for layer in self.layers:
            following, _ = layer(packed)
            packed = PackedSequence(self.dropout(following.data), *following[1:])
            hidden.append(pad_packed_sequence(packed, batch_first=True, total_length=frames.shape[1])[0])
        return Outputs(self.head(hidden[-1]).float().log_softmax(dim=2), tuple(hidden))
