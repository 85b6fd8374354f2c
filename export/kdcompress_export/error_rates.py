"""Error rates of several models on a manifest, and the paired difference. Runtime and jiwer: no torch, no onnx."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from kdcompress_export.inputs import inputs_of
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kdcompress_runtime.model import CtcModel

_RESAMPLES = 2000


@dataclass(frozen=True)
class ErrorRate:
    """One model on a manifest; rates are percentages over the corpus."""

    wer: float
    """Word errors a hundred reference words."""
    cer: float
    """Character errors a hundred reference characters."""
    substitutions: float = 0.0
    """Words taken for others, a hundred reference words."""
    deletions: float = 0.0
    """Words left out, a hundred reference words: how small models usually fail."""
    insertions: float = 0.0
    """Words that nobody said, a hundred reference words."""


@dataclass(frozen=True)
class ErrorRates:
    """Several models on the same items."""

    fingerprint: str
    """Of the whole manifest."""
    utterances: int
    """Items scored."""
    words: int
    """Reference words."""
    rates: dict[str, ErrorRate]
    """By precision."""
    word_errors: dict[str, tuple[int, ...]]
    """Errors of each item, by precision."""
    reference_words: tuple[int, ...]
    """Reference words of each item."""

    def paired(self, candidate: str, baseline: str, seed: int = 0) -> PairedDifference:
        """WER of ``candidate`` minus that of ``baseline``, with a bootstrap over items."""
        difference = np.subtract(self.word_errors[candidate], self.word_errors[baseline])
        words = np.asarray(self.reference_words)
        drawn = np.random.default_rng(seed).integers(0, len(words), (_RESAMPLES, len(words)))
        totals = np.maximum(1, words[drawn].sum(axis=1))
        low, high = np.percentile(100.0 * difference[drawn].sum(axis=1) / totals, [2.5, 97.5])
        return PairedDifference(100.0 * float(difference.sum()) / max(1, int(words.sum())), float(low), float(high))

    def summary(self) -> dict[str, Any]:
        """JSON object without the items."""
        rates = {name: asdict(rate) for name, rate in self.rates.items()}
        return {"fingerprint": self.fingerprint, "utterances": self.utterances, "words": self.words, "rates": rates}


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two word error rates on the same items, in points."""

    wer: float
    """The difference; above zero: more errors."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""


@dataclass(frozen=True)
class ItemErrors:
    """Errors of one model in every item of a manifest, in its order."""

    substitutions: tuple[int, ...]
    """Words taken for others."""
    deletions: tuple[int, ...]
    """Words left out."""
    insertions: tuple[int, ...]
    """Words that nobody said."""
    characters: int
    """Character errors in all."""

    @property
    def words(self) -> tuple[int, ...]:
        """Word errors of each item."""
        return tuple(map(sum, zip(self.substitutions, self.deletions, self.insertions, strict=True)))


@dataclass(frozen=True)
class References:
    """What was said in the items that are scored."""

    fingerprint: str
    """Of the whole manifest."""
    words: tuple[int, ...]
    """Reference words of each item."""
    characters: int
    """Reference characters in all."""


def measure_error_rates(
    models: Mapping[str, CtcModel],
    manifest: Path,
    limit: int | None = None,
    on_item: Callable[[int, int], None] | None = None,
) -> ErrorRates:
    """Recognise the first ``limit`` items of a manifest (all when left out) with each model, greedily.

    Args:
        models: by precision, or by any other name.
        manifest: JSONL.
        limit: most items.
        on_item: called after each item with how many are done and how many there are.

    Raises:
        ManifestError, AudioError, ImageError, SourceTextError: the manifest or an input cannot be read.
    """
    references, errors = count_errors(models, manifest, limit, on_item)
    return combine(references, errors)


def count_errors(
    models: Mapping[str, CtcModel],
    manifest: Path,
    limit: int | None = None,
    on_item: Callable[[int, int], None] | None = None,
) -> tuple[References, dict[str, ItemErrors]]:
    """Recognise a manifest as ``measure_error_rates`` does and return the errors of each model in each item.

    Every input is read once, and none where there are no models.
    """
    recognizers = {name: Recognizer(model) for name, model in models.items()}
    asked = inputs_of(next(iter(models.values()))).asked if models else lambda _: ()
    texts: dict[str, list[str]] = {name: [] for name in models}
    entries = list(islice(read_manifest(manifest), limit))
    for done, entry in enumerate(entries, 1):
        for name, text in _texts(recognizers, asked(entry)).items():
            texts[name].append(text)
        if on_item:
            on_item(done, len(entries))
    references = [entry.text for entry in entries]
    found = {name: count_text_errors(references, answers) for name, answers in texts.items()}
    return describe_references(manifest_fingerprint(manifest), references), found


def count_text_errors(references: Sequence[str], texts: Sequence[str]) -> ItemErrors:
    """Count the errors in answers to the same items; both are split into words at white space."""
    kinds: list[tuple[int, int, int]] = []
    characters = 0
    for said, text in zip(references, texts, strict=True):
        reference = " ".join(said.split())
        counts = jiwer.process_words(reference, text)
        kinds.append((counts.substitutions, counts.deletions, counts.insertions))
        letters = jiwer.process_characters(reference, text)
        characters += letters.substitutions + letters.deletions + letters.insertions
    substitutions, deletions, insertions = zip(*kinds, strict=True) if kinds else ((), (), ())
    return ItemErrors(substitutions, deletions, insertions, characters)


def describe_references(fingerprint: str, references: Sequence[str]) -> References:
    """Count words and characters of what was said, white space normalised."""
    normal = [said.split() for said in references]
    return References(fingerprint, tuple(map(len, normal)), sum(len(" ".join(words)) for words in normal))


def _texts(recognizers: Mapping[str, Recognizer], asked: tuple[Any, ...]) -> dict[str, str]:
    """What each makes of an input."""
    return {name: recognizer.recognize(*asked).text for name, recognizer in recognizers.items()}


def combine(references: References, errors: Mapping[str, ItemErrors]) -> ErrorRates:
    """Rates of models whose errors were counted in the same items, together or one after the other."""
    total = max(1, sum(references.words))
    rates = {
        name: ErrorRate(
            wer=100.0 * sum(found.words) / total,
            cer=100.0 * found.characters / max(1, references.characters),
            substitutions=100.0 * sum(found.substitutions) / total,
            deletions=100.0 * sum(found.deletions) / total,
            insertions=100.0 * sum(found.insertions) / total,
        )
        for name, found in errors.items()
    }
    return ErrorRates(
        fingerprint=references.fingerprint,
        utterances=len(references.words),
        words=sum(references.words),
        rates=rates,
        word_errors={name: found.words for name, found in errors.items()},
        reference_words=references.words,
    )
