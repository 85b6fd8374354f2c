"""Greedy CTC decoding: the best label of every frame, repetitions joined, blanks dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class _Tokens(NamedTuple):
    """Runs of one label each that are over."""

    token_ids: tuple[int, ...]
    frames: tuple[int, ...]
    ends: tuple[int, ...]
    log_probs: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Piece:
    """Tokens that ended in one chunk and a link to those before; shared between states, never copied."""

    before: _Piece | None
    tokens: _Tokens


@dataclass(frozen=True, eq=False)
class GreedyState:
    """What is known after ``frame`` frames."""

    frame: int
    """Frames seen."""
    last: int
    """Label of the last frame: the run in progress."""
    begin: int
    """First frame of that run."""
    peak: float
    """Largest log-probability of the label in that run."""
    log_prob: float
    """Sum of the log-probabilities of the labels chosen."""
    count: int
    """Tokens found, the run in progress included."""
    tail: _Piece | None
    """Tokens that are over, newest first."""


class GreedyDecoder:
    """One alignment, chosen frame by frame; ``log_prob`` is that of the alignment, penalty left out."""

    def __init__(self, classes: int, blank_id: int, *, blank_penalty: float = 0.0) -> None:
        """Decode ``classes`` labels; ``blank_penalty`` (nats) makes the blank win less often."""
        self._classes = classes
        self._blank = blank_id
        self._penalty = blank_penalty

    def init_state(self) -> GreedyState:
        """State before the first frame."""
        return GreedyState(frame=0, last=self._blank, begin=0, peak=0.0, log_prob=0.0, count=0, tail=None)

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
        # cumsum adds one by one, so the sum does not depend on where the frames are cut.
        total = np.cumsum(np.concatenate(([state.log_prob], chosen)))[-1]

        # The run in progress stands before the new frames as if it were one frame.
        labels = np.concatenate(([state.last], labels))
        changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        first = np.concatenate(([0], changes))
        peaks = np.maximum.reduceat(np.concatenate(([state.peak], chosen)), first)
        begins = first + (state.frame - 1)
        begins[0] = state.begin
        over = np.flatnonzero(labels[first[:-1]] != self._blank)
        tail = state.tail
        if over.size:
            tokens = (labels[first], begins, changes + (state.frame - 1), peaks)
            tail = _Piece(tail, _Tokens._make(tuple(column[over].tolist()) for column in tokens))
        return GreedyState(
            frame=state.frame + len(log_probs),
            last=int(labels[-1]),
            begin=int(begins[-1]),
            peak=float(peaks[-1]),
            log_prob=float(total),
            count=state.count + int((labels[changes] != self._blank).sum()),
            tail=tail,
        )

    def best(self, state: GreedyState, *, final: bool = True) -> Hypothesis:  # noqa: ARG002  # nothing hangs on it
        """The tokens of the alignment, with their frames."""
        pieces = []
        piece = state.tail
        while piece is not None:
            pieces.append(piece.tokens)
            piece = piece.before
        pieces.reverse()
        if state.last != self._blank:
            pieces.append(_Tokens((state.last,), (state.begin,), (state.frame,), (state.peak,)))
        return Hypothesis(
            token_ids=tuple(token for piece in pieces for token in piece.token_ids),
            frames=tuple(frame for piece in pieces for frame in piece.frames),
            log_prob=state.log_prob,
            ends=tuple(end for piece in pieces for end in piece.ends),
            token_log_probs=tuple(log_prob for piece in pieces for log_prob in piece.log_probs),
        )

    def nbest(self, state: GreedyState, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:
        """The one hypothesis there is."""
        return (self.best(state, final=final),)[:count]

    def stable_count(self, state: GreedyState) -> int:
        """All tokens: what is chosen stays chosen."""
        return state.count

    def with_hotwords(self, hotwords: Mapping[str, float]) -> GreedyDecoder:
        """This decoder, when there are none.

        Raises:
            OptionsError: there are; greedy decoding has no choice to boost.
        """
        if hotwords:
            raise OptionsError("greedy decoding cannot boost hotwords; choose the decoder 'beam'")
        return self
