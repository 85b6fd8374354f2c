"""The prefixes of a beam search as values: their scores, their best alignments, and the history they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.fusion import Standing

ROOT = -1
"""``last`` of the empty prefix."""


@dataclass(eq=False, slots=True)
class Link:
    """A token that is over, in one alignment; shared, never written to. Compared by identity."""

    before: Link | None
    token: int
    begin: int
    end: int
    peak: float
    depth: int
    """Tokens up to and with this one."""
    key: int
    """Hash of the prefix up to and with this one."""


class Paths(NamedTuple):
    """The best single alignment of each of B prefixes; arrays of shape ``(B,)``."""

    score: NDArray[np.float64]
    """Its log-probability; ``-inf`` where there is none, and then the rest means nothing."""
    before: NDArray[np.object_]
    """Links of the tokens before the last one; None is the start."""
    begin: NDArray[np.int64]
    """First frame of the last token."""
    end: NDArray[np.int64]
    """Frame after the last one that holds it."""
    peak: NDArray[np.float64]
    """Largest log-probability of its label in those frames."""

    def take(self, rows: NDArray[np.int64]) -> Paths:
        """The paths ``rows``, in that order."""
        return Paths._make(column[rows] for column in self)

    def join(self, other: Paths) -> Paths:
        """These and then the others."""
        return Paths._make(np.concatenate(columns) for columns in zip(self, other, strict=True))


class Beams(NamedTuple):
    """B prefixes. Arrays of shape ``(B,)``, never written to after they are made."""

    blank: NDArray[np.float64]
    """Log-sum of alignments that end in blank."""
    token: NDArray[np.float64]
    """Log-sum of alignments that end in the last token."""
    best_blank: Paths
    """Best alignment that ends in blank."""
    best_token: Paths
    """Best alignment that ends in the last token."""
    last: NDArray[np.int64]
    """Last token of the prefix."""
    key: NDArray[np.uint64]
    """64-bit hash of the prefix."""
    parent: NDArray[np.uint64]
    """Hash of the prefix without its last token."""
    standing: Standing | None
    """What language model, lexicon and hotwords say; None without any."""

    @property
    def total(self) -> NDArray[np.float64]:
        """Log-probability of each prefix."""
        return np.logaddexp(self.blank, self.token)

    @property
    def rank(self) -> NDArray[np.float64]:
        """What prefixes are compared by while the utterance goes on."""
        return self.total if self.standing is None else self.total + self.standing.rank

    @property
    def best(self) -> Paths:
        """The better of the two alignments."""
        prefer_blank = self.best_blank.score >= self.best_token.score
        return Paths._make(
            np.where(prefer_blank, *columns) for columns in zip(self.best_blank, self.best_token, strict=True)
        )

    def take(self, rows: NDArray[np.int64]) -> Beams:
        """The beams ``rows``, in that order."""
        return Beams(
            blank=self.blank[rows],
            token=self.token[rows],
            best_blank=self.best_blank.take(rows),
            best_token=self.best_token.take(rows),
            last=self.last[rows],
            key=self.key[rows],
            parent=self.parent[rows],
            standing=None if self.standing is None else self.standing.take(rows),
        )

    def join(self, other: Beams) -> Beams:
        """These and then the others."""
        standing = self.standing
        return Beams(
            blank=np.concatenate([self.blank, other.blank]),
            token=np.concatenate([self.token, other.token]),
            best_blank=self.best_blank.join(other.best_blank),
            best_token=self.best_token.join(other.best_token),
            last=np.concatenate([self.last, other.last]),
            key=np.concatenate([self.key, other.key]),
            parent=np.concatenate([self.parent, other.parent]),
            standing=None if standing is None or other.standing is None else standing.join(other.standing),
        )


def extend_key(parent: NDArray[np.uint64], token: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash of ``parent`` extended by ``token`` (splitmix64); wraps around by intent."""
    value = parent * np.uint64(0x9E3779B97F4A7C15) + token.astype(np.uint64) + np.uint64(1)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


def last_link(beams: Beams, paths: Paths, row: int) -> Link | None:
    """The last token of a beam, in the alignment of ``paths``; None for the empty prefix."""
    if beams.last[row] == ROOT:
        return None
    before: Link | None = paths.before[row]
    return Link(
        before=before,
        token=int(beams.last[row]),
        begin=int(paths.begin[row]),
        end=int(paths.end[row]),
        peak=float(paths.peak[row]),
        depth=1 if before is None else before.depth + 1,
        key=int(beams.key[row]),
    )


def forget(beams: Beams, history: int) -> Beams:
    """Drop the beams that differ from the best one in a token older than its last ``history``."""
    paths = beams.best
    best = paths.before[int(beams.rank.argmax())]
    depth = 0 if best is None else best.depth + 1 - history
    if depth < 1:
        return beams
    keys = [_key_at(last_link(beams, paths, row), depth) for row in range(len(beams.last))]
    wanted = _key_at(best, depth)
    if all(key == wanted for key in keys):
        return beams
    return beams.take(np.flatnonzero([key == wanted for key in keys]))


def _key_at(link: Link | None, depth: int) -> int | None:
    """Hash of the first ``depth`` tokens; None where there are fewer."""
    while link is not None and link.depth > depth:
        link = link.before
    return link.key if link is not None and link.depth == depth else None


def tokens_of(beams: Beams, paths: Paths, row: int) -> list[Link]:
    """Tokens of one beam in the alignment of ``paths``, oldest first."""
    found = []
    link = last_link(beams, paths, row)
    while link is not None:
        found.append(link)
        link = link.before
    return found[::-1]


def agreed_count(beams: Beams) -> int:
    """Leading tokens, with their first frames, that all alignments alive have in common."""
    tips = [
        last_link(beams, paths, row)
        for paths in (beams.best_blank, beams.best_token)
        for row in np.flatnonzero(paths.score > -np.inf).tolist()
    ]
    if not tips:  # everything has probability zero: the first alignment stays
        tips = [last_link(beams, beams.best_blank, 0)]
    if None in tips:
        return 0
    heads = {id(tip): tip for tip in tips if tip is not None}
    levels: dict[int, list[Link]] = {}
    while len(heads) > 1:  # climb from the longest to where all meet
        depth = max(head.depth for head in heads.values())
        levels[depth] = [head for head in heads.values() if head.depth == depth]
        climbed = [head.before if head.depth == depth else head for head in heads.values()]
        if None in climbed:
            heads = {}
            break
        heads = {id(head): head for head in climbed if head is not None}
    agreed = max((head.depth for head in heads.values()), default=0)
    shortest = min(tip.depth for tip in tips if tip is not None)
    while agreed < shortest and len({(link.token, link.begin) for link in levels[agreed + 1]}) == 1:
        agreed += 1
    return agreed
