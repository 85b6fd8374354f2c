"""How words are said: by the lexicon; and of words that it lacks, by a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kdcompress.errors import VocabularyError
from kdcompress.units.content import damaged, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kdcompress.data.lexicon import Lexicon

Phones = tuple[str, ...]


class Guesser(Protocol):
    """Says words that no lexicon holds."""

    phones: Phones
    """All that it may answer with."""

    def __call__(self, words: Sequence[str]) -> list[Phones]:
        """Return the phones of each word, one at least.

        Raises:
            VocabularyError: a word holds what it cannot say.
        """

    def to_json(self) -> dict[str, Any]:
        """Everything that ``guesser_from_json`` needs."""


class Pronouncer:
    """Words to phones. It never changes; what was guessed is kept for the next time."""

    def __init__(
        self, entries: Mapping[str, Phones], guesser: Guesser | None = None, source: str = "the lexicon"
    ) -> None:
        """Take phones by word.

        Args:
            entries: of each word, in small letters, its phones without stress.
            guesser: says what is not among them; None: nothing does.
            source: names the lexicon in messages.

        Raises:
            VocabularyError: there are no entries.
        """
        if not entries:
            raise VocabularyError(f"{source} is empty; phones need entries such as `CAT K AE1 T`")
        self.entries = dict(entries)
        self.guesser = guesser
        self.source = source
        found = {phone for said in self.entries.values() for phone in said}
        self.phones: Phones = tuple(sorted(found.union(guesser.phones if guesser else ())))
        self._guessed: dict[str, Phones] = {}

    @classmethod
    def from_lexicon(cls, lexicon: Lexicon, guesser: Guesser | None = None) -> Pronouncer:
        """Take a lexicon: the first pronunciation of each word, without stress."""
        return cls(entries_of(lexicon), guesser, str(lexicon.path))

    def __call__(self, word: str) -> Phones:
        """Phones of one word; see ``pronounce``."""
        return self.pronounce((word,))[word]

    def pronounce(self, words: Iterable[str]) -> dict[str, Phones]:
        """Phones by word; whatever must be guessed is guessed in one go.

        Raises:
            VocabularyError: words are not in the lexicon, and nothing guesses.
        """
        different = dict.fromkeys(words)
        missing = [word for word in different if word not in self.entries and word not in self._guessed]
        if missing:
            if self.guesser is None:
                raise VocabularyError(
                    f"no pronunciation of {named(missing)} in {self.source}; add it there, or let it be guessed (g2p)"
                )
            self._guessed.update(zip(missing, self.guesser(missing), strict=True))
        return {word: self.entries.get(word) or self._guessed[word] for word in different}

    def to_json(self) -> dict[str, Any]:
        """Entries and guesser; nothing of what was guessed."""
        said = {word: " ".join(phones) for word, phones in sorted(self.entries.items())}
        return {"lexicon": said, "g2p": self.guesser.to_json() if self.guesser else None}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> Pronouncer:
        """Read back what ``to_json`` gave.

        Raises:
            VocabularyError: it is damaged.
        """
        said = content.get("lexicon")
        if not isinstance(said, dict) or not said:
            raise damaged(source, "it holds no lexicon")
        entries = {word: tuple(phones.split()) for word, phones in said.items() if isinstance(phones, str)}
        if len(entries) < len(said) or not all(entries.values()):
            raise damaged(source, "a word of its lexicon has no phones")
        return cls(entries, guesser_from_json(content.get("g2p"), source), source)


def entries_of(lexicon: Lexicon) -> dict[str, Phones]:
    """Phones by word."""
    return {word: tuple(phones.split()) for word, phones in lexicon.pronunciations.items()}


def guesser_from_json(content: Any, source: str) -> Guesser | None:  # noqa: ANN401 (whatever JSON holds)
    """Read back what a guesser's ``to_json`` gave.

    Raises:
        VocabularyError: it is damaged, or of a kind that is not known.
    """
    if content is None:
        return None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind == "graphones":
        from kdcompress.units.g2p import GraphoneModel

        return GraphoneModel.from_json(content, source)
    if kind == "espeak":
        from kdcompress.units.espeak import Espeak

        return Espeak.from_json(content, source)
    raise damaged(source, f"its g2p is of the kind {kind!r}, neither 'graphones' nor 'espeak'")
