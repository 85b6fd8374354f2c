"""A small language model from texts; models from one format into another; how well a model fits a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdcompress.files import replacing
from kdcompress.lm.arpa_writer import Estimated, check_name, write_model
from kdcompress.lm.counts import count_grams
from kdcompress.lm.kneser_ney import Discounts, smooth
from kdcompress.lm.text import MARKS, Corpus, Speller, read_corpus, read_sentences
from kdcompress_runtime.errors import LanguageModelError, OptionsError
from kdcompress_runtime.lm import NgramModel, TextScore, open_lm, score_text, word_ids
from kdcompress_runtime.lm.base import check_unit
from kdcompress_runtime.lm.packed import dumps
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.lm import LanguageModel

    OnProgress = Callable[[str, int, int], None]
    """Called with the name of a stage, how much of it is done, and how much there is."""

MAX_ORDER = 6
"""Longest n-grams: KenLM, as pip builds it, reads no longer ones."""
FALLBACK: Discounts = (0.5, 1.0, 1.5)
"""lmplz's fallback discounts."""


@dataclass(frozen=True)
class LmOptions:
    """How a language model is estimated."""

    order: int = 3
    """Length of the longest n-grams, 1 to 6."""
    unit: str = "word"
    """What is predicted: ``word``, or ``token`` of ``vocabulary``."""
    vocabulary: Vocabulary | None = None
    """Vocabulary of the acoustic model. Tokens need it; with words, those that it cannot spell are counted."""
    prune: tuple[int, ...] = (0,)
    """For each length, the highest count that is pruned; the last one holds for longer ones; must not fall."""
    most_words: int | None = None
    """Keep only so many words (or tokens), the most frequent ones; n-grams with others are pruned."""
    interpolate_unigrams: bool = True
    """Interpolate unigrams with the uniform distribution; else ``<unk>`` gets all that their discounts give."""
    discount_fallback: Discounts | None = None
    """Discounts of counts 1, 2, and 3 and more for lengths whose counts give none.

    None refuses such texts, if the unit is the word; tokens are so few that hardly one is rare, and get ``FALLBACK``.
    """

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if not 1 <= self.order <= MAX_ORDER:
            raise OptionsError(f"the order of a language model is 1 to {MAX_ORDER}, not {self.order}")
        if self.unit == "token" and self.vocabulary is None:
            raise OptionsError("a language model of tokens needs the vocabulary of the acoustic model; give tokens.txt")
        if not self.prune or len(self.prune) > self.order:
            raise OptionsError(f"prune takes 1 to {self.order} thresholds, one for each length, not {len(self.prune)}")
        if min(self.prune) < 0 or list(self.prune) != sorted(self.prune):
            raise OptionsError(f"thresholds of prune are 0 or more and must not fall: {self.prune}")
        if self.most_words is not None and self.most_words < 1:
            raise OptionsError(f"most_words must be at least 1, not {self.most_words}")
        if self.discount_fallback and not all(0 <= d <= n for n, d in enumerate(self.discount_fallback, start=1)):
            raise OptionsError(f"fallback discounts lie within 0 to 1, 0 to 2 and 0 to 3: {self.discount_fallback}")

    @property
    def fallback(self) -> Discounts | None:
        """``discount_fallback``, or what tokens get without it."""
        return FALLBACK if self.discount_fallback is None and self.unit == "token" else self.discount_fallback

    @property
    def thresholds(self) -> tuple[int, ...]:
        """``prune``, one for each length."""
        return (*self.prune, *[self.prune[-1]] * (self.order - len(self.prune)))


@dataclass(frozen=True)
class LmReport:
    """What was estimated, and from what."""

    output: Path
    """The file."""
    size: int
    """Its bytes."""
    order: int
    """Length of the longest n-grams."""
    unit: str
    """``word`` or ``token``."""
    sentences: int
    """Sentences of the texts that were used."""
    units: int
    """Words (or tokens) in them, without the ends."""
    ngrams: tuple[int, ...]
    """N-grams of each length in the model."""
    pruned: tuple[int, ...]
    """N-grams of each length that were pruned."""
    discounts: tuple[Discounts, ...]
    """Discounts of each length."""
    fallbacks: tuple[int, ...]
    """Lengths for which the fallback discounts were taken."""
    skipped: int = 0
    """Sentences that were left out, because the vocabulary cannot spell a word of theirs."""
    unspelled: dict[str, int] = field(default_factory=dict)
    """Words that the vocabulary cannot spell, the most frequent first, with how often they stand in the text."""


