"""What every decoder is: a pure function from (state, log-probabilities) to the next state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Hypothesis:
    """One labelling of the frames seen so far."""

    token_ids: tuple[int, ...]
    """Ids without blanks and repetitions."""
    frames: tuple[int, ...]
    """For each token, the frame (from the start of the stream) at which it begins in the best single alignment."""
    log_prob: float
    """Natural logarithm of the acoustic (CTC) score: no language model, no hotwords; see each decoder."""
    ends: tuple[int, ...] = ()
    """For each token, the frame after the last one that holds it in the same alignment."""
    token_log_probs: tuple[float, ...] = ()
    """For each token, the largest log-probability of its label over the frames that hold it."""
    score: float = math.nan
    """What hypotheses are ranked by: ``log_prob + lm_score + hotword_score``; ``log_prob`` when left out.

    In results that are not final, the look-ahead of the word in progress as well.
    """
    lm_score: float = 0.0
    """Of the language model: alpha * ln P, and beta for each word (or token)."""
    hotword_score: float = 0.0
    """Nats given to hotwords."""

    def __post_init__(self) -> None:
        if math.isnan(self.score):
            object.__setattr__(self, "score", self.log_prob)


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

    def best(self, state: StateT, *, final: bool = True) -> Hypothesis:
        """The best hypothesis so far.

        Args:
            state: from ``init_state`` or ``advance``.
            final: the utterance is over, so the last word is complete. Otherwise the word in progress is not yet
                scored by the language model.
        """

    def nbest(self, state: StateT, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:
        """Up to ``count`` hypotheses, best first; decoders that keep only one return that."""

    def stable_count(self, state: StateT) -> int:
        """How many leading tokens of ``best`` no later audio can change, nor the frames at which they begin."""

    def with_hotwords(self, hotwords: Mapping[str, float]) -> Decoder[StateT]:
        """The same decoder with these phrases boosted, for one stream; shares all that is large.

        Args:
            hotwords: phrase -> weight in nats for each of its letters; none gives this decoder itself.

        Raises:
            OptionsError: a phrase cannot be spelt, a weight is not finite, or this decoder knows no hotwords.
        """


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
