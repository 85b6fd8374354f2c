"""What every decoder is: a pure function from (state, log-probabilities) to the next state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Hypothesis:
    """One labelling of the frames seen so far."""

    token_ids: tuple[int, ...]
    """Ids without blanks and repetitions."""
    frames: tuple[int, ...]
    """For each token, the frame (from the start of the stream) at which it begins."""
    log_prob: float
    """Natural logarithm of the decoder's score; see each decoder."""


class Decoder(Protocol[StateT]):
    """The contract. States are values: ``advance`` never changes the one it is given.

    So a state may be kept, reused to roll back, or advanced along several branches; and one decoder
    serves any number of streams and threads.
    """

    def init_state(self) -> StateT:
        """State before the first frame."""

    def advance(self, state: StateT, log_probs: NDArray[np.float32]) -> StateT:
        """State after more frames.

        Args:
            state: from ``init_state`` or ``advance``.
            log_probs: natural-log probabilities, shape ``(T, C)``; ``T`` may be 0.

        Raises:
            OptionsError: the shape is not ``(T, C)``.
        """

    def best(self, state: StateT) -> Hypothesis:
        """The best hypothesis so far."""

    def nbest(self, state: StateT, count: int) -> tuple[Hypothesis, ...]:
        """Up to ``count`` hypotheses, best first; decoders that keep only one return that."""


def check_frames(log_probs: NDArray[np.float32], classes: int) -> None:
    """Refuse log-probabilities that are not of shape ``(T, classes)``.

    Raises:
        OptionsError: they are not.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != classes:
        raise OptionsError(f"log_probs must have shape (T, {classes}) for this vocabulary, found {log_probs.shape}")


def penalise_blank(log_probs: NDArray[np.float32], blank_id: int, penalty: float) -> NDArray[np.float64]:
    """Copy to float64 with ``penalty`` (nats) taken from the blank's column."""
    scores = log_probs.astype(np.float64)
    if penalty:
        scores[:, blank_id] -= penalty
    return scores
