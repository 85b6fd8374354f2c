"""What every student is: a pure step that serves batch and stream alike."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kdcompress.network import CtcNetwork, Outputs
from kdcompress_runtime.bundle import BATCH_AXIS

if TYPE_CHECKING:
    from kdcompress_runtime.bundle import StateSpec


class Encoded(NamedTuple):
    """What ``Student.encode`` returns."""

    log_probs: Tensor
    """``(N, T, V)``, ``lookahead_frames`` behind the input."""
    states: dict[str, Tensor]
    """The next states."""
    hidden: tuple[Tensor, ...] = ()
    """Output of each block, ``(N, T, D)``, for losses that look inside; block i is ``hidden_lags[i]`` frames behind."""


class Student(CtcNetwork):
    """``step(inputs, states) -> (log_probs, next_states)``; batch recognition is one step, streaming many.

    A subclass writes ``encode`` and ``encoder_state_specs``. Output frame j of a sequence of steps describes
    input frame ``j - lookahead_frames``; whoever calls ``step`` drops the first ``lookahead_frames`` frames.
    """

    @abstractmethod
    def encoder_state_specs(self) -> tuple[StateSpec, ...]:
        """Name the states that ``encode`` carries."""

    @abstractmethod
    def encode(self, features: Tensor, states: dict[str, Tensor]) -> Encoded:
        """Turn features ``(N, T * subsampling_factor, F)`` into log-probabilities and next states."""

    @property
    def hidden_lags(self) -> tuple[int, ...]:
        """Frames by which each block is behind the input; between zero and ``lookahead_frames``."""
        return ()

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
        encoded = self.encode(features, states)
        return encoded.log_probs, {**frontend_states, **encoded.states}

    def outputs(self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Outputs:  # noqa: ARG002
        """See ``CtcNetwork.outputs``; labels are not looked at."""
        states = _filled(self.encoder_state_specs(), len(features), features.device)
        encoded = self.encode(features, states)
        log_probs = encoded.log_probs[:, self.lookahead_frames :].float()
        frames = log_probs.shape[1]
        hidden = zip(encoded.hidden, self.hidden_lags, strict=True)
        return Outputs(log_probs, tuple(block[:, lag : lag + frames] for block, lag in hidden))


def spread(total: int, parts: int) -> list[int]:
    """Divide ``total`` into ``parts`` integers that differ by at most one; the early ones are larger."""
    return [total // parts + (index < total % parts) for index in range(parts)]


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
