"""Words as units; each is ``▁word``, as the tokens of a student of words are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kdcompress.data.text import split_units
from kdcompress.errors import VocabularyError
from kdcompress.units.content import checked_symbols, damaged, named, not_covered, places, without_blank
from kdcompress.units.inventory import Inventory, Spelled
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_runtime.vocabulary import Vocabulary

REMEDY = "take more words, take characters or subwords, or leave the text out"


class WordInventory(Inventory):
    """Whole words; there is none for a word that is not among them."""

    kind = "words"

    def __init__(self, symbols: Sequence[str]) -> None:
        if other := [symbol for symbol in symbols if not symbol.startswith(WORD_SEPARATOR)]:
            raise VocabularyError(f"{named(other)}: a word begins with {WORD_SEPARATOR}; take them as subwords")
        self.symbols = tuple(symbols)
        self._ids = places(self.symbols)

    @classmethod
    def from_texts(cls, texts: Iterable[str], most: int | None = None) -> WordInventory:
        """Collect the words of normalised texts, sorted; with ``most`` only so many, the most frequent.

        Of equally frequent words the alphabet decides.

        Raises:
            VocabularyError: the texts are all empty, or ``most`` is below 1.
        """
        if most is not None and most < 1:
            raise VocabularyError(f"an inventory needs at least one word, not {most}")
        counts = Counter(symbol for text in texts for symbol in split_units(text, "words"))
        if not counts:
            raise VocabularyError("the texts are all empty; words cannot be taken from them")
        frequent = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))[:most]
        return cls(sorted(frequent))

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary) -> WordInventory:
        """Take a student's tokens.

        Raises:
            VocabularyError: a token is no word.
        """
        return cls(without_blank(vocabulary))

    def spell(self, text: str, where: str = "text") -> Spelled:
        """See ``Inventory``."""
        words = split_units(text, "words")
        try:
            ids = tuple([self._ids[word] for word in words])
        except KeyError as error:
            missing = [word[1:] for word in words if word not in self._ids]
            raise not_covered(missing, where, "words", REMEDY) from error
        return Spelled(ids, tuple(range(len(ids))))

    def to_json(self) -> dict[str, Any]:
        """See ``Inventory``."""
        return {"kind": self.kind, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> WordInventory:
        """See ``Inventory``."""
        symbols = checked_symbols(content, cls.kind, source)
        if other := [symbol for symbol in symbols if not symbol.startswith(WORD_SEPARATOR)]:
            raise damaged(source, f"{named(other)} in it: a word begins with {WORD_SEPARATOR}")
        return cls(symbols)
