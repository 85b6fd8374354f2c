"""An inventory of units, and how a text is spelled in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spelled(NamedTuple):
    """A text in units."""

    ids: tuple[int, ...]
    """Of each unit, by its place in ``Inventory.symbols``."""
    words: tuple[int, ...]
    """Word of the text (``text.split()``) that each unit belongs to, from 0; they never fall."""


class Inventory(ABC):
    """Units of one kind. Ids run from 0; there is no blank, no padding and no sentence mark among them."""

    kind: ClassVar[str]
    """``characters``, ``subwords``, ``phones``, ``senones``...; selects the class when it is read back."""
    symbols: tuple[str, ...]
    """Unit by id, each once. Of units that are letters, ``▁`` begins a word, or stands between two."""

    @abstractmethod
    def spell(self, text: str, where: str = "text") -> Spelled:
        """Write a normalised text in units; an empty text has none.

        Raises:
            VocabularyError: a word, or a character, cannot be written; ``where`` names the place.
        """

    def shares(self, ids: Sequence[int]) -> tuple[float, ...]:
        """How the time of one word is divided among its units ``ids`` where nothing tells; positive."""
        return (1.0,) * len(ids)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Everything that ``from_json`` needs, ``kind`` included; a language model keeps it as ``units.json``."""

    @classmethod
    @abstractmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> Inventory:
        """Read back what ``to_json`` gave.

        Raises:
            VocabularyError: it is damaged; ``source`` names the file.
        """
