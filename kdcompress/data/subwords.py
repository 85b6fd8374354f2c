"""Subwords by byte-pair encoding of characters (Sennrich et al., arXiv 1508.07909), spelled as SentencePiece does.

``▁`` begins a word: "▁he", "llo". The token table is all that encoding needs: symbols of several characters stand in
the order in which they were merged. Nothing else is kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdcompress.errors import VocabularyError
from kdcompress_runtime.errors import MissingDependencyError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTS = re.compile(rf"[\w'{WORD_SEPARATOR}]+|[^\w'{WORD_SEPARATOR}]+")
"""Letters do not merge with punctuation other than the apostrophe: a word at the end of a sentence is the same word."""


def train_subwords(texts: Iterable[str], count: int, key: str = "data.subwords") -> list[str]:
    """Learn ``count`` symbols: the characters of ``texts`` and ``▁``, sorted, then the merges in order.

    ``key`` names the setting in messages.

    Raises:
        VocabularyError: the texts are all empty, give fewer symbols, or have more characters than that.
        MissingDependencyError: the package ``tokenizers`` is not there.
    """
    words = [WORD_SEPARATOR + word for text in texts for word in text.split()]
    if not words:
        raise VocabularyError("the training texts are all empty; a vocabulary cannot be made from them")
    characters = len(set().union(*words))
    if characters > count:
        raise VocabularyError(
            f"{key} is {count}, but the training texts have {characters} characters with {WORD_SEPARATOR}; "
            "raise it, or normalise the texts"
        )
    symbols = _merged(words, count)
    if len(symbols) < count:
        raise VocabularyError(
            f"{key} is {count}, but the training texts are too few for more than {len(symbols)}; "
            "lower it, or train on more texts"
        )
    return symbols


def _merged(words: list[str], count: int) -> list[str]:
    try:
        from tokenizers import Tokenizer, models, trainers
    except ImportError as error:
        raise MissingDependencyError("subwords need the package tokenizers; install kdcompress[train]") from error
    tokenizer = Tokenizer(models.BPE())
    # No pre-tokenizer: a word is what str.split says, as for the other units.
    parts = (part for word in words for part in PARTS.findall(word))
    tokenizer.train_from_iterator(parts, trainers.BpeTrainer(vocab_size=count, show_progress=False))
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)
