"""Tokens as letters, so that characters (``▁`` alone) and subwords (``▁he``) need no cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from kdcompress_runtime.vocabulary import Vocabulary

SEPARATOR = 0
"""Id of the letter between words."""


@dataclass(frozen=True, eq=False)
class Spelling:
    """The letters of every token, by id: 0 is the separator (and whitespace), 1 .. A-1 are the others."""

    alphabet: tuple[str, ...]
    """Letter by id; A of them."""
    starts: NDArray[np.int32]
    """Token ``t`` is spelt ``letters[starts[t]:starts[t + 1]]``; shape ``(C + 1,)``. The blank has no letters."""
    letters: NDArray[np.int32]
    """Letter ids of all tokens, one after the other."""

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Spelling:
        """Spell the symbols of a vocabulary."""
        rows = [_separated(symbol) for symbol in vocabulary.symbols]
        rows[vocabulary.blank_id] = ""
        alphabet = (WORD_SEPARATOR, *sorted({letter for row in rows for letter in row} - {WORD_SEPARATOR}))
        ids = {letter: index for index, letter in enumerate(alphabet)}
        return cls(
            alphabet=alphabet,
            starts=np.cumsum([0, *map(len, rows)], dtype=np.int32),
            letters=np.array([ids[letter] for row in rows for letter in row], dtype=np.int32),
        )

    @property
    def size(self) -> int:
        """A, letters in the alphabet; the separator is one even where no token holds it."""
        return len(self.alphabet)

    @property
    def separated(self) -> bool:
        """Whether any token holds a separator; without one there are no borders between words."""
        return bool((self.letters == SEPARATOR).any())

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id by letter."""
        return {letter: index for index, letter in enumerate(self.alphabet)}

    @cached_property
    def padded(self) -> NDArray[np.int64]:
        """Letters of each token, -1 after the last; shape ``(C, longest)``."""
        lengths = np.diff(self.starts)
        table = np.full((len(lengths), max(int(lengths.max(initial=0)), 1)), -1, dtype=np.int64)
        table[np.arange(table.shape[1]) < lengths[:, None]] = self.letters
        return table

    def encode(self, words: Collection[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Letters of many words at once.

        Args:
            words: W words, without separators.

        Returns:
            Letter ids of all words, one after the other, -1 for letters that no token holds and for separators;
            and the length of each word, shape ``(W,)``.
        """
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        # surrogatepass: a word out of a damaged file is one that cannot be spelt, not an error here
        codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        known = np.array([ord(letter) for letter in self.alphabet[1:]], dtype=np.uint32)
        if not len(known):
            return np.full(len(codes), -1, dtype=np.int32), lengths
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        return np.where(known[place] == codes, place + 1, -1).astype(np.int32), lengths


def _separated(symbol: str) -> str:
    """``symbol`` with every whitespace as a separator: text is split at both."""
    return "".join(WORD_SEPARATOR if letter.isspace() else letter for letter in symbol)
