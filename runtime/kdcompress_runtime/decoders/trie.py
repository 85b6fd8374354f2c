"""The words that a language model or a lexicon knows, as a trie over letters in flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.spelling import Spelling

ROOT = 0
"""Node of no word in progress."""
OUTSIDE = -1
"""In place of a node: the word in progress is the beginning of no word here."""


@dataclass(frozen=True, eq=False)
class Trie:
    """n nodes, the root first, level by level; the m = n - 1 edges are sorted by node, then by letter."""

    edge_start: NDArray[np.int32]
    """Edges of node ``i`` are ``edge_start[i]:edge_start[i + 1]``; shape ``(n + 1,)``."""
    edge_letter: NDArray[np.int32]
    """Letter of each edge; shape ``(m,)``."""
    edge_node: NDArray[np.int32]
    """Node that each edge leads to; shape ``(m,)``."""
    word: NDArray[np.int32]
    """Id of the word that ends at each node, -1 where none does; shape ``(n,)``."""
    best: NDArray[np.float32]
    """Largest weight of the words at or below each node; shape ``(n,)``. ``-inf`` at the root of an empty trie."""
    letters: int
    """A, the size of the alphabet."""

    @classmethod
    def build(
        cls, spelling: Spelling, words: Sequence[str], ids: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> Trie:
        """Build the trie of the words that can be spelt; the others, and empty ones, are left out.

        Args:
            spelling: the letters.
            words: W different words.
            ids: id of each word, at least 0; shape ``(W,)``.
            weights: weight of each word, for ``best``; shape ``(W,)``.
        """
        letters, lengths = spelling.encode(words)
        begins = np.cumsum(lengths) - lengths
        unknown = np.concatenate(([0], np.cumsum(letters < 0)))
        (left,) = np.nonzero((lengths > 0) & (unknown[begins + lengths] == unknown[begins]))
        places = np.zeros(len(left), dtype=np.int64)  # node at which each remaining word stands
        word, best = [np.full(1, -1, np.int32)], [np.full(1, -np.inf, np.float32)]
        parents, edges = [], []
        nodes, depth = 1, 0
        while len(left):
            keys = places * spelling.size + letters[begins[left] + depth]
            level, index = np.unique(keys, return_inverse=True)
            index = index.reshape(-1)  # numpy 2.0 gave it another shape
            parents.append(level // spelling.size)
            edges.append(level % spelling.size)
            word.append(np.full(len(level), -1, np.int32))
            best.append(np.full(len(level), -np.inf, np.float32))
            np.maximum.at(best[-1], index, weights[left])
            depth += 1
            ends = lengths[left] == depth
            word[-1][index[ends]] = ids[left[ends]]
            places, left = (index + nodes)[~ends], left[~ends]
            nodes += len(level)
        parent = np.concatenate([np.zeros(0, np.int64), *parents])
        best[0][:] = max((level.max() for level in best[1:2]), default=-np.inf)
        return cls(
            edge_start=np.searchsorted(parent, np.arange(nodes + 1)).astype(np.int32),
            edge_letter=np.concatenate([np.zeros(0, np.int64), *edges]).astype(np.int32),
            edge_node=np.arange(1, nodes, dtype=np.int32),
            word=np.concatenate(word),
            best=np.concatenate(best),
            letters=spelling.size,
        )

    def __len__(self) -> int:
        return len(self.word)

    @cached_property
    def _edges(self) -> NDArray[np.int64]:
        """Node and letter of each edge as one number; ascending."""
        node = np.repeat(np.arange(len(self)), np.diff(self.edge_start))
        return node * self.letters + self.edge_letter

    def step(self, nodes: NDArray[np.int64], letters: NDArray[np.int64]) -> NDArray[np.int64]:
        """Nodes after one more letter each, ``OUTSIDE`` where there is none; arrays of one shape."""
        if not len(self._edges):
            return np.full(nodes.shape, OUTSIDE)
        wanted = nodes * self.letters + letters  # below 0 where the node is OUTSIDE: found nowhere
        place = np.minimum(np.searchsorted(self._edges, wanted), len(self._edges) - 1)
        return np.where(self._edges[place] == wanted, self.edge_node[place], np.int64(OUTSIDE))

    def find(self, letters: Sequence[int]) -> int:
        """Id of the word with these letters; -1 where there is none."""
        node = np.full(1, ROOT)
        for letter in letters:
            node = self.step(node, np.array([letter]))
        return int(self.word[node[0]]) if node[0] > ROOT else OUTSIDE
