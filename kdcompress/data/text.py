"""Text <-> token ids. Characters are the units; a blank between words is the token ``▁``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kdcompress.errors import VocabularyError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable


def character_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Collect the characters of ``texts``, sorted, after the blank.

    Raises:
        VocabularyError: the texts are all empty.
    """
    characters = {character for text in texts for character in _separated(text)}
    if not characters:
        raise VocabularyError("the training texts are all empty; a vocabulary cannot be made from them")
    return Vocabulary.from_symbols(sorted(characters))


def encode(text: str, vocabulary: Vocabulary, where: str = "text") -> tuple[int, ...]:
    """Turn text into ids.

    Raises:
        VocabularyError: a character is not in the vocabulary; ``where`` names the place.
    """
    ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols)}
    try:
        return tuple(ids[character] for character in _separated(text))
    except KeyError as error:
        raise VocabularyError(
            f"{where}: {error.args[0]!r} in {text!r} is not in the vocabulary; "
            "normalise the text, or train with texts that hold it"
        ) from error


def frames_needed(labels: tuple[int, ...]) -> int:
    """Shortest CTC alignment: one frame a label, and a blank between two equal ones."""
    return len(labels) + sum(left == right for left, right in itertools.pairwise(labels))


def _separated(text: str) -> str:
    return WORD_SEPARATOR.join(text.split())
