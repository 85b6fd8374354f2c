"""CTC prefix beam search, vectorised over beams and tokens, in the log domain.

Each beam is one prefix (a token sequence) with the summed probability of all its alignments that survived
(Graves 2012, Hannun et al. 2014), split by whether the last frame was blank. Beside each sum runs the best
single alignment, which tells when each token begins.

Everything is decided frame by frame from the beams before, so the answer cannot depend on how the frames
are cut. Beams are ranked by ``_Beams.total``; a language model or hotwords would add a bonus to extended
prefixes in ``_extend`` and to that ranking, and nothing else would change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ROOT = -1
"""``last`` of the empty prefix."""


class _Beams(NamedTuple):
    """B prefixes. Arrays of shape ``(B,)``, never written to after they are made."""

    blank: NDArray[np.float64]
    """Log-sum of alignments that end in blank."""
    token: NDArray[np.float64]
    """Log-sum of alignments that end in the last token."""
    best_blank: NDArray[np.float64]
    """Log-probability of the best alignment that ends in blank."""
    best_token: NDArray[np.float64]
    """Log-probability of the best alignment that ends in the last token."""
    trail_blank: NDArray[np.object_]
    """Tokens and times of ``best_blank`` as links ``(link before, token, frame)``; None is the start."""
    trail_token: NDArray[np.object_]
    """The same of ``best_token``."""
    last: NDArray[np.int64]
    """Last token of the prefix."""
    key: NDArray[np.uint64]
    """64-bit hash of the prefix."""
    parent: NDArray[np.uint64]
    """Hash of the prefix without its last token."""

    @property
    def total(self) -> NDArray[np.float64]:
        """Log-probability of each prefix."""
        return np.logaddexp(self.blank, self.token)

    def take(self, rows: NDArray[np.int64]) -> _Beams:
        """The beams ``rows``, in that order."""
        return _Beams._make(column[rows] for column in self)


@dataclass(frozen=True, eq=False)
class BeamState:
    """What is known after ``frame`` frames."""

    frame: int
    """Frames seen."""
    beams: _Beams
    """Prefixes alive."""


class BeamDecoder:
    """Stateful prefix beam search; ``log_prob`` is that of the prefix, summed over its alignments.

    A blank penalty, where one is set, is part of the score.
    """

    def __init__(
        self,
        classes: int,
        blank_id: int,
        *,
        beam_width: int = 16,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        blank_penalty: float = 0.0,
    ) -> None:
        """Decode ``classes`` labels.

        Args:
            classes: C, blank included.
            blank_id: column of the blank.
            beam_width: prefixes kept after each frame.
            beam_prune_logp: prefixes this far (nats, negative) below the best are dropped.
            token_min_logp: tokens below this extend no prefix, except the best label of the frame.
            blank_penalty: nats taken from the blank.
        """
        self._classes = classes
        self._blank = blank_id
        self._width = beam_width
        self._prune = beam_prune_logp
        self._floor = token_min_logp
        self._penalty = blank_penalty

    def init_state(self) -> BeamState:
        """State before the first frame: the empty prefix."""
        start = np.empty(1, dtype=object)
        nothing = np.full(1, -np.inf)
        beams = _Beams(
            blank=np.zeros(1),
            token=nothing,
            best_blank=np.zeros(1),
            best_token=nothing,
            trail_blank=start,
            trail_token=start,
            last=np.full(1, _ROOT),
            key=np.ones(1, dtype=np.uint64),
            parent=np.zeros(1, dtype=np.uint64),
        )
        return BeamState(frame=0, beams=beams)

    def advance(self, state: BeamState, log_probs: NDArray[np.float32]) -> BeamState:
        """State after ``log_probs`` of shape ``(T, C)``.

        Raises:
            OptionsError: the shape is not ``(T, C)``.
        """
        check_frames(log_probs, self._classes)
        if not len(log_probs):
            return state
        scores = penalise_blank(log_probs, self._blank, self._penalty)
        allowed = scores >= self._floor
        allowed[np.arange(len(scores)), scores.argmax(axis=1)] = True
        allowed &= scores > -np.inf
        allowed[:, self._blank] = False
        busy = allowed.any(axis=1).tolist()
        beams = state.beams
        for index, frame_scores in enumerate(scores):
            stay = _stay(beams, frame_scores, self._blank)
            if busy[index]:
                (tokens,) = np.nonzero(allowed[index])
                beams = self._extend(beams, stay, tokens, frame_scores, state.frame + index)
            else:
                beams = stay
        return BeamState(state.frame + len(scores), beams)

    def best(self, state: BeamState, *, final: bool = True) -> Hypothesis:  # noqa: ARG002
        """The most probable prefix, with the times of its best alignment."""
        return _hypothesis(state.beams, int(state.beams.total.argmax()))

    def nbest(self, state: BeamState, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:  # noqa: ARG002
        """Up to ``count`` different prefixes, most probable first."""
        order = np.argsort(-state.beams.total, kind="stable")[:count]
        return tuple(_hypothesis(state.beams, row) for row in order.tolist())

    def stable_count(self, state: BeamState) -> int:  # noqa: ARG002
        """Not known yet."""
        return 0

    def with_hotwords(self, hotwords: Mapping[str, float]) -> BeamDecoder:
        """This decoder, when there are none.

        Raises:
            OptionsError: there are.
        """
        if hotwords:
            raise OptionsError("hotwords are not built yet")
        return self

    def _extend(
        self,
        beams: _Beams,
        stay: _Beams,
        tokens: NDArray[np.int64],
        scores: NDArray[np.float64],
        frame: int,
    ) -> _Beams:
        """Beams after a frame that may emit one of ``tokens`` (K,); ``stay`` are those that emit none."""
        again = beams.last[:, None] == tokens
        # The same token twice needs a blank between: only alignments that end in blank may repeat it.
        from_blank = again | (beams.best_blank >= beams.best_token)[:, None]
        total = np.where(again, beams.blank[:, None], beams.total[:, None]) + scores[tokens]
        best = np.where(from_blank, beams.best_blank[:, None], beams.best_token[:, None]) + scores[tokens]
        extended = _Extensions(beams, tokens, from_blank, total, best, frame)
        stay = extended.merge_into(stay)

        ranks = np.concatenate([stay.total, extended.total.ravel()])
        rows = _survivors(ranks, self._width, self._prune)
        old = rows[rows < len(stay.last)]
        new = rows[rows >= len(stay.last)] - len(stay.last)
        kept = stay.take(old)
        return kept if not new.size else _join(kept, extended.take(new))


@dataclass(frozen=True, eq=False)
class _Extensions:
    """Every beam extended by every token: arrays of shape ``(B, K)``."""

    beams: _Beams
    tokens: NDArray[np.int64]
    from_blank: NDArray[np.bool_]
    total: NDArray[np.float64]
    best: NDArray[np.float64]
    frame: int

    def merge_into(self, stay: _Beams) -> _Beams:
        """Move the extensions that spell a prefix already in ``stay`` into it; their total becomes -inf."""
        row, child = np.nonzero(self.beams.key[:, None] == self.beams.parent)
        column = np.searchsorted(self.tokens, self.beams.last[child])
        column[column == len(self.tokens)] = 0
        spelt = self.tokens[column] == self.beams.last[child]
        if not spelt.any():
            return stay
        row, column, child = row[spelt], column[spelt], child[spelt]
        token, best, trail = stay.token.copy(), stay.best_token.copy(), stay.trail_token.copy()
        token[child] = np.logaddexp(token[child], self.total[row, column])
        self.total[row, column] = -np.inf
        better = self.best[row, column] > best[child]
        best[child] = np.where(better, self.best[row, column], best[child])
        for i, j, k in zip(row[better].tolist(), column[better].tolist(), child[better].tolist(), strict=True):
            trail[k] = self._link(i, j)
        return stay._replace(token=token, best_token=best, trail_token=trail)

    def take(self, flat: NDArray[np.int64]) -> _Beams:
        """New beams from flat indices into ``(B, K)``."""
        row, column = np.divmod(flat, len(self.tokens))
        nothing = np.full(len(flat), -np.inf)
        start = np.empty(len(flat), dtype=object)
        trail = np.empty(len(flat), dtype=object)
        for index, (i, j) in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
            trail[index] = self._link(i, j)
        last = self.tokens[column]
        parent = self.beams.key[row]
        return _Beams(
            blank=nothing,
            token=self.total[row, column],
            best_blank=nothing,
            best_token=self.best[row, column],
            trail_blank=start,
            trail_token=trail,
            last=last,
            key=_hash(parent, last),
            parent=parent,
        )

    def _link(self, row: int, column: int) -> tuple[Any, int, int]:
        trails = self.beams.trail_blank if self.from_blank[row, column] else self.beams.trail_token
        return trails[row], int(self.tokens[column]), self.frame


def _stay(beams: _Beams, scores: NDArray[np.float64], blank_id: int) -> _Beams:
    """Beams after a frame that emits nothing new: blank, or the last token held on."""
    # The empty prefix has no last token, but its ``token`` is -inf and stays so.
    hold = scores[beams.last]
    prefer_blank = beams.best_blank >= beams.best_token
    return _Beams(
        blank=beams.total + scores[blank_id],
        token=beams.token + hold,
        best_blank=np.where(prefer_blank, beams.best_blank, beams.best_token) + scores[blank_id],
        best_token=beams.best_token + hold,
        trail_blank=np.where(prefer_blank, beams.trail_blank, beams.trail_token),
        trail_token=beams.trail_token,
        last=beams.last,
        key=beams.key,
        parent=beams.parent,
    )


def _survivors(ranks: NDArray[np.float64], width: int, prune: float) -> NDArray[np.int64]:
    """Indices of the best ``width`` ranks within ``prune`` of the best; at least one."""
    threshold = ranks.max() + prune
    (rows,) = np.nonzero((ranks >= threshold) & (ranks > -np.inf))
    if not rows.size:  # every label of the frame had probability zero
        return np.zeros(1, dtype=np.int64)
    if len(rows) > width:
        rows = rows[np.argsort(-ranks[rows], kind="stable")[:width]]
        rows.sort()
    return rows


def _join(one: _Beams, two: _Beams) -> _Beams:
    return _Beams._make(np.concatenate(columns) for columns in zip(one, two, strict=True))


def _hash(parent: NDArray[np.uint64], token: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash of ``parent`` extended by ``token`` (splitmix64); wraps around by intent."""
    value = parent * np.uint64(0x9E3779B97F4A7C15) + token.astype(np.uint64) + np.uint64(1)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


def _hypothesis(beams: _Beams, row: int) -> Hypothesis:
    blank_is_better = beams.best_blank[row] >= beams.best_token[row]
    link = beams.trail_blank[row] if blank_is_better else beams.trail_token[row]
    token_ids, frames = [], []
    while link is not None:
        link, token, frame = link
        token_ids.append(token)
        frames.append(frame)
    return Hypothesis(tuple(token_ids[::-1]), tuple(frames[::-1]), float(beams.total[row]))
