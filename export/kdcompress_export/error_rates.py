"""Error rates of several models on a manifest, and the paired difference. Runtime and jiwer: no torch, no onnx."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import jiwer
import numpy as np

from kdcompress_export.inputs import inputs_of
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kdcompress_runtime.model import CtcModel

Counted = Literal["words", "characters"]
"""Errors of what are compared."""
RATE_NAMES = {"words": "WER", "characters": "CER"}
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

    def of(self, counted: Counted) -> float:
        """The rate of these errors."""
        return self.wer if counted == "words" else self.cer


@dataclass(frozen=True)
class ErrorRates:
    """Several models on the same items."""

    fingerprint: str
    """Of the whole manifest."""
    utterances: int
    """Items scored."""
    rates: dict[str, ErrorRate]
    """By precision."""
    references: References
    """What the items hold."""
    errors: dict[str, ItemErrors]
    """Errors of each item, by precision."""

    @property
    def words(self) -> int:
        """Reference words."""
        return sum(self.references.words)

    @property
    def counted(self) -> Counted:
        """Errors of what decide."""
        return self.references.counted

    @property
    def total(self) -> int:
        """See ``References.total``."""
        return self.references.total

    def paired(self, candidate: str, baseline: str, seed: int = 0) -> PairedDifference:
        """Error rate of ``candidate`` minus that of ``baseline``, with a bootstrap over items."""
        counted = self.counted
        difference = np.subtract(self.errors[candidate].of(counted), self.errors[baseline].of(counted))
        said = np.asarray(self.references.of(counted))
        drawn = np.random.default_rng(seed).integers(0, len(said), (_RESAMPLES, len(said)))
        totals = np.maximum(1, said[drawn].sum(axis=1))
        low, high = np.percentile(100.0 * difference[drawn].sum(axis=1) / totals, [2.5, 97.5])
        points = 100.0 * float(difference.sum()) / max(1, int(said.sum()))
        return PairedDifference(points, float(low), float(high), counted)

    def summary(self) -> dict[str, Any]:
        """JSON object without the items."""
        rates = {name: asdict(rate) for name, rate in self.rates.items()}
        items = {"fingerprint": self.fingerprint, "utterances": self.utterances, "words": self.words}
        return {**items, "counted": self.counted, "rates": rates}


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two error rates on the same items, in points."""

    points: float
    """The difference; above zero: more errors."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    counted: Counted = "words"
    """Errors of what."""

    @property
    def sentence(self) -> str:
        """The same in words."""
        return (
            f"{self.points:+.2f} points {RATE_NAMES[self.counted]}, 95 % interval {self.low:+.2f} to {self.high:+.2f}"
        )


@dataclass(frozen=True)
class ItemErrors:
    """Errors of one model in every item of a manifest, in its order."""

    substitutions: tuple[int, ...]
    """Words taken for others."""
    deletions: tuple[int, ...]
    """Words left out."""
    insertions: tuple[int, ...]
    """Words that nobody said."""
    characters: tuple[int, ...]
    """Characters that are wrong, missing or too many."""

    @property
    def words(self) -> tuple[int, ...]:
        """Word errors of each item."""
        return tuple(map(sum, zip(self.substitutions, self.deletions, self.insertions, strict=True)))

    def of(self, counted: Counted) -> tuple[int, ...]:
        """Errors of each item."""
        return self.words if counted == "words" else self.characters

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ItemErrors:
        """Read what ``dataclasses.asdict`` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        kinds = (tuple(map(int, row[name])) for name in ("substitutions", "deletions", "insertions", "characters"))
        return cls(*kinds)


@dataclass(frozen=True)
class References:
    """What was said in the items that are scored."""

    fingerprint: str
    """Of the whole manifest."""
    words: tuple[int, ...]
    """Reference words of each item."""
    characters: tuple[int, ...]
    """Reference characters of each item."""
    counted: Counted = "words"
    """Errors of what decide."""

    def of(self, counted: Counted) -> tuple[int, ...]:
        """How many there are in each item."""
        return self.words if counted == "words" else self.characters

    @property
    def total(self) -> int:
        """Reference words, or characters, in all: how many there are of what is counted."""
        return sum(self.of(self.counted))


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
    counted: Counted | None = None,
) -> tuple[References, dict[str, ItemErrors]]:
    """Recognise a manifest as ``measure_error_rates`` does and return the errors of each model in each item.

    Every input is read once, and none where there are no models. ``counted`` is that of their inputs when left out.
    """
    recognizers = {name: Recognizer(model) for name, model in models.items()}
    fed = inputs_of(next(iter(models.values()))) if models else None
    texts: dict[str, list[str]] = {name: [] for name in models}
    entries = list(islice(read_manifest(manifest), limit))
    for done, entry in enumerate(entries, 1):
        asked = fed.asked(entry) if fed is not None else ()
        for name, recognizer in recognizers.items():
            texts[name].append(recognizer.recognize(*asked).text)
        if on_item:
            on_item(done, len(entries))
    references = [entry.text for entry in entries]
    found = {name: count_text_errors(references, answers) for name, answers in texts.items()}
    counted = counted or (fed.counted if fed is not None else "words")
    return describe_references(manifest_fingerprint(manifest), references, counted), found


def count_text_errors(references: Sequence[str], texts: Sequence[str]) -> ItemErrors:
    """Count the errors in answers to the same items; both are split into words at white space."""
    kinds: list[tuple[int, int, int, int]] = []
    for said, text in zip(references, texts, strict=True):
        reference = " ".join(said.split())
        counts = jiwer.process_words(reference, text)
        letters = jiwer.process_characters(reference, text)
        wrong = letters.substitutions + letters.deletions + letters.insertions
        kinds.append((counts.substitutions, counts.deletions, counts.insertions, wrong))
    return ItemErrors(*zip(*kinds, strict=True)) if kinds else ItemErrors((), (), (), ())


def describe_references(fingerprint: str, references: Sequence[str], counted: Counted = "words") -> References:
    """Count words and characters of what was said, white space normalised."""
    normal = [said.split() for said in references]
    characters = tuple(len(" ".join(words)) for words in normal)
    return References(fingerprint, tuple(map(len, normal)), characters, counted)


def combine(references: References, errors: Mapping[str, ItemErrors]) -> ErrorRates:
    """Rates of models whose errors were counted in the same items, together or one after the other."""
    total = max(1, sum(references.words))
    rates = {
        name: ErrorRate(
            wer=100.0 * sum(found.words) / total,
            cer=100.0 * sum(found.characters) / max(1, sum(references.characters)),
            substitutions=100.0 * sum(found.substitutions) / total,
            deletions=100.0 * sum(found.deletions) / total,
            insertions=100.0 * sum(found.insertions) / total,
        )
        for name, found in errors.items()
    }
    return ErrorRates(
        fingerprint=references.fingerprint,
        utterances=len(references.words),
        rates=rates,
        references=references,
        errors=dict(errors),
    )
