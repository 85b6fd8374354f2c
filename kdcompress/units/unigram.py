"""A unigram model of subwords (Kudo, arXiv 1804.10959): learned by the package tokenizers, spelled by an exact search.

A word is cut where the sum of the log-probabilities of its pieces is highest.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from kdcompress.errors import VocabularyError
from kdcompress_runtime.errors import MissingDependencyError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNKNOWN = "<unk>"
"""The trainer wants one; nothing is spelled with it, and it is not kept."""
DECIMALS = 6
"""Kept of a log-probability: the package sums in another order each time, and so differs in the last places."""


def train_unigram(texts: Iterable[str], size: int) -> dict[str, float]:
    """Learn ``size`` pieces with their natural log-probabilities: all characters of ``texts`` and ``▁`` are among them.

    Likeliest first; of equally likely ones the alphabet decides. The package breaks ties as it comes: characters that
    no text needs for themselves may differ by 0.0001 from one time to the next. What was learned is kept.

    Raises:
        VocabularyError: the texts are all empty, give fewer pieces, or have more characters than that.
        MissingDependencyError: the package ``tokenizers`` is not there.
    """
    words = [WORD_SEPARATOR + word for text in texts for word in text.split()]
    if not words:
        raise VocabularyError("the texts are all empty; subwords cannot be learned from them")
    characters = sorted(set().union(*words))
    if len(characters) > size:
        raise VocabularyError(
            f"{size} subwords are asked, but the texts have {len(characters)} characters with {WORD_SEPARATOR}; "
            "ask for more, or normalise the texts"
        )
    scores = _trained(words, characters, size)
    if len(scores) < size:
        raise VocabularyError(
            f"{size} subwords are asked, but the texts are too few for more than {len(scores)}; "
            "ask for fewer, or take more texts"
        )
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def best_pieces(word: str, scores: Mapping[str, float], longest: int) -> list[str] | None:
    """The pieces of a word, which begins with ``▁``; None where a character of it is in no piece.

    Of equally likely ways the one whose last pieces are longest.

    Args:
        word: it is cut into pieces that are keys of ``scores``.
        scores: log-probabilities.
        longest: characters of the longest piece.
    """
    best = [0.0] + [-math.inf] * len(word)
    begins = [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for begin in range(max(0, end - longest), end):
            score = best[begin] + scores.get(word[begin:end], -math.inf)
            if score > best[end]:
                best[end], begins[end] = score, begin
    if best[-1] == -math.inf:
        return None
    pieces, end = [], len(word)
    while end:
        pieces.append(word[begins[end] : end])
        end = begins[end]
    return pieces[::-1]


def _trained(words: list[str], characters: list[str], size: int) -> dict[str, float]:
    try:
        from tokenizers import Tokenizer, models, trainers
    except ImportError as error:
        raise MissingDependencyError(
            "subwords of a unigram model need the package tokenizers; install kdcompress[train]"
        ) from error
    tokenizer = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=size + 1,
        show_progress=False,
        special_tokens=[UNKNOWN],
        unk_token=UNKNOWN,
        initial_alphabet=characters,
    )
    tokenizer.train_from_iterator(words, trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return {piece: round(score, DECIMALS) for piece, score in pieces if piece != UNKNOWN}
