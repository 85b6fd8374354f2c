"""Growing a tree, best split first, until it has as many leaves as were asked for (Young, Odell and Woodland, 1994)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.units.senones.moments import CENTRE, LEFT, RIGHT, STATE, log_likelihood, summed
from kdcompress.units.senones.questions import masks_of, questions_for
from kdcompress.units.senones.tree import Tree
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.units.senones.moments import Floats, Ints, Statistics
    from kdcompress.units.senones.questions import Question

MIN_FRAMES = 100.0
"""Fewest frames of a leaf that a split makes: a second of speech."""
TIE = 1e-9
"""Gains that differ by less, relatively, are the same: which of two is larger is a matter of rounding."""


class Split(NamedTuple):
    """The best question to ask of a node."""

    gain: float
    """Nats."""
    factor: int
    question: int


class Asked(NamedTuple):
    """A question that a tree asks, and what for."""

    gain: float
    """Nats over all training frames."""
    phone: str
    """That it is asked of; empty where several share the node."""
    factor: int
    question: str


@dataclass(frozen=True)
class Growth:
    """A tree, and what growing it brought."""

    tree: Tree
    asked: tuple[Asked, ...]
    """Splits, in the order they were made: the best first of those that were open."""
    roots: int
    """Trees, that is leaves before the first split."""
    root_likelihood: float
    """Log-likelihood of the training frames with a Gaussian for each root, nats."""
    likelihood: float
    """The same with one for each leaf."""


def grow(
    statistics: Statistics,
    count: int,
    *,
    questions: Sequence[Question] | None = None,
    min_frames: float = MIN_FRAMES,
) -> Growth:
    """Grow to ``count`` leaves, or to as many as the occupancy and the questions allow.

    Each state of each phone has a tree of its own. With fewer leaves asked for than that, each phone has one, and the
    state is a question; with fewer leaves than phones there is one tree for all, and the phone is a question, too. A
    root that no frame was seen of is a leaf all the same.

    Args:
        statistics: moments by context.
        count: leaves.
        questions: classes of phones to ask about; ``questions_for`` when left out.
        min_frames: fewest frames of each side of a split.

    Raises:
        OptionsError: ``count`` or ``min_frames`` is not positive, or there are no frames.
    """
    if count < 1 or min_frames <= 0:
        raise OptionsError(f"count and min_frames must be positive, found {count} and {min_frames:g}")
    if not statistics.frames.sum():
        raise OptionsError("no frame lies under a phone of the alignment; nothing can be grown from it")
    grower = _Grower(statistics, tuple(questions or questions_for(statistics)), min_frames)
    grower.plant(count)
    while grower.leaves < count and grower.open:
        grower.split_best()
    return grower.growth()


def root_numbers(phones: int, states: int, count: int) -> Ints:
    """Root of each phone's state where ``count`` leaves are wanted, ``(phones, states)``."""
    if count >= phones * states:
        return np.arange(phones * states, dtype=np.int64).reshape(phones, states)
    if count >= phones:
        return np.repeat(np.arange(phones, dtype=np.int64)[:, None], states, axis=1)
    return np.zeros((phones, states), dtype=np.int64)


@dataclass
class _Node:
    rows: Ints
    """Rows of the statistics that end here."""
    factors: tuple[int, ...]
    """What may be asked."""
    likelihood: float
    split: Split | None = None
    branches: tuple[int, int] = (0, 0)


