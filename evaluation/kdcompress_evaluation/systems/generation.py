"""Greedy and beam search of an autoregressive decoder, as ``generate`` of transformers does them, in numpy.

The beam keeps transformers' rules (4.50 and later): of twice as many candidates as beams, those that end in one of the
first places are finished; they are ranked by their log-probability over their length to the power of
``length_penalty``; the search stops when no running beam could pass the worst finished one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_NEVER = -1e9


class Decoder(Protocol):
    """A decoder that remembers what it has been given for one source."""

    def step(self, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append a token to rows.

        Args:
            tokens: ``(B,)``.
            parents: ``(B,)``: the rows of the step before that these go on from; without meaning at the first step.

        Returns:
            Logits of what follows, ``(B, V)``.
        """


@dataclass(frozen=True)
class Settings:
    """How to search; names as in ``generation_config.json``."""

    start: int
    """Token that the decoder begins with."""
    end: tuple[int, ...]
    """Tokens that end a text."""
    forbidden: tuple[int, ...] = ()
    """Tokens that never come."""
    forced_end: int | None = None
    """Token that stands in the last place there is."""
    length_penalty: float = 1.0
    """Power of the length."""
    early_stopping: bool = False
    """Stop as soon as there are as many finished texts as beams."""


class Found(NamedTuple):
    """What a search came to."""

    tokens: list[int]
    """Without the first one and without the end."""
    log_prob: float
    """Natural logarithm, the end included."""


def greedy(decoder: Decoder, settings: Settings, limit: int) -> Found:
    """Take the likeliest token again and again, at most ``limit`` of them."""
    tokens: list[int] = []
    total, last, here = 0.0, settings.start, np.zeros(1, dtype=np.int64)
    for left in range(limit - 1, -1, -1):
        log_probs = _log_probs(decoder.step(np.array([last]), here), settings, forced=left == 0)[0]
        last = int(log_probs.argmax())
        total += float(log_probs[last])
        if last in settings.end:
            break
        tokens.append(last)
    return Found(tokens, total)


@dataclass(frozen=True)
class _Finished:
    score: float
    found: Found


def beam(decoder: Decoder, settings: Settings, limit: int, beams: int) -> Found:
    """Search with so many beams; texts have at most ``limit`` tokens, the end included."""
    running: list[list[int]] = [[]]
    scores, tokens, parents = np.zeros(1), np.array([settings.start]), np.zeros(1, dtype=np.int64)
    finished: list[_Finished] = []
    for length in range(1, limit + 1):
        log_probs = _log_probs(decoder.step(tokens, parents), settings, forced=length == limit)
        totals = (log_probs + scores[:, None]).ravel()
        order = _largest(totals, min(max(2, 1 + len(settings.end)) * beams, totals.size))
        rows, ids = np.divmod(order, log_probs.shape[1])
        ends = np.isin(ids, settings.end) | (length == limit)
        for place in np.flatnonzero(ends[:beams]):
            text = [*running[rows[place]], *([] if ids[place] in settings.end else [int(ids[place])])]
            total = float(totals[order[place]])
            finished.append(_Finished(total / length**settings.length_penalty, Found(text, total)))
        finished = sorted(finished, key=lambda one: -one.score)[:beams]
        going = np.flatnonzero(~ends)[:beams]
        if not len(going):
            break
        running = [[*running[row], int(token)] for row, token in zip(rows[going], ids[going], strict=True)]
        scores, tokens, parents = totals[order[going]], ids[going], rows[going]
        if _over(finished, beams, float(scores[0]) / length**settings.length_penalty, settings):
            break
    return finished[0].found


def _over(finished: Sequence[_Finished], beams: int, hope: float, settings: Settings) -> bool:
    """Whether enough texts are finished, and what runs on cannot pass the worst of them."""
    return len(finished) == beams and (settings.early_stopping or hope <= finished[-1].score)


def _log_probs(logits: NDArray[np.float32], settings: Settings, *, forced: bool) -> NDArray[np.float64]:
    """Natural-log probabilities ``(B, V)``; what may not come has none."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_probs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    log_probs[:, list(settings.forbidden)] = -np.inf
    if forced and settings.forced_end is not None:
        log_probs[:] = -np.inf
        log_probs[:, settings.forced_end] = 0.0
    return log_probs


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of the largest values, the largest first; those that cannot be are left out."""
    places = np.argpartition(-values, count - 1)[:count]
    ordered: NDArray[np.int64] = places[np.argsort(-values[places], kind="stable")]
    possible: NDArray[np.int64] = ordered[values[ordered] > _NEVER]
    return possible
