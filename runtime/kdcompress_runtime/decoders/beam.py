"""CTC prefix beam search, vectorised over beams and tokens, in the log domain.

Each beam is one prefix (a token sequence) with the summed probability of all its alignments that survived
(Graves 2012, Hannun et al. 2014), split by whether the last frame was blank. Beside each sum runs the best
single alignment, which tells when each token begins and ends. Language model, lexicon and hotwords are
``fusion.Fusion``: what they say follows from the prefix alone.

Everything is decided frame by frame from the beams before, so the answer cannot depend on how the frames
are cut. Tokens before the last one hang in links that beams share: a state holds what its beams do not have
in common, and the rest once.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank
from kdcompress_runtime.decoders.prefixes import (
    ROOT,
    Beams,
    Link,
    Paths,
    agreed_count,
    extend_key,
    forget,
    last_link,
    tokens_of,
)
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.fusion import Fusion, Standing

HISTORY = 256
"""Beams that differ from the best one in a token older than its last this many are dropped.

Two readings of one old token may stay alive for ever, with a constant difference between them: without an end to
it, the state of a stream would grow with its length, and nothing after that token would ever be stable.
"""
FORGET_EVERY = 32
"""Frames from one such look to the next, counted from the start of the stream."""


@dataclass(frozen=True, eq=False)
class BeamState:
    """What is known after ``frame`` frames."""

    frame: int
    """Frames seen."""
    beams: Beams
    """Prefixes alive."""
    quiet: bool = False
    """The last frame was blank beyond doubt."""


class BeamDecoder:
    """Stateful prefix beam search; ``log_prob`` is that of the prefix, summed over its alignments.

    A blank penalty, where one is set, is part of ``log_prob``; language model and hotwords are not.
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
        blank_skip: float = 1.0,
        fusion: Fusion | None = None,
    ) -> None:
        """Decode ``classes`` labels.

        Args:
            classes: C, blank included.
            blank_id: column of the blank.
            beam_width: prefixes kept after each frame.
            beam_prune_logp: prefixes this far (nats, negative) below the best are dropped.
            token_min_logp: tokens below this extend no prefix, except the best label of the frame.
            blank_penalty: nats taken from the blank.
            blank_skip: a frame whose blank is at least this probable, right after another, is not searched; 1
                searches all.
            fusion: language model, lexicon and hotwords.
        """
        self._classes = classes
        self._blank = blank_id
        self._width = beam_width
        self._prune = beam_prune_logp
        self._floor = token_min_logp
        self._penalty = blank_penalty
        self._quiet_logp = math.log(blank_skip) if blank_skip < 1 else math.inf
        self._fusion = fusion
        self._active = fusion if fusion is not None and fusion.active else None

    def init_state(self) -> BeamState:
        """State before the first frame: the empty prefix."""
        nothing = np.full(1, -np.inf)
        zero = np.zeros(1, dtype=np.int64)
        path = Paths(np.zeros(1), np.empty(1, dtype=object), zero, zero, nothing)
        beams = Beams(
            blank=np.zeros(1),
            token=nothing,
            best_blank=path,
            best_token=path._replace(score=nothing),
            last=np.full(1, ROOT),
            key=np.ones(1, dtype=np.uint64),
            parent=np.zeros(1, dtype=np.uint64),
            standing=None if self._active is None else self._active.start(),
        )
        return BeamState(frame=0, beams=beams)

    def advance(self, state: BeamState, log_probs: NDArray[np.float32]) -> BeamState:
        """State after ``log_probs`` of shape ``(T, C)``.

        Raises:
            OptionsError: the shape is not ``(T, C)``, or a value is NaN or +infinity.
        """
        check_frames(log_probs, self._classes)
        if not (log_probs < np.inf).all():
            raise OptionsError("log_probs hold NaN or +infinity; log-probabilities are at most 0")
        if not len(log_probs):
            return state
        scores = penalise_blank(log_probs, self._blank, self._penalty)
        allowed = scores >= self._floor
        allowed[np.arange(len(scores)), scores.argmax(axis=1)] = True
        allowed &= scores > -np.inf
        allowed[:, self._blank] = False
        busy = allowed.any(axis=1).tolist()
        quiet = (log_probs[:, self._blank].astype(np.float64) >= self._quiet_logp).tolist()
        beams, before = state.beams, state.quiet
        for index, frame_scores in enumerate(scores):
            if quiet[index] and before:
                beams = _rest(beams, frame_scores[self._blank])
            else:
                frame = state.frame + index
                stay = _stay(beams, frame_scores, self._blank, frame)
                (tokens,) = np.nonzero(allowed[index])
                beams = self._extend(beams, stay, tokens, frame_scores, frame) if busy[index] else stay
            before = quiet[index]
            if (state.frame + index + 1) % FORGET_EVERY == 0:
                beams = forget(beams, HISTORY)
        return BeamState(state.frame + len(scores), beams, before)

    def best(self, state: BeamState, *, final: bool = True) -> Hypothesis:
        """The prefix of the highest score, with the times of its best alignment."""
        return self.nbest(state, 1, final=final)[0]

    def nbest(self, state: BeamState, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:
        """Up to ``count`` different prefixes, highest score first."""
        beams = state.beams
        total = beams.total
        lm = hot = np.zeros(len(total))
        worse = np.zeros(len(total), dtype=bool)
        score = beams.rank
        if self._active is not None and beams.standing is not None:
            lm, hot = beams.standing.lm, beams.standing.hot
            if final:
                lm, hot, worse = self._active.finish(beams.standing)
                score = total + lm + hot
        path = beams.best
        found = []
        for row in np.lexsort((-score, worse))[:count].tolist():  # equal ones in their order
            tokens = tokens_of(beams, path, row)
            found.append(
                Hypothesis(
                    token_ids=tuple(token.token for token in tokens),
                    frames=tuple(token.begin for token in tokens),
                    log_prob=float(total[row]),
                    ends=tuple(token.end for token in tokens),
                    token_log_probs=tuple(token.peak for token in tokens),
                    score=float(score[row]),
                    lm_score=float(lm[row]),
                    hotword_score=float(hot[row]),
                )
            )
        return self._fusion.only_words(found) if final and self._fusion is not None else tuple(found)

    def stable_count(self, state: BeamState) -> int:
        """Leading tokens on which every alignment still alive agrees."""
        return agreed_count(state.beams)

    def with_hotwords(self, hotwords: Mapping[str, float]) -> BeamDecoder:
        """The same decoder with these phrases boosted, in place of any before.

        Args:
            hotwords: phrase -> nats for each of its letters; none gives this decoder itself.

        Raises:
            OptionsError: a phrase cannot be spelt, a weight is not finite, or the decoder was built without
                ``fusion`` and does not know how tokens are spelt.
        """
        if not hotwords:
            return self
        if self._fusion is None:
            raise OptionsError("hotwords need the spelling of the tokens; build the decoder with build_decoder()")
        boosted = copy.copy(self)
        boosted._fusion = boosted._active = self._fusion.with_hotwords(hotwords)  # noqa: SLF001  # of this class
        return boosted

    def _extend(
        self,
        beams: Beams,
        stay: Beams,
        tokens: NDArray[np.int64],
        scores: NDArray[np.float64],
        frame: int,
    ) -> Beams:
        """Beams after a frame that may emit one of ``tokens`` (K,); ``stay`` are those that emit none."""
        again = beams.last[:, None] == tokens
        blank, token = beams.best_blank.score, beams.best_token.score
        # The same token twice needs a blank between: only alignments that end in blank may repeat it.
        from_blank = again | (blank >= token)[:, None]
        total = np.where(again, beams.blank[:, None], beams.total[:, None]) + scores[tokens]
        best = np.where(from_blank, blank[:, None], token[:, None]) + scores[tokens]
        standing = None
        if self._active is not None and beams.standing is not None:
            standing = self._active.extend(beams.standing, tokens)
        extended = _Extensions(beams, tokens, scores[tokens], from_blank, total, best, standing, frame)
        stay = extended.merge_into(stay)

        ranks = np.concatenate([stay.rank, extended.rank.ravel()])
        rows = _survivors(ranks, self._width, self._prune)
        old = rows[rows < len(stay.last)]
        new = rows[rows >= len(stay.last)] - len(stay.last)
        kept = stay.take(old)
        return kept if not new.size else kept.join(extended.take(new))


@dataclass(frozen=True, eq=False)
class _Extensions:
    """Every beam extended by every token: arrays of shape ``(B, K)``."""

    beams: Beams
    tokens: NDArray[np.int64]
    scores: NDArray[np.float64]
    """Log-probability of each token; shape ``(K,)``."""
    from_blank: NDArray[np.bool_]
    total: NDArray[np.float64]
    best: NDArray[np.float64]
    standing: Standing | None
    frame: int
    links: dict[tuple[int, bool], Link | None] = field(default_factory=dict)
    """Made so far, by beam and the alignment that they come from."""

    @property
    def rank(self) -> NDArray[np.float64]:
        return self.total if self.standing is None else self.total + self.standing.rank

    def merge_into(self, stay: Beams) -> Beams:
        """Move the extensions that spell a prefix already in ``stay`` into it; their total becomes -inf."""
        row, child = np.nonzero(self.beams.key[:, None] == self.beams.parent)
        column = np.searchsorted(self.tokens, self.beams.last[child])
        column[column == len(self.tokens)] = 0
        spelt = self.tokens[column] == self.beams.last[child]
        if not spelt.any():
            return stay
        row, column, child = row[spelt], column[spelt], child[spelt]
        token = stay.token.copy()
        token[child] = np.logaddexp(token[child], self.total[row, column])
        self.total[row, column] = -np.inf
        better = self.best[row, column] > stay.best_token.score[child]
        row, column, child = row[better], column[better], child[better]
        paths = Paths._make(array.copy() for array in stay.best_token)
        for mine, theirs in zip(paths, self._paths(row, column), strict=True):
            mine[child] = theirs
        return stay._replace(token=token, best_token=paths)

    def take(self, flat: NDArray[np.int64]) -> Beams:
        """New beams from flat indices into ``(B, K)``."""
        row, column = np.divmod(flat, len(self.tokens))
        nothing = np.full(len(flat), -np.inf)
        paths = self._paths(row, column)
        last = self.tokens[column]
        parent = self.beams.key[row]
        return Beams(
            blank=nothing,
            token=self.total[row, column],
            best_blank=paths._replace(score=nothing),
            best_token=paths,
            last=last,
            key=extend_key(parent, last),
            parent=parent,
            standing=None if self.standing is None else self.standing.take(flat),
        )

    def _paths(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> Paths:
        """Best alignments of the extensions, their last token emitted by this frame."""
        before = np.empty(len(row), dtype=object)
        for index, source in enumerate(zip(row.tolist(), self.from_blank[row, column].tolist(), strict=True)):
            before[index] = self._link(*source)
        begin = np.full(len(row), self.frame)
        return Paths(self.best[row, column], before, begin, begin + 1, self.scores[column])

    def _link(self, row: int, from_blank: bool) -> Link | None:
        """The last token of a beam as a link: it is over."""
        if (row, from_blank) not in self.links:
            paths = self.beams.best_blank if from_blank else self.beams.best_token
            self.links[row, from_blank] = last_link(self.beams, paths, row)
        return self.links[row, from_blank]


def _stay(beams: Beams, scores: NDArray[np.float64], blank_id: int, frame: int) -> Beams:
    """Beams after a frame that emits nothing new: blank, or the last token held on."""
    # The empty prefix has no last token, but its ``token`` is -inf and stays so.
    hold = scores[beams.last]
    best, held = beams.best, beams.best_token
    return beams._replace(
        blank=beams.total + scores[blank_id],
        token=beams.token + hold,
        best_blank=best._replace(score=best.score + scores[blank_id]),
        best_token=held._replace(
            score=held.score + hold, end=np.full(len(hold), frame + 1), peak=np.maximum(held.peak, hold)
        ),
    )


def _rest(beams: Beams, blank: np.float64) -> Beams:
    """Beams after a frame of which only the blank counts, whose log-probability is ``blank``."""
    if not (beams.token > -np.inf).any():  # so was the frame before
        path = beams.best_blank
        return beams._replace(blank=beams.blank + blank, best_blank=path._replace(score=path.score + blank))
    nothing = np.full(len(beams.last), -np.inf)
    best = beams.best
    return beams._replace(
        blank=beams.total + blank,
        token=nothing,
        best_blank=best._replace(score=best.score + blank),
        best_token=best._replace(score=nothing),
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