@dataclass
class _Grower:
    statistics: Statistics
    questions: tuple[Question, ...]
    min_frames: float
    nodes: list[_Node] = field(default_factory=list)
    open: list[tuple[float, int, Split]] = field(default_factory=list)
    """Leaves that can be split: minus the gain, node, how."""
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.floor = self.statistics.floor
        table = masks_of(self.questions, self.statistics.phones)
        steps = np.tri(max(0, self.statistics.states - 1), self.statistics.states, dtype=bool)
        self.masks: dict[int, NDArray[np.bool_]] = {LEFT: table, CENTRE: table, RIGHT: table, STATE: steps}

    @property
    def leaves(self) -> int:
        return len(self.nodes) - len(self.asked)

    def plant(self, count: int) -> None:
        """Make the roots."""
        statistics = self.statistics
        self.roots = root_numbers(len(statistics.phones), statistics.states, count)
        mine = self.roots[statistics.contexts[:, CENTRE], statistics.contexts[:, STATE]]
        number = int(self.roots.max()) + 1
        factors: tuple[int, ...] = (LEFT, RIGHT)
        if number < self.roots.size and statistics.states > 1:
            factors = (*factors, STATE)
        if number < len(statistics.phones):
            factors = (CENTRE, *factors)
        for root in range(number):
            self._add(np.flatnonzero(mine == root), factors)
        self.planted = number

    def _add(self, rows: Ints, factors: tuple[int, ...]) -> int:
        total = self.statistics.moments[rows].sum(axis=0)
        self.nodes.append(_Node(rows, factors, float(log_likelihood(total, self.floor))))
        number = len(self.nodes) - 1
        if total[0] >= 2 * self.min_frames and (split := self._best(self.nodes[number])) is not None:
            heapq.heappush(self.open, (-split.gain, number, split))
        return number

    def _best(self, node: _Node) -> Split | None:
        """Look for the question that gains most; of equal ones the first."""
        found: Split | None = None
        for factor in node.factors:
            gains = self._gains(node, factor)
            if not len(gains) or (best := float(gains.max())) <= TIE * abs(node.likelihood):
                continue
            question = int(np.argmax(gains >= best * (1 - TIE)))
            if found is None or best > found.gain * (1 + TIE):
                found = Split(best, factor, question)
        return found

    def _gains(self, node: _Node, factor: int) -> Floats:
        """Gain of each question about one column, ``(questions,)``; -inf for one that leaves too little on a side."""
        values = self.statistics.contexts[node.rows, factor]
        masks = self.masks[factor]
        totals = summed(self.statistics.moments[node.rows], values, masks.shape[1])
        sides = np.stack([masks.astype(np.float64), (~masks).astype(np.float64)]) @ totals
        gains: Floats = log_likelihood(sides, self.floor).sum(axis=0) - node.likelihood
        return np.where((sides[:, :, 0] >= self.min_frames).all(axis=0), gains, -np.inf)

    def split_best(self) -> None:
        """Split the leaf that gains most."""
        _, number, split = heapq.heappop(self.open)
        node = self.nodes[number]
        values = self.statistics.contexts[node.rows, split.factor]
        answers = self.masks[split.factor][split.question, values]
        self.asked.append(self._asked(node, split))
        node.split = split
        node.branches = (self._add(node.rows[answers], node.factors), self._add(node.rows[~answers], node.factors))

    def _asked(self, node: _Node, split: Split) -> Asked:
        phones = np.unique(self.statistics.contexts[node.rows, CENTRE])
        phone = self.statistics.phones[phones[0]] if len(phones) == 1 else ""
        name = f"<= {split.question + 1}" if split.factor == STATE else self.questions[split.question].name
        return Asked(split.gain, phone, split.factor, name)

    def growth(self) -> Growth:
        """Number the leaves by phone, state, and place in the tree."""
        ends = [self._end(number) for number in self._walk() if self.nodes[number].split is None]
        order = sorted(ends, key=lambda end: end[1:3])  # stable: the place in the tree decides last
        leaf = {end[0]: place for place, end in enumerate(order)}
        splits = [node.split for node in self.nodes]
        tree = Tree(
            phones=self.statistics.phones,
            states=self.statistics.states,
            questions=self.questions,
            roots=self.roots,
            factor=np.array([-1 if split is None else split.factor for split in splits], dtype=np.int64),
            question=np.array(
                [leaf[number] if split is None else split.question for number, split in enumerate(splits)], np.int64
            ),
            branches=np.array([node.branches for node in self.nodes], dtype=np.int64),
            leaf_phone=np.array([end[1] for end in order], dtype=np.int64),
            leaf_state=np.array([end[2] for end in order], dtype=np.int64),
            leaf_frames=np.array([end[3] for end in order], dtype=np.float64),
            leaf_visits=np.array([end[4] for end in order], dtype=np.float64),
        )
        likelihoods = [node.likelihood for node in self.nodes]
        return Growth(
            tree=tree,
            asked=tuple(self.asked),
            roots=self.planted,
            root_likelihood=sum(likelihoods[: self.planted]),
            likelihood=sum(likelihoods[end[0]] for end in order),
        )

    def _walk(self) -> list[int]:
        """Numbers of all nodes, yes before no."""
        found, waiting = [], list(range(self.planted))[::-1]
        while waiting:
            number = waiting.pop()
            found.append(number)
            if self.nodes[number].split is not None:
                waiting += self.nodes[number].branches[::-1]
        return found

    def _end(self, number: int) -> tuple[int, int, int, float, float]:
        """A leaf: node, phone and state of most of its frames, frames, visits."""
        rows = self.nodes[number].rows
        if not len(rows):
            phone, state = (int(place[0]) for place in np.nonzero(self.roots == number))
            return number, phone, state, 0.0, 0.0
        contexts, frames = self.statistics.contexts[rows], self.statistics.frames[rows]
        kinds = contexts[:, CENTRE] * self.statistics.states + contexts[:, STATE]
        phone, state = divmod(int(np.argmax(np.bincount(kinds, weights=frames))), self.statistics.states)
        return number, phone, state, float(frames.sum()), float(self.statistics.visits[rows].sum())
