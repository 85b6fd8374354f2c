"""Characters as units, with ``▁`` between words: those of a student of characters, in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress.data.text import split_units, unit_vocabulary
from kdcompress.errors import VocabularyError
from kdcompress.units.content import checked_symbols, damaged, named, not_covered, places, without_blank
from kdcompress.units.inventory import Inventory, Spelled
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_runtime.vocabulary import Vocabulary

SEPARATOR_SHARE = 0.25
"""Of a letter's time: words mostly follow each other without a pause."""
REMEDY = "normalise the text, or make the units from texts that hold them"


class CharacterInventory(Inventory):
    """Single characters. A separator belongs to the word before it."""

    kind = "characters"

    def __init__(self, symbols: Sequence[str]) -> None:
        """Take the characters, ``▁`` among them if there are several words."""
        if several := [symbol for symbol in symbols if len(symbol) != 1]:
            raise VocabularyError(f"{named(several)}: no single characters; take them as subwords or as words")
        self.symbols = tuple(symbols)
        self._ids = places(self.symbols)
        self._separator = self._ids.get(WORD_SEPARATOR)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> CharacterInventory:
        """Collect the characters of normalised texts, as ``character_vocabulary`` does.

        Raises:
            VocabularyError: the texts are all empty.
        """
        return cls.from_vocabulary(unit_vocabulary(texts, "characters"))

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary) -> CharacterInventory:
        """Take a student's tokens.

        Raises:
            VocabularyError: a token is more than one character.
        """
        return cls(without_blank(vocabulary))

    def spell(self, text: str, where: str = "text") -> Spelled:
        """See ``Inventory``."""
        characters = split_units(text, "characters")
        try:
            ids = tuple([self._ids[character] for character in characters])
        except KeyError as error:
            missing = [character for character in characters if character not in self._ids]
            raise not_covered(missing, where, "characters", REMEDY) from error
        words: list[int] = []
        for number, word in enumerate(text.split()):
            words.extend([number] * (len(word) + 1))
        return Spelled(ids, tuple(words[: len(ids)]))

    def shares(self, ids: Sequence[int]) -> tuple[float, ...]:
        """See ``Inventory``; a separator gets a quarter of a letter."""
        return tuple([SEPARATOR_SHARE if index == self._separator else 1.0 for index in ids])

    def to_json(self) -> dict[str, Any]:
        """See ``Inventory``."""
        return {"kind": self.kind, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> CharacterInventory:
        """See ``Inventory``."""
        symbols = checked_symbols(content, cls.kind, source)
        if several := [symbol for symbol in symbols if len(symbol) != 1]:
            raise damaged(source, f"{named(several)} in it: no single characters")
        return cls(symbols)
