"""Greedy CTC decoding: the best label of every frame, repetitions joined, blanks dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class _Piece:
    """Tokens of one chunk and a link to those before; shared between states, never copied."""

    before: _Piece | None
    token_ids: tuple[int, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class GreedyState:
    """What is known after ``frame`` frames."""

    frame: int
    """Frames seen."""
    last: int
    """Label of the last frame."""
    log_prob: float
    """Sum of the log-probabilities of the labels chosen."""
    tail: _Piece | None
    """Tokens found, newest first."""


class GreedyDecoder:
    """One alignment, chosen frame by frame; ``log_prob`` is that of the alignment, penalty left out."""

    def __init__(self, classes: int, blank_id: int, *, blank_penalty: float = 0.0) -> None:
        """Decode ``classes`` labels; ``blank_penalty`` (nats) makes the blank win less often."""
        self._classes = classes
        self._blank = blank_id
        self._penalty = blank_penalty

    def init_state(self) -> GreedyState:
        """State before the first frame."""
        return GreedyState(frame=0, last=self._blank, log_prob=0.0, tail=None)

    def advance(self, state: GreedyState, log_probs: NDArray[np.float32]) -> GreedyState:
        """State after ``log_probs`` of shape ``(T, C)``; one numpy pass, no loop over frames.

        Raises:
            OptionsError: the shape is not ``(T, C)``.
        """
        check_frames(log_probs, self._classes)
        if not len(log_probs):
            return state
        labels = penalise_blank(log_probs, self._blank, self._penalty).argmax(axis=1)
        chosen = log_probs[np.arange(len(labels)), labels].astype(np.float64)
        previous = np.concatenate(([state.last], labels[:-1]))
        (starts,) = np.nonzero((labels != previous) & (labels != self._blank))
        tail = state.tail
        if starts.size:
            tail = _Piece(tail, tuple(labels[starts].tolist()), tuple((starts + state.frame).tolist()))
        # cumsum adds one by one, so the sum does not depend on where the frames are cut.
        total = np.cumsum(np.concatenate(([state.log_prob], chosen)))[-1]
        return GreedyState(state.frame + len(labels), int(labels[-1]), float(total), tail)

    def best(self, state: GreedyState) -> Hypothesis:
        """The tokens of the alignment and the first frame of each."""
        pieces = []
        piece = state.tail
        while piece is not None:
            pieces.append(piece)
            piece = piece.before
        pieces.reverse()
        return Hypothesis(
            tuple(token for piece in pieces for token in piece.token_ids),
            tuple(frame for piece in pieces for frame in piece.frames),
            state.log_prob,
        )

    def nbest(self, state: GreedyState, count: int) -> tuple[Hypothesis, ...]:
        """The one hypothesis there is."""
        return (self.best(state),)[:count]
