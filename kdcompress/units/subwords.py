"""Subwords as units: by byte-pair encoding, as a student's tokens are, or by a unigram model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kdcompress.data.subwords import train_subwords
from kdcompress.errors import VocabularyError
from kdcompress.units.characters import REMEDY, SEPARATOR_SHARE
from kdcompress.units.content import checked_symbols, damaged, not_covered, places, without_blank
from kdcompress.units.inventory import Inventory, Spelled
from kdcompress.units.unigram import best_pieces, train_unigram
from kdcompress_runtime.subwords import split_word
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_runtime.vocabulary import Vocabulary

Algorithm = Literal["bpe", "unigram"]


class SubwordInventory(Inventory):
    """Subwords; ``▁`` begins a word. With ``scores``, log-probabilities by id, they are those of a unigram model."""

    kind = "subwords"

    def __init__(self, symbols: Sequence[str], scores: Sequence[float] | None = None) -> None:
        self.symbols = tuple(symbols)
        self.scores = None if scores is None else tuple(scores)
        self._ids = places(self.symbols)
        self._score_of = None if scores is None else dict(zip(self.symbols, scores, strict=True))
        self._longest = max(map(len, self.symbols))
        self._shares = [len(symbol.replace(WORD_SEPARATOR, "")) or SEPARATOR_SHARE for symbol in self.symbols]
        self._words: dict[str, tuple[int, ...]] = {}

    @property
    def algorithm(self) -> Algorithm:
        """How words are cut."""
        return "bpe" if self.scores is None else "unigram"

    @classmethod
    def train(cls, texts: Iterable[str], size: int, algorithm: Algorithm = "bpe") -> SubwordInventory:
        """Learn ``size`` subwords from normalised texts; those of ``bpe`` are a student's, symbol by symbol.

        Raises:
            VocabularyError: there is no such algorithm; the texts are all empty, too few, or have more characters.
            MissingDependencyError: the package ``tokenizers`` is not there.
        """
        if algorithm == "bpe":
            return cls(train_subwords(texts, size))
        if algorithm == "unigram":
            scores = train_unigram(texts, size)
            return cls(tuple(scores), tuple(scores.values()))
        raise VocabularyError(f"subwords are learned by bpe or unigram, not by {algorithm!r}")

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary) -> SubwordInventory:
        """Take a student's tokens, which stand in the order of their merges."""
        return cls(without_blank(vocabulary))

    def spell(self, text: str, where: str = "text") -> Spelled:
        """See ``Inventory``."""
        words = text.split()
        spelled = [self._words.get(word) or self._spell_word(word, text, where) for word in words]
        ids = tuple([index for word in spelled for index in word])
        return Spelled(ids, tuple([number for number, word in enumerate(spelled) for _ in word]))

    def shares(self, ids: Sequence[int]) -> tuple[float, ...]:
        """See ``Inventory``: as many as it has letters; ``▁`` alone gets a quarter of one."""
        return tuple([self._shares[index] for index in ids])

    def to_json(self) -> dict[str, Any]:
        """See ``Inventory``."""
        content: dict[str, Any] = {"kind": self.kind, "algorithm": self.algorithm, "symbols": list(self.symbols)}
        return content if self.scores is None else {**content, "scores": list(self.scores)}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> SubwordInventory:
        """See ``Inventory``."""
        symbols = checked_symbols(content, cls.kind, source)
        algorithm, scores = content.get("algorithm"), content.get("scores")
        if algorithm == "bpe":
            return cls(symbols)
        if algorithm != "unigram":
            raise damaged(source, f"its algorithm is {algorithm!r}, neither 'bpe' nor 'unigram'")
        if not isinstance(scores, list) or len(scores) != len(symbols):
            raise damaged(source, "there is not one score for each symbol")
        if not all(isinstance(score, (int, float)) and score <= 0 for score in scores):
            raise damaged(source, "a score in it is no log-probability")
        return cls(symbols, scores)

    def _spell_word(self, word: str, text: str, where: str) -> tuple[int, ...]:
        """Units of a word that was not met before."""
        whole = WORD_SEPARATOR + word
        parts: list[str] | None
        if self._score_of is None:
            parts = split_word(whole, self._ids)
        else:
            parts = best_pieces(whole, self._score_of, self._longest)
        if parts is None or not all(part in self._ids for part in parts):
            raise not_covered(self._missing(text) or {word}, where, "characters", REMEDY)
        self._words[word] = ids = tuple([self._ids[part] for part in parts])
        return ids

    def _missing(self, text: str) -> set[str]:
        """Characters of a text that are no units by themselves; each must be, or words would be cut by luck."""
        return {character for word in text.split() for character in WORD_SEPARATOR + word if character not in self._ids}
