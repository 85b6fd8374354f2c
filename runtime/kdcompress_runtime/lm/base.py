"""What a language model is to a decoder, and what follows from that for whole sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kdcompress_runtime.errors import LanguageModelError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
UNITS = ("word", "token")
"""What a model predicts: words, or the tokens of an acoustic model's vocabulary."""
UNKNOWN_LOG10 = -100.0
"""log10 P of an unknown word where the file of a model has no ``<unk>``: KenLM's rule."""


class LanguageModel(Protocol):
    """A model of the next word (or token). Words are known by their index in ``words``."""

    @property
    def order(self) -> int:
        """Words that a probability depends on, the predicted one included; 3 for trigrams."""

    @property
    def unit(self) -> str:
        """``word`` or ``token``."""

    @property
    def words(self) -> tuple[str, ...]:
        """Word by id; ``words[0]`` is ``<unk>``."""

    @property
    def bos(self) -> int:
        """Id of ``<s>``."""

    @property
    def eos(self) -> int:
        """Id of ``</s>``."""

    def score(self, context: tuple[int, ...], word: int) -> float:
        """Return ln P(word | context); ``context`` holds ids, oldest first; those beyond ``order - 1`` are ignored."""

    def unigrams(self) -> NDArray[np.float32]:
        """Ln P(word) of every word; shape (V,)."""


@dataclass(frozen=True)
class TextScore:
    """What a model says about a text."""

    sentences: int
    """Sentences that were scored, each with its end."""
    words: int
    """Words in them, without the ends."""
    unknown: int
    """Words among them that the model does not know."""
    log_prob: float
    """Sum of ln P over words and ends of sentences."""
    unknown_log_prob: float
    """The part of ``log_prob`` that unknown words have."""

    @property
    def oov_rate(self) -> float:
        """Share of words that the model does not know."""
        return self.unknown / self.words if self.words else 0.0

    @property
    def perplexity(self) -> float:
        """Perplexity a word, ends of sentences and unknown words included."""
        return _perplexity(self.log_prob, self.words + self.sentences)

    @property
    def perplexity_known(self) -> float:
        """Perplexity a word without the unknown ones; they are still context."""
        return _perplexity(self.log_prob - self.unknown_log_prob, self.words + self.sentences - self.unknown)


def _perplexity(log_prob: float, count: int) -> float:
    try:
        return math.exp(-log_prob / count) if count else math.nan
    except OverflowError:
        return math.inf


def word_ids(lm: LanguageModel) -> dict[str, int]:
    """Id by word."""
    return {word: index for index, word in enumerate(lm.words)}


def sentence_scores(lm: LanguageModel, ids: Sequence[int], *, bos: bool = True, eos: bool = True) -> list[float]:
    """Ln P of each word of a sentence, and of its end.

    Args:
        lm: any language model.
        ids: words by id.
        bos: begin in the context ``<s>``; without it in no context.
        eos: score ``</s>``, too.
    """
    context: tuple[int, ...] = (lm.bos,) if bos else ()
    keep = lm.order - 1
    scores = []
    for word in (*ids, lm.eos) if eos else ids:
        context = context[-keep:] if keep else ()
        scores.append(lm.score(context, word))
        context = (*context, word)
    return scores


def score_text(
    lm: LanguageModel, sentences: Iterable[Sequence[str]], *, ids: Mapping[str, int] | None = None
) -> TextScore:
    """Score sentences, each a sequence of words (or tokens).

    Args:
        lm: any language model.
        sentences: words of each sentence; empty ones are left out.
        ids: id by word; made from ``lm.words`` where it is not given.

    Raises:
        LanguageModelError: there is no sentence.
    """
    ids = word_ids(lm) if ids is None else ids
    count = words = unknown = 0
    total = unknown_total = 0.0
    for sentence in sentences:
        if not sentence:
            continue
        row = [ids.get(word, 0) for word in sentence]
        scores = sentence_scores(lm, row)
        count, words = count + 1, words + len(row)
        total += math.fsum(scores)
        for word, score in zip(row, scores, strict=False):
            if word == 0:
                unknown, unknown_total = unknown + 1, unknown_total + score
    if not count:
        raise LanguageModelError("there is no sentence to score; give a text with one sentence a line")
    return TextScore(count, words, unknown, total, unknown_total)


def check_unit(unit: str) -> None:
    """Refuse units that are none.

    Raises:
        OptionsError: not one of ``UNITS``.
    """
    if unit not in UNITS:
        raise OptionsError(f"the unit of a language model is {' or '.join(UNITS)}, not {unit!r}")
