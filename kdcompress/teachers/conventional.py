"""A larger full-context CTC network: the ordinary teacher, and the Oracle Teacher's twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import SeparableConvBlock, Subsampling, frame_mask
from kdcompress.network import CtcNetwork, Outputs

if TYPE_CHECKING:
    from kdcompress.model_settings import ConventionalConfig, EncoderConfig
    from kdcompress.network import Frontend


class FullContextEncoder(nn.Module):
    """Separable convolution blocks that look both ways; frames after the end of an item are kept at zero."""

    def __init__(self, config: EncoderConfig, feature_dim: int, subsampling_factor: int) -> None:
        super().__init__()
        self.subsampling = Subsampling(feature_dim, config.width, subsampling_factor)
        self.blocks = nn.ModuleList(
            SeparableConvBlock(config.width, config.kernel, config.kernel // 2, config.expansion, config.dropout)
            for _ in range(config.depth)
        )

    def forward(self, normalised: Tensor, frame_lens: Tensor) -> tuple[Tensor, ...]:
        """Features ``(N, T * factor, F)`` to frames ``(N, T, C)`` after each block."""
        factor = self.subsampling.factor
        frames = normalised.shape[1] // factor
        mask = frame_mask(frame_lens, frames)[:, None, :]
        inside = mask.repeat_interleave(factor, dim=2)
        hidden = self.subsampling(F.pad(normalised.transpose(1, 2) * inside, (factor, 0))) * mask
        encoded = []
        for block in self.blocks:
            if isinstance(block, SeparableConvBlock):
                hidden = block.whole(hidden) * mask
                encoded.append(hidden.transpose(1, 2))
        return tuple(encoded)


class ConventionalTeacher(CtcNetwork):
    """Full-context convolution encoder and a linear head."""

    def __init__(self, config: ConventionalConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        self.encoder = FullContextEncoder(config.encoder, frontend.feature_dim, config.subsampling_factor)
        self.head = nn.Linear(config.encoder.width, num_tokens)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Every block is as wide as the head's input."""
        return (self.head.in_features,) * len(self.encoder.blocks)

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:  # noqa: ARG002
        """See ``CtcNetwork.outputs``; labels are not looked at."""
        hidden = self.encoder(self.feature_norm(features), frame_lens)
        return Outputs(self.head(hidden[-1]).float().log_softmax(dim=2), hidden)
