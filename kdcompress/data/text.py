"""Text <-> token ids. Units are characters, with the token ``▁`` between words, or words, ``▁`` and the word in one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

from kdcompress.errors import VocabularyError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable


Units = Literal["characters", "words"]


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


def unit_vocabulary(texts: Iterable[str], units: Units) -> Vocabulary:
    """Collect the units of ``texts``, sorted, after the blank.

    Raises:
        VocabularyError: the texts are all empty.
    """
    symbols = {symbol for text in texts for symbol in split_units(text, units)}
    if not symbols:
        raise VocabularyError("the training texts are all empty; a vocabulary cannot be made from them")
    return Vocabulary.from_symbols(sorted(symbols))


def encode(text: str, vocabulary: Vocabulary, where: str = "text", units: Units = "characters") -> tuple[int, ...]:
    """Turn text into ids.

    Raises:
        VocabularyError: a character, or a word, is not in the vocabulary; ``where`` names the place.
    """
    ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols)}
    try:
        return tuple(ids[symbol] for symbol in split_units(text, units))
    except KeyError as error:
        raise VocabularyError(
            f"{where}: {error.args[0]!r} in {text!r} is not in the vocabulary; "
            "normalise the text, or train with texts that hold it"
        ) from error


def split_units(text: str, units: Units) -> list[str]:
    """Symbols of a text, in order."""
    if units == "words":
        return [WORD_SEPARATOR + word for word in text.split()]
    return list(WORD_SEPARATOR.join(text.split()))


def frames_needed(labels: tuple[int, ...]) -> int:
    """Shortest CTC alignment: one frame a label, and a blank between two equal ones."""
    return len(labels) + sum(left == right for left, right in itertools.pairwise(labels))
