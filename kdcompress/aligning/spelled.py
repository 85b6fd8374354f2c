"""The units of a reference, and the word that each of them belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.data.text import Encoder, wording
from kdcompress.errors import AlignmentError, VocabularyError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.data.lexicon import Lexicon
    from kdcompress.data.text import Units
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary


class SpelledText(NamedTuple):
    """A reference in the tokens of a run."""

    labels: tuple[int, ...]
    """Token ids."""
    units: tuple[str, ...]
    """Symbol of each; phones without ``▁``."""
    words: tuple[str, ...]
    """As they are written."""
    word_of: NDArray[np.int64]
    """Word that each unit belongs to, ``(U,)``, from 0; they never fall."""
    letters: NDArray[np.bool_]
    """False for a separator alone, ``(U,)``."""


@dataclass(frozen=True)
class Speller:
    """Spells the references of a manifest."""

    encode: Encoder
    vocabulary: Vocabulary
    kind: str
    """See ``Aligned.kind``."""
    lexicon: Lexicon | None

    @classmethod
    def of(cls, vocabulary: Vocabulary, units: Units, lexicon: Lexicon | None) -> Speller:
        """Spell in the tokens of a run; those of ``units: words`` are phones if there is a lexicon."""
        kind = "phones" if units == "words" and lexicon else units
        return cls(Encoder(vocabulary, units), vocabulary, kind, lexicon)

    def __call__(self, entry: ManifestEntry, where: str) -> SpelledText:
        """Spell a reference.

        Raises:
            VocabularyError: it holds a symbol that the run does not know, or a word that the lexicon does not.
            AlignmentError: the text is phones, and what the words are cannot be told.
        """
        if self.kind == "phones" and self.lexicon and "words" not in entry.extra:
            return self._said(entry.text, self.lexicon, where)
        labels, written = self._encoded(entry.text, where), tuple(wording(entry).split())
        symbols = tuple(self.vocabulary.symbols[label] for label in labels)
        letters = np.array([symbol != WORD_SEPARATOR for symbol in symbols], dtype=bool)
        if self.kind == "phones":
            units = tuple(symbol.replace(WORD_SEPARATOR, "") for symbol in symbols)
            return SpelledText(labels, units, written, self._words_of_phones(units, written, where), letters)
        if written != tuple(entry.text.split()):
            raise AlignmentError(
                f"{where}: the text {entry.text!r} is not the words {' '.join(written)!r}; give the --lexicon that "
                "made it of them"
            )
        return SpelledText(labels, symbols, written, _words_of_symbols(symbols, self.kind), letters)

    def _encoded(self, text: str, where: str) -> tuple[int, ...]:
        try:
            return self.encode(text, where)
        except VocabularyError as problem:
            if self.kind != "words":
                raise
            raise VocabularyError(
                f"{problem}; if the tokens are phones, give the --lexicon that says words in them"
            ) from None

    def _said(self, text: str, lexicon: Lexicon, where: str) -> SpelledText:
        """A text of words, as the lexicon says them."""
        words = tuple(text.split())
        try:
            said = [lexicon.phones(word).split() for word in words]
        except VocabularyError as problem:
            raise VocabularyError(f"{where}: {problem}") from problem
        units = tuple(phone for phones in said for phone in phones)
        word_of = np.repeat(np.arange(len(words)), [len(phones) for phones in said]).astype(np.int64)
        return SpelledText(self.encode(" ".join(units), where), units, words, word_of, np.ones(len(units), dtype=bool))

    def _words_of_phones(self, units: tuple[str, ...], written: tuple[str, ...], where: str) -> NDArray[np.int64]:
        if self.lexicon is None:
            raise ValueError("phones need a lexicon")
        said = [self.lexicon.phones(word).split() for word in written]
        expected = [phone for phones in said for phone in phones]
        owner = np.repeat(np.arange(len(said)), [len(phones) for phones in said])
        found = owner if list(units) == expected else owner[matched(units, expected)] if expected else owner
        if len(found) != len(units) or len(np.unique(found)) < len(written):
            raise AlignmentError(
                f"{where}: the phones {' '.join(units)!r} are not those of {' '.join(written)!r} in "
                f"{self.lexicon.path}; give the lexicon that they were made with"
            )
        return found.astype(np.int64)


def _words_of_symbols(symbols: Sequence[str], kind: str) -> NDArray[np.int64]:
    """By the ``▁``: one that stands between characters belongs to the word before, one in a subword begins a word."""
    marks = np.array([symbol.startswith(WORD_SEPARATOR) for symbol in symbols], dtype=np.int64)
    return np.cumsum(marks) - marks if kind == "characters" else np.cumsum(marks) - 1


def matched(found: Sequence[str], expected: Sequence[str]) -> NDArray[np.int64]:
    """Match two texts with the fewest edits, in order.

    Returns:
        ``(len(found),)``: place in ``expected`` of each of ``found``; what is too many belongs to its left neighbour.
    """
    costs = np.zeros((len(found) + 1, len(expected) + 1), dtype=np.int64)
    costs[0], costs[:, 0] = np.arange(len(expected) + 1), np.arange(len(found) + 1)
    codes: dict[str, int] = {}
    ids = [np.array([codes.setdefault(unit, len(codes)) for unit in text]) for text in (found, expected)]
    ahead = np.arange(len(expected) + 1)
    for row in range(1, len(found) + 1):
        changed = costs[row - 1, :-1] + (ids[1] != ids[0][row - 1])
        best = np.append(costs[row, 0], np.minimum(changed, costs[row - 1, 1:] + 1))
        costs[row] = np.minimum.accumulate(best - ahead) + ahead
    places, row, column = np.zeros(len(found), dtype=np.int64), len(found), len(expected)
    while row:
        if column and costs[row, column] == costs[row, column - 1] + 1:
            column -= 1
        elif column and costs[row, column] == costs[row - 1, column - 1] + (ids[0][row - 1] != ids[1][column - 1]):
            row, column = row - 1, column - 1
            places[row] = column
        else:
            row -= 1
            places[row] = max(column - 1, 0)
    return places
