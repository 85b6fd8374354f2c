"""Phones as units, through a lexicon and guesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress.errors import VocabularyError
from kdcompress.units.content import checked_symbols, damaged, places
from kdcompress.units.inventory import Inventory, Spelled
from kdcompress.units.pronunciation import Pronouncer

if TYPE_CHECKING:
    from collections.abc import Sequence


class PhoneInventory(Inventory):
    """Phones of the words of a text; nothing marks where a word ends but ``Spelled.words``."""

    kind = "phones"

    def __init__(self, pronouncer: Pronouncer, symbols: Sequence[str] | None = None) -> None:
        """Take the phones that ``pronouncer`` knows, sorted; or ``symbols`` in their order.

        Raises:
            VocabularyError: the pronouncer knows a phone that is not among ``symbols``.
        """
        self.pronouncer = pronouncer
        self.symbols = pronouncer.phones if symbols is None else tuple(symbols)
        self._ids = places(self.symbols)
        if missing := sorted(set(pronouncer.phones).difference(self.symbols)):
            raise VocabularyError(f"the phone {missing[0]!r} of {pronouncer.source} is not among the symbols")
        self._words: dict[str, tuple[int, ...]] = {}

    def spell(self, text: str, where: str = "text") -> Spelled:
        """See ``Inventory``."""
        words = text.split()
        if new := [word for word in words if word not in self._words]:
            try:
                said = self.pronouncer.pronounce(new)
            except VocabularyError as problem:
                raise VocabularyError(f"{where}: {problem}") from problem
            self._words.update({word: tuple([self._ids[phone] for phone in said[word]]) for word in said})
        spelled = [self._words[word] for word in words]
        ids = tuple([index for word in spelled for index in word])
        return Spelled(ids, tuple([number for number, word in enumerate(spelled) for _ in word]))

    def to_json(self) -> dict[str, Any]:
        """See ``Inventory``: with the lexicon and what guesses."""
        return {"kind": self.kind, "symbols": list(self.symbols), **self.pronouncer.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> PhoneInventory:
        """See ``Inventory``."""
        symbols = checked_symbols(content, cls.kind, source)
        pronouncer = Pronouncer.from_json(content, source)
        if missing := sorted(set(pronouncer.phones).difference(symbols)):
            raise damaged(source, f"the phone {missing[0]!r} of its lexicon is not among its symbols")
        return cls(pronouncer, symbols)
