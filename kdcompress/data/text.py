"""Text <-> token ids: characters, with the token ``▁`` between words; or words; or subwords. ``▁`` begins a word."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Literal

from kdcompress.data.subwords import train_subwords
from kdcompress.errors import VocabularyError
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.subwords import split_word
from kdcompress_runtime.vocabulary import WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kdcompress_runtime.manifest import ManifestEntry

Units = Literal["characters", "words", "subwords"]


def character_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Collect the characters of ``texts``, sorted, after the blank.

    Raises:
        VocabularyError: the texts are all empty.
    """
    return unit_vocabulary(texts, "characters")


def word_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Collect the words of ``texts`` (phones, for texts of phones), sorted, after the blank; each is ``▁word``.

    Raises:
        VocabularyError: the texts are all empty.
    """
    return unit_vocabulary(texts, "words")


def unit_vocabulary(texts: Iterable[str], units: Units, subwords: int = 0) -> Vocabulary:
    """Collect the units of ``texts``, sorted, after the blank; or learn as many ``subwords`` from them.

    Raises:
        VocabularyError: the texts are all empty; or too few, or of too many characters, for so many subwords.
    """
    if units == "subwords":
        return Vocabulary.from_symbols(train_subwords(texts, subwords))
    symbols = indispensable(texts, units)
    if not symbols:
        raise VocabularyError("the training texts are all empty; a vocabulary cannot be made from them")
    return Vocabulary.from_symbols(sorted(symbols))


def indispensable(texts: Iterable[str], units: Units) -> set[str]:
    """Symbols without which ``texts`` cannot be written: all units, or the characters that subwords are made of."""
    if units == "subwords":
        return {character for text in texts for word in text.split() for character in WORD_SEPARATOR + word}
    return {symbol for text in texts for symbol in split_units(text, units)}


def encode(text: str, vocabulary: Vocabulary, where: str = "text", units: Units = "characters") -> tuple[int, ...]:
    """Turn text into ids.

    Raises:
        VocabularyError: a character, or a word, is not in the vocabulary; ``where`` names the place.
    """
    return Encoder(vocabulary, units)(text, where)


class Encoder:
    """``encode`` for many texts."""

    def __init__(self, vocabulary: Vocabulary, units: Units) -> None:
        self.units = units
        self._ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols)}
        self._words: dict[str, list[str]] = {}

    def __call__(self, text: str, where: str = "text") -> tuple[int, ...]:
        """Turn text into ids; see ``encode``."""
        symbols = self._subwords(text) if self.units == "subwords" else split_units(text, self.units)
        try:
            return tuple(map(self._ids.__getitem__, symbols))
        except KeyError as error:
            raise VocabularyError(
                f"{where}: {error.args[0]!r} in {text!r} is not in the vocabulary; "
                "normalise the text, or train with texts that hold it"
            ) from error

    def _subwords(self, text: str) -> list[str]:
        """Symbols of a text, in order; each word is looked at once, because texts repeat them."""
        words = text.split()
        for word in words:
            if word not in self._words:
                self._words[word] = split_word(WORD_SEPARATOR + word, self._ids)
        return [symbol for word in words for symbol in self._words[word]]


def split_units(text: str, units: Literal["characters", "words"]) -> list[str]:
    """Symbols of a text, in order."""
    if units == "words":
        return [WORD_SEPARATOR + word for word in text.split()]
    return list(WORD_SEPARATOR.join(text.split()))


def wording(entry: ManifestEntry) -> str:
    """Words of an entry: its field ``words``, where its text is phones or the like, else its text."""
    words = entry.extra.get("words")
    return words if isinstance(words, str) else entry.text


def wordings(manifest: Path) -> Iterator[str]:
    """``wording`` of every entry of a manifest."""
    return (wording(entry) for entry in read_manifest(manifest))


def frames_needed(labels: tuple[int, ...]) -> int:
    """Shortest CTC alignment: one frame a label, and a blank between two equal ones."""
    doubled: int = sum(map(operator.eq, labels, labels[1:]))
    return len(labels) + doubled
