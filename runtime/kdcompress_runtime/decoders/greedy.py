"""Greedy CTC decoding: the best label of every frame, repetitions joined, blanks dropped."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


_TOKEN = struct.Struct("=iqqd")
"""A run that is over: label, first frame, frame after the last, largest log-probability. Hours of them are kept."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """Tokens that are over, as bytes, and a link to those before; shared between states, never written to."""

    before: _Piece | None
    tokens: bytes

    @classmethod
    def after(cls, before: _Piece | None, tokens: bytes) -> _Piece:
        """Join what is no longer than what follows it: few pieces, and each token is copied few times."""
        while before is not None and len(before.tokens) <= len(tokens):
            tokens = before.tokens + tokens
            before = before.before
        return cls(before, tokens)


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
        """State after ``log_probs`` of shape ``(T, C)``.

        A chunk is a few frames: the labels are found at once, and their runs in a loop, which costs less than numpy's
        calls do there and little over minutes.

        Raises:
            OptionsError: the shape is not ``(T, C)``.
        """
        check_frames(log_probs, self._classes)
        if not len(log_probs):
            return state
        if self._penalty:
            labels = penalise_blank(log_probs, self._blank, self._penalty).argmax(axis=1)
            chosen = log_probs[np.arange(len(labels)), labels]
        else:
            labels, chosen = log_probs.argmax(axis=1), log_probs.max(axis=1)
        frame, last, begin, peak = state.frame, state.last, state.begin, state.peak
        total, count = state.log_prob, state.count
        over: list[tuple[int, int, int, float]] = []
        for label, log_prob in zip(labels.tolist(), chosen.tolist(), strict=True):
            # Added one by one, so the sum does not depend on where the frames are cut.
            total += log_prob
            if label != last:
                if last != self._blank:
                    over.append((last, begin, frame, peak))
                count += label != self._blank
                last, begin, peak = label, frame, log_prob
            elif log_prob > peak:
                peak = log_prob
            frame += 1
        tail = _Piece.after(state.tail, b"".join(_TOKEN.pack(*run) for run in over)) if over else state.tail
        return GreedyState(frame, last, begin, peak, total, count, tail)

    def best(self, state: GreedyState, *, final: bool = True) -> Hypothesis:  # noqa: ARG002  # nothing hangs on it
        """The tokens of the alignment, with their frames."""
        pieces = []
        piece = state.tail
        while piece is not None:
            pieces.append(piece.tokens)
            piece = piece.before
        if state.last != self._blank:
            pieces.insert(0, _TOKEN.pack(state.last, state.begin, state.frame, state.peak))
        runs = list(_TOKEN.iter_unpack(b"".join(reversed(pieces))))
        token_ids, frames, ends, peaks = zip(*runs, strict=True) if runs else ((), (), (), ())
        return Hypothesis(token_ids, frames, state.log_prob, ends, peaks)

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
