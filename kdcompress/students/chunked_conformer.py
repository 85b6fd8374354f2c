"""Chunked conformer with explicit caches: attention over a limited past, the same answer for any size of step."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from torch import Tensor, nn

from kdcompress.conformer_layers import ConformerBlock, Stacking, band
from kdcompress.students.base import Encoded, Student, spread
from kdcompress_runtime.bundle import BATCH_AXIS, StateSpec

if TYPE_CHECKING:
    from kdcompress.model_settings import ChunkedConformerConfig
    from kdcompress.network import Frontend


class ChunkedConformerStudent(Student):
    """Stacked features, ``depth`` conformer blocks, linear head (after Conformer, arXiv 2005.08100).

    Attention looks back ``left_frames`` in each block; the look-ahead is spread over the blocks' convolutions, and
    what attention sees has itself heard the look-ahead of the blocks before. A count of the frames seen, which stops
    at ``left_frames``, keeps attention from the empty cache at the start of a stream.
    """

    def __init__(self, config: ChunkedConformerConfig, frontend: Frontend, num_tokens: int) -> None:
        super().__init__(frontend, config.subsampling_factor)
        size = config.resolved()
        self.lookahead_frames = config.lookahead_frames
        self.width, self.heads, self.left, self.kernel = size.width, config.heads, config.left_frames, size.kernel
        self.rights = spread(config.lookahead_frames, size.depth)
        self.subsampling = Stacking(frontend.feature_dim, size.width, config.subsampling_factor)
        self.blocks = nn.ModuleList(
            ConformerBlock(
                size.width,
                heads=config.heads,
                left=config.left_frames,
                kernel=size.kernel,
                right=right,
                expansion=config.expansion,
                dropout=config.dropout,
            )
            for right in self.rights
        )
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, num_tokens)

    def encoder_state_specs(self) -> tuple[StateSpec, ...]:
        """Return the count of frames seen, the last stack of features, and the caches of each block."""
        specs = [
            StateSpec("frames_seen", (BATCH_AXIS,), "int64"),
            StateSpec("subsampling_cache", (BATCH_AXIS, 1, self.subsampling.stacked)),
        ]
        for index, right in enumerate(self.rights):
            head_width = self.width // self.heads
            specs += [
                StateSpec(f"block{index}_attention", (BATCH_AXIS, 2 * self.heads, self.left, head_width)),
                StateSpec(f"block{index}_convolution", (BATCH_AXIS, self.width, self.kernel - 1)),
            ]
            specs += [StateSpec(f"block{index}_residual", (BATCH_AXIS, right, self.width))] * (right > 0)
        return tuple(specs)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Every block is as wide as the head's input."""
        return (self.width,) * len(self.rights)

    @property
    def hidden_lags(self) -> tuple[int, ...]:
        """The look-ahead of a block and of those before it."""
        return tuple(itertools.accumulate(self.rights))

    def encode(self, features: Tensor, states: dict[str, Tensor]) -> Encoded:
        """See ``Student.encode``."""
        following: dict[str, Tensor] = {}
        seen = states["frames_seen"]
        frames, following["subsampling_cache"] = self.subsampling(
            self.feature_norm(features), states["subsampling_cache"]
        )
        length = frames.shape[1]
        following["frames_seen"] = (seen + length).clamp(max=self.left)
        visible = band(length, self.left, seen)
        hidden = []
        for index, block in enumerate(self.blocks):
            prefix = f"block{index}_"
            mine = {name.removeprefix(prefix): state for name, state in states.items() if name.startswith(prefix)}
            frames, after = block(frames, mine, visible)
            following.update({prefix + name: state for name, state in after.items()})
            hidden.append(frames)
        log_probs = self.head(self.norm(frames)).log_softmax(dim=2)
        return Encoded(log_probs, following, tuple(hidden))
