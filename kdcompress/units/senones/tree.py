"""A phonetic decision tree: every context, seen or not, has a leaf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.errors import VocabularyError
from kdcompress.units.senones.moments import CENTRE, LEFT, RIGHT, SILENCE, STATE
from kdcompress.units.senones.questions import Question, masks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from kdcompress.units.senones.moments import Floats, Ints

FACTORS = ("left", "centre", "right", "state")
"""What a node may ask about, by column of a context."""


@dataclass(frozen=True)
class Tree:
    """Nodes (M of them) and leaves (L); a child's number is higher than its parent's."""

    phones: tuple[str, ...]
    states: int
    questions: tuple[Question, ...]
    roots: Ints
    """Node that a phone's state begins at, ``(phones, states)``."""
    factor: Ints
    """Column of a context that a node asks about; -1: it is a leaf; ``(M,)``."""
    question: Ints
    """Of a phone: which class; of a state: whether it is this one or one before; of a leaf: its number; ``(M,)``."""
    branches: Ints
    """Nodes for yes and no, ``(M, 2)``; zero of a leaf."""
    leaf_phone: Ints
    """Phone of each leaf, or the one with most frames where several share it, ``(L,)``."""
    leaf_state: Ints
    """The same of the state, from 0, ``(L,)``."""
    leaf_frames: Floats
    """Frames that each was grown from, ``(L,)``."""
    leaf_visits: Floats
    """Parts of phones that they are of, ``(L,)``."""

    def __post_init__(self) -> None:
        # states are asked by thresholds: question k is whether the state is at most k
        table = masks_of(self.questions, self.phones)
        steps = np.tri(max(0, self.states - 1), self.states, dtype=bool)
        object.__setattr__(self, "_masks", {LEFT: table, CENTRE: table, RIGHT: table, STATE: steps})

    def __len__(self) -> int:
        return len(self.leaf_phone)

    def masks(self, factor: int) -> NDArray[np.bool_]:
        """Whether a value of that column is answered with yes, ``(questions, values)``."""
        found: NDArray[np.bool_] = self.__dict__["_masks"][factor]
        return found

    def leaves(self, contexts: Ints) -> Ints:
        """Leaf of each context ``(N, 4)`` (left phone, phone, right phone, state): ``(N,)``."""
        nodes: Ints = self.roots[contexts[:, CENTRE], contexts[:, STATE]]
        while (asking := np.flatnonzero(self.factor[nodes] >= 0)).size:
            here = nodes[asking]
            answers = np.zeros(len(here), dtype=bool)
            for factor in range(len(FACTORS)):
                asked = np.flatnonzero(self.factor[here] == factor)
                values = contexts[asking[asked], factor]
                answers[asked] = self.masks(factor)[self.question[here[asked]], values]
            nodes[asking] = self.branches[here, np.where(answers, 0, 1)]
        found: Ints = self.question[nodes]
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything but the phones; nodes are ``[factor, question, yes, no]``, or ``[leaf]``."""
        nodes = [
            [FACTORS[factor], question, *branches] if factor >= 0 else [question]
            for factor, question, branches in zip(
                self.factor.tolist(), self.question.tolist(), self.branches.tolist(), strict=True
            )
        ]
        return {
            "states": self.states,
            "questions": [[question.name, *question.members] for question in self.questions],
            "roots": self.roots.tolist(),
            "nodes": nodes,
            "leaves": [
                [self.phones[phone], state, frames, visits]
                for phone, state, frames, visits in zip(
                    self.leaf_phone.tolist(),
                    self.leaf_state.tolist(),
                    self.leaf_frames.tolist(),
                    self.leaf_visits.tolist(),
                    strict=True,
                )
            ],
        }


def tree_from_json(content: dict[str, Any], phones: Sequence[str], source: str) -> Tree:
    """Read back what ``Tree.to_json`` gave.

    Raises:
        VocabularyError: it is damaged.
    """
    try:
        tree = _read(content, tuple(phones))
        problem = next(_problems(tree), None)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise VocabularyError(f"{source}: the tree of its senones is damaged ({error!r}); build it again") from error
    if problem:
        raise VocabularyError(f"{source}: the tree of its senones is damaged ({problem}); build it again")
    return tree


def _read(content: dict[str, Any], phones: tuple[str, ...]) -> Tree:
    nodes, leaves = content["nodes"], content["leaves"]
    ids = {phone: index for index, phone in enumerate(phones)}
    inner = [node if len(node) == 4 else [None, *node, 0, 0] for node in nodes]
    return Tree(
        phones=phones,
        states=int(content["states"]),
        questions=tuple(Question(name, tuple(members)) for name, *members in content["questions"]),
        roots=np.array(content["roots"], dtype=np.int64),
        factor=np.array([FACTORS.index(node[0]) if node[0] is not None else -1 for node in inner], dtype=np.int64),
        question=np.array([node[1] for node in inner], dtype=np.int64),
        branches=np.array([node[2:] for node in inner], dtype=np.int64),
        leaf_phone=np.array([ids[leaf[0]] for leaf in leaves], dtype=np.int64),
        leaf_state=np.array([leaf[1] for leaf in leaves], dtype=np.int64),
        leaf_frames=np.array([leaf[2] for leaf in leaves], dtype=np.float64),
        leaf_visits=np.array([leaf[3] for leaf in leaves], dtype=np.float64),
    )


def _problems(tree: Tree) -> Iterator[str]:
    """What is wrong with a tree, in an order in which what comes later may rely on what came before."""
    count, inner = len(tree.factor), tree.factor >= 0
    if SILENCE in tree.phones:
        yield f"{SILENCE} is a phone"
    if tree.states < 1 or tree.roots.shape != (len(tree.phones), tree.states):
        yield f"roots for {len(tree.phones)} phones of {tree.states} states, found {tree.roots.shape}"
    if not ((tree.roots >= 0) & (tree.roots < count)).all():
        yield "a root that is no node"
    if not (tree.branches[inner] > np.flatnonzero(inner)[:, None]).all() or not (tree.branches < count).all():
        yield "a branch that leads to no later node"
    if sorted(tree.question[~inner].tolist()) != list(range(len(tree))):
        yield f"{len(tree)} leaves, found {np.count_nonzero(~inner)} nodes that end in one"
    sizes = np.array([len(tree.masks(factor)) for factor in range(len(FACTORS))])
    if not ((tree.question >= 0) & (tree.question < sizes[tree.factor]))[inner].all():
        yield "a question that it does not have"
    if not ((tree.leaf_state >= 0) & (tree.leaf_state < tree.states)).all():
        yield "a state that it does not have"
    if not (np.isfinite(tree.leaf_frames) & (tree.leaf_frames >= 0) & (tree.leaf_visits >= 0)).all():
        yield "a leaf with a number of frames that is none"