def estimate(
    texts: Sequence[Path], output: Path, options: LmOptions, on_progress: OnProgress | None = None
) -> LmReport:
    """Estimate an interpolated modified Kneser-Ney model from texts.

    Args:
        texts: UTF-8 texts, one sentence a line, gzipped or not; normalised as the acoustic model's were.
        output: ``.arpa``, ``.arpa.gz`` or ``.kdlm``; written by a temporary name.
        options: what to estimate.
        on_progress: called as ``(stage, done, all)``.

    Raises:
        OptionsError: the name of ``output`` says no format.
        LanguageModelNotFoundError: a text is missing.
        LanguageModelError: a text cannot be read, is not UTF-8 or holds ``<s>``, ``</s>`` or ``<unk>``; there are no
            sentences; or the text is too small for discounts, and there is no fallback.
    """
    check_name(output)
    if not texts:
        raise LanguageModelError("there is no text to estimate a language model from; name at least one")
    say = on_progress or (lambda _stage, _done, _total: None)
    corpus = _read(texts, options, say)
    types = len(corpus.words)
    grams = count_grams(corpus.ids, types, options.order, lambda done: say("count", done, options.order))
    smoothed = smooth(
        grams,
        thresholds=options.thresholds,
        allowed=_most_frequent(grams[0].count, options.most_words),
        interpolate_unigrams=options.interpolate_unigrams,
        fallback=options.fallback,
    )
    model = Estimated(options.unit, corpus.words, grams, smoothed)
    write_model(model, output, _counted(say, "write", sum(model.counts)))
    return LmReport(
        output=output,
        size=output.stat().st_size,
        order=options.order,
        unit=options.unit,
        sentences=corpus.sentences,
        units=len(corpus.ids) - 2 * corpus.sentences,
        ngrams=model.counts,
        pruned=tuple(len(gram) - count for gram, count in zip(grams, model.counts, strict=True)),
        discounts=tuple(row.discounts for row in smoothed),
        fallbacks=tuple(length for length, row in enumerate(smoothed, start=1) if row.fallback),
        skipped=corpus.skipped,
        unspelled=dict(corpus.unspelled.most_common()),
    )


def convert(lm: Path, output: Path, unit: str | None = None) -> NgramModel:
    """Pack an ARPA file, so that it opens at once; returns the model.

    Args:
        lm: ARPA file, gzipped or not.
        output: ``.kdlm``; written by a temporary name.
        unit: what it predicts, ``word`` or ``token``; where it is not given, what the file notes, else words.

    Raises:
        OptionsError: ``output`` does not end in ``.kdlm``.
        LanguageModelError: ``lm`` cannot be read, or is a binary of KenLM, which does not give its n-grams away.
    """
    if output.suffix != ".kdlm":
        raise OptionsError(f"{output}: a packed language model is named *.kdlm")
    model = open_lm(lm, unit=unit)
    if not isinstance(model, NgramModel):
        raise LanguageModelError(f"{lm} is a binary of KenLM, which does not give its n-grams away; pack its ARPA file")
    with replacing(output) as temporary:
        temporary.write_bytes(dumps(model))
    return model


def evaluate(lm: Path | LanguageModel, texts: Sequence[Path], vocabulary: Vocabulary | None = None) -> TextScore:
    """Score texts: perplexity, and how many words (or tokens) the model does not know.

    Args:
        lm: the model, or its file.
        texts: UTF-8 texts, one sentence a line.
        vocabulary: of the acoustic model; needed by models of subwords, others spell by themselves.

    Raises:
        OptionsError: a model of subwords, and no vocabulary.
        LanguageModelError: the model or a text cannot be read, or the texts are empty.
    """
    model = open_lm(lm) if isinstance(lm, Path) else lm
    sentences = (words for path in texts for words in read_sentences(path))
    if model.unit == "word":
        return score_text(model, sentences)
    ids = word_ids(model)
    speller = Speller(vocabulary or _own_vocabulary(model))
    return score_text(model, map(speller, sentences), ids=ids)


def _own_vocabulary(model: LanguageModel) -> Vocabulary:
    """Tokens of a model as a vocabulary; enough for characters and phones, where the order does not matter."""
    vocabulary = Vocabulary.from_symbols([word for word in model.words if word not in MARKS])
    if Speller(vocabulary).units == "subwords":
        raise OptionsError("a language model of subwords needs the vocabulary of the acoustic model; give tokens.txt")
    return vocabulary


def _read(texts: Sequence[Path], options: LmOptions, say: OnProgress) -> Corpus:
    total = sum(path.stat().st_size for path in texts if path.is_file())
    speller = Speller(options.vocabulary) if options.vocabulary else None
    tokens = options.unit == "token"
    return read_corpus(texts, speller, tokens=tokens, on_bytes=_counted(say, "read", total))


def _most_frequent(counts: NDArray[np.int64], most: int | None) -> NDArray[np.bool_] | None:
    """Which words may stay: the most frequent ones, the earlier one where two are equally frequent; and the marks."""
    if most is None:
        return None
    others = counts[len(MARKS) :]
    allowed = np.zeros(len(counts), bool)
    allowed[: len(MARKS)] = True
    allowed[len(MARKS) + np.argsort(-others, kind="stable")[:most]] = True
    return allowed


def _counted(say: OnProgress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def add(more: int) -> None:
        nonlocal done
        done += more
        say(stage, done, total)

    return add
