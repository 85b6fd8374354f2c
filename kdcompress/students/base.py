"""What every student is: a pure step that serves batch and stream alike."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcompress.network import CtcNetwork
from kdcompress_runtime.bundle import BATCH_AXIS

if TYPE_CHECKING:
    from kdcompress_runtime.bundle import StateSpec


class Student(CtcNetwork):
    """``step(inputs, states) -> (log_probs, next_states)``; batch recognition is one step, streaming many.

    A subclass writes ``encode`` and ``encoder_state_specs``. Output frame j of a sequence of steps describes
    input frame ``j - lookahead_frames``; whoever calls ``step`` drops the first ``lookahead_frames`` frames.
    """

    @abstractmethod
    def encoder_state_specs(self) -> tuple[StateSpec, ...]:
        """Name the states that ``encode`` carries."""

    @abstractmethod
    def encode(self, features: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn features ``(N, T * subsampling_factor, F)`` into log-probabilities ``(N, T, V)`` and next states."""

    def state_specs(self) -> tuple[StateSpec, ...]:
        """All states of ``step``, in the order of the exported graph's inputs."""
        return self.frontend.state_specs() + self.encoder_state_specs()

    def init_states(self, batch: int = 1) -> dict[str, Tensor]:
        """States at the start of ``batch`` streams."""
        return _filled(self.state_specs(), batch, self.feature_norm.mean.device)

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Advance by a multiple of ``units_per_frame`` input units.

        Args:
            inputs: raw input, for speech ``(N, k * units_per_frame)`` float32 in [-1, 1].
            states: as ``init_states`` or the last ``step`` returned them; not changed.

        Returns:
            Log-probabilities ``(N, k, V)`` and the next states.
        """
        features, frontend_states = self.frontend.step(inputs, states)
        log_probs, encoder_states = self.encode(features, states)
        return log_probs, {**frontend_states, **encoder_states}

    def forward(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:  # noqa: ARG002
        """See ``CtcNetwork.forward``; labels are not looked at."""
        states = _filled(self.encoder_state_specs(), len(features), features.device)
        log_probs, _ = self.encode(features, states)
        return log_probs[:, self.lookahead_frames :].float()


def _filled(specs: tuple[StateSpec, ...], batch: int, device: torch.device) -> dict[str, Tensor]:
    return {
        spec.name: torch.full(
            [batch if size == BATCH_AXIS else int(size) for size in spec.shape],
            spec.initial,
            dtype=getattr(torch, spec.dtype),
            device=device,
        )
        for spec in specs
    }
