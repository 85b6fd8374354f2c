"""Error rates of several models on a manifest, and the paired difference. Runtime and jiwer: no torch, no onnx."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Mapping
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


def measure_error_rates(models: Mapping[str, CtcModel], manifest: Path, limit: int | None = None) -> ErrorRates:
    """Recognise the first ``limit`` items of a manifest (all when left out) with each model, greedily.

    Raises:
        ManifestError, AudioError: the manifest or a recording cannot be read.
    """
    recognizers = {name: Recognizer(model) for name, model in models.items()}
    words: list[int] = []
    characters = 0
    word_errors: dict[str, list[int]] = {name: [] for name in models}
    character_errors = dict.fromkeys(models, 0)
    for entry in islice(read_manifest(manifest), limit):
        reference = " ".join(entry.text.split())
        words.append(len(reference.split()))
        characters += len(reference)
        samples, rate = read_audio(entry.input)
        for name, recognizer in recognizers.items():
            text = recognizer.recognize(samples, rate).text
            counts = jiwer.process_words(reference, text)
            word_errors[name].append(counts.substitutions + counts.deletions + counts.insertions)
            letters = jiwer.process_characters(reference, text)
            character_errors[name] += letters.substitutions + letters.deletions + letters.insertions
    total = max(1, sum(words))
    rates = {
        name: ErrorRate(100.0 * sum(word_errors[name]) / total, 100.0 * character_errors[name] / max(1, characters))
        for name in models
    }
    return ErrorRates(
        fingerprint=manifest_fingerprint(manifest),
        utterances=len(words),
        words=sum(words),
        rates=rates,
        word_errors={name: tuple(errors) for name, errors in word_errors.items()},
        reference_words=tuple(words),
    )
