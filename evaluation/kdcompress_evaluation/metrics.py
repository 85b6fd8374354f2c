"""Which metrics a task has; each is a function of sums of per-utterance statistics, so that it can be resampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kdcompress_evaluation.scoring import character_counts, count_columns, plain, word_counts
from kdcompress_evaluation.tasks import SCENE_TEXT, SPEECH, TRANSLATION
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.rows import Row
    from kdcompress_evaluation.scoring import Normaliser

__all__ = ["SCENE_TEXT", "SPEECH", "TRANSLATION", "Metric", "MetricInfo", "figures_beside", "metrics_for"]


@dataclass(frozen=True)
class MetricInfo:
    """One metric, for tables and verdicts."""

    name: str
    """Key: ``wer``, ``cer``, ``ser``, ``chrf``, ``bleu``, ``exact``, ``copied``."""
    short: str
    """Heading: ``WER``."""
    title: str
    """In words: ``word error rate``."""
    unit: str
    """Behind the value times 100: ``%``, or nothing for a score."""
    lower_is_better: bool
    """Error rates: yes. chrF, BLEU: no."""
    scorer: str
    """What computed it, with version: ``jiwer 4.0.0``."""


class Metric(ABC):
    """A metric as sufficient statistics that add up over utterances, and what follows from their sums.

    Whatever is resampled, swapped, sliced or sharded is rows of statistics; texts are aligned once.
    """

    columns: ClassVar[tuple[str, ...]]
    """Names of the K statistics."""
    highest: ClassVar[float] = 1.0
    """Of possible values; the lowest is 0."""

    def __init__(self, info: MetricInfo) -> None:
        self.info = info
        """Name, words, unit, direction."""

    @abstractmethod
    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
        """Count a batch of raw texts: (N, K) float64, one row an utterance.

        A failed utterance is an empty hypothesis. Rows do not depend on each other, so a long test set is counted in
        batches of some hundred.
        """

    def of_rows(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Count a batch of rows: (N, K); those metrics that look at the input, too, do so here."""
        return self.statistics([row.reference for row in rows], [row.hypothesis for row in rows])

    @abstractmethod
    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric, a fraction, from sums of statistics: (..., K) to (...); NaN where no reference unit is left."""

    def trials(self, sums: NDArray[np.float64]) -> float:  # noqa: ARG002 - scores have none
        """Reference units that can go wrong, from sums (K,): words, lines; 0 for scores. See ``bootstrap.interval``."""
        return 0.0

    def costs(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each utterance costs: (N, K) to (N,), to be small, for ranking utterances and comparing two systems.

        Errors for error rates (so that words recognised where there are none count), 1 - value for scores (0 where
        there is no value).
        """
        return 1.0 - np.nan_to_num(self.value(statistics), nan=1.0)


class ErrorRate(Metric):
    """Word or character error rate: jiwer's alignment of normalised texts."""

    columns: ClassVar = ("substitutions", "deletions", "insertions", "reference")
    highest: ClassVar = np.inf

    def __init__(self, info: MetricInfo, normaliser: Normaliser, *, characters: bool) -> None:
        super().__init__(info)
        self._normaliser = normaliser
        self._count = character_counts if characters else word_counts

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
        """Substitutions, deletions, insertions and reference units: (N, 4)."""
        return count_columns(self._count(references, hypotheses, self._normaliser))

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors per reference unit."""
        return _divide(sums[..., :3].sum(axis=-1), sums[..., 3])

    def trials(self, sums: NDArray[np.float64]) -> float:
        """Words, or characters."""
        return float(sums[3])

    def costs(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors."""
        return np.asarray(statistics[:, :3].sum(axis=1))


class SentenceErrorRate(Metric):
    """Share of utterances (lines) whose normalised text is not exactly the reference's; exact match is 1 minus it."""

    columns: ClassVar = ("wrong", "utterances")

    def __init__(self, info: MetricInfo, normaliser: Normaliser) -> None:
        super().__init__(info)
        self._apply = normaliser.apply

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
        """0 or 1, and 1: (N, 2)."""
        wrong = [self._apply(r) != self._apply(h) for r, h in zip(references, hypotheses, strict=True)]
        return np.stack([np.array(wrong, dtype=float), np.ones(len(wrong))], axis=1)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Wrong ones per utterance."""
        return _divide(sums[..., 0], sums[..., 1])

    def trials(self, sums: NDArray[np.float64]) -> float:
        """Utterances."""
        return float(sums[1])

    def costs(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """0 or 1."""
        return statistics[:, 0]


class ExactMatch(Metric):
    """Share of lines whose normalised text is exactly the reference's: line accuracy, 1 minus ``SentenceErrorRate``."""

    columns: ClassVar = ("right", "lines")

    def __init__(self, normaliser: Normaliser) -> None:
        compared = f"texts compared, normaliser {normaliser.name} v{normaliser.version}"
        super().__init__(MetricInfo("exact", "exact", "exact match", "%", lower_is_better=False, scorer=compared))
        self._apply = normaliser.apply

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
        """0 or 1, and 1: (N, 2)."""
        right = [self._apply(r) == self._apply(h) for r, h in zip(references, hypotheses, strict=True)]
        return np.stack([np.array(right, dtype=float), np.ones(len(right))], axis=1)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Right ones per line."""
        return _divide(sums[..., 0], sums[..., 1])

    def trials(self, sums: NDArray[np.float64]) -> float:
        """Lines."""
        return float(sums[1])


class Copied(Metric):
    """Share of output words that stand in the source: a model that copies instead of translating has many.

    Names and numbers are rightly the same in both languages, so the references have some, too; they are counted beside
    it. Words are compared as the normaliser ``plain`` leaves them.
    """

    columns: ClassVar = ("copied", "words", "reference_copied", "reference_words")

    def __init__(self) -> None:
        compared = "words of the output, in lower case and without punctuation, that are words of the source"
        super().__init__(_rate("copied", "copied", "output words that stand in the source", compared))

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
        """Without sources nothing is known: (N, 4) zeros."""
        return np.zeros((len(references), len(self.columns))) if len(hypotheses) else np.zeros((0, len(self.columns)))

    def of_rows(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Copied words and words of the output, then those of the reference: (N, 4)."""
        counts = np.zeros((len(rows), len(self.columns)))
        for place, row in enumerate(rows):
            source = set(plain(row.input).split())
            for column, text in ((0, row.hypothesis), (2, row.reference)):
                words = plain(text).split()
                counts[place, column : column + 2] = sum(word in source for word in words), len(words)
        return counts

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Copied words per output word."""
        return _divide(sums[..., 0], sums[..., 1])

    def trials(self, sums: NDArray[np.float64]) -> float:
        """Output words."""
        return float(sums[1])

    def costs(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Copied words."""
        return statistics[:, 0]


def word_error_rate(normaliser: Normaliser) -> ErrorRate:
    """WER: errors of words over reference words."""
    return ErrorRate(_rate("wer", "WER", "word error rate", _jiwer(normaliser)), normaliser, characters=False)


def character_error_rate(normaliser: Normaliser) -> ErrorRate:
    """CER: errors of characters (the space between words is one) over reference characters."""
    return ErrorRate(_rate("cer", "CER", "character error rate", _jiwer(normaliser)), normaliser, characters=True)


def metrics_for(task: str, normaliser: Normaliser) -> tuple[Metric, ...]:
    """Metrics of a task; the first one decides.

    Args:
        task: ``speech``, ``scene_text`` or ``translation``.
        normaliser: of texts before words or characters are compared; chrF and BLEU take raw texts, as they do.

    Raises:
        OptionsError: another task.
        MissingDependencyError: sacrebleu is not installed (translation only).
    """
    compared = f"texts compared, normaliser {normaliser.name} v{normaliser.version}"
    if task == SPEECH:
        wrong = _rate("ser", "SER", "utterances not exactly right", compared)
        return word_error_rate(normaliser), character_error_rate(normaliser), SentenceErrorRate(wrong, normaliser)
    if task == SCENE_TEXT:
        wrong = _rate("ser", "SER", "lines not exactly right", compared)
        return SentenceErrorRate(wrong, normaliser), character_error_rate(normaliser)
    if task == TRANSLATION:
        from kdcompress_evaluation.translation_metrics import Bleu, ChrF

        return ChrF(), Bleu()
    raise OptionsError(f"no metrics for task {task!r}; known: {SPEECH}, {SCENE_TEXT}, {TRANSLATION}")


def figures_beside(task: str, normaliser: Normaliser) -> tuple[Metric, ...]:
    """Figures of a task that are shown beside its metrics and never decide.

    The share of lines that are right; that of output words that stand in the source, which ``of_rows`` counts.
    """
    beside: dict[str, tuple[Metric, ...]] = {SCENE_TEXT: (ExactMatch(normaliser),), TRANSLATION: (Copied(),)}
    return beside.get(task, ())


def _rate(name: str, short: str, title: str, scorer: str) -> MetricInfo:
    return MetricInfo(name=name, short=short, title=title, unit="%", lower_is_better=True, scorer=scorer)


def _jiwer(normaliser: Normaliser) -> str:
    return f"jiwer {version('jiwer')}, normaliser {normaliser.name} v{normaliser.version}"


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotients; NaN where the denominator is 0."""
    shape = np.broadcast(numerator, denominator).shape
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=np.asarray(denominator) > 0)
