"""Text normalisation, and error counts of words and characters by jiwer's alignment."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jiwer
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jiwer import AlignmentChunk
    from numpy.typing import NDArray

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


@dataclass(frozen=True)
class Normaliser:
    """A named, versioned rule; a changed rule must get a new version, because rates move with it."""

    name: str
    """Key in ``NORMALISERS``."""
    version: int
    """Raised with every change of behaviour."""
    description: str
    """What it does, for the report."""
    apply: Callable[[str], str]
    """Raw text to scored text: words separated by single spaces."""


@dataclass(frozen=True)
class ErrorCounts:
    """Sufficient statistics of an error rate: they add up over utterances."""

    hits: int = 0
    """Reference units that were recognised."""
    substitutions: int = 0
    """Reference units replaced by another."""
    deletions: int = 0
    """Reference units that were left out."""
    insertions: int = 0
    """Units of the hypothesis that the reference does not have."""

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int:
        """Units (words or characters) of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """Errors per reference unit, or ``None`` without reference units."""
        return self.errors / self.reference if self.reference else None

    @classmethod
    def of(cls, sums: NDArray[np.float64]) -> ErrorCounts:
        """Counts from (summed) columns of ``count_columns``: (4,)."""
        substitutions, deletions, insertions, reference = (round(float(one)) for one in sums)
        return cls(reference - substitutions - deletions, substitutions, deletions, insertions)

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True)
class UtteranceScore:
    """Error counts of one utterance."""

    words: ErrorCounts
    """Counts of words."""
    characters: ErrorCounts
    """Counts of characters; the space between words is one."""


@dataclass(frozen=True)
class DiffPiece:
    """One run of an aligned diff, of words or of characters."""

    kind: str
    """``equal``, ``substitute``, ``delete`` or ``insert``."""
    reference: str
    """Words (characters) of the reference; empty for an insertion."""
    hypothesis: str
    """Words (characters) of the hypothesis; empty for a deletion."""


def plain(text: str) -> str:
    """Lower-case, NFKC; punctuation and symbols except the apostrophe become spaces; spaces collapse."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower()).translate(_APOSTROPHES)
    kept = (c if c == "'" or unicodedata.category(c)[0] not in "PS" else " " for c in text)
    return re.sub(r"\s+", " ", "".join(kept)).strip()


def case(text: str) -> str:
    """NFKC; runs of spaces are one space."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def nocase(text: str) -> str:
    """As ``case``, in lower case."""
    return case(unicodedata.normalize("NFKC", text).lower())


def alnum(text: str) -> str:
    """Lower-case letters and digits alone, without any space."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN")


NORMALISERS: Mapping[str, Normaliser] = {
    one.name: one
    for one in (
        Normaliser(
            name="plain",
            version=1,
            description="Unicode NFKC, lower-case, typographic apostrophes made plain, all other punctuation and "
            "symbols replaced by a space, spaces collapsed; numbers and spelling are left as they are",
            apply=plain,
        ),
        Normaliser(
            name="case",
            version=1,
            description="Unicode NFKC; case counts, punctuation counts, a space counts, runs of spaces are one",
            apply=case,
        ),
        Normaliser(
            name="nocase",
            version=1,
            description="Unicode NFKC, lower-case: case does not count, punctuation counts, a space counts, runs of "
            "spaces are one",
            apply=nocase,
        ),
        Normaliser(
            name="alnum",
            version=1,
            description="Unicode NFKC, lower-case letters and digits alone: case, punctuation, symbols and spaces do "
            "not count, as papers on scene text report",
            apply=alnum,
        ),
    )
}
"""Normalisers by name."""


def word_counts(references: Sequence[str], hypotheses: Sequence[str], normaliser: Normaliser) -> list[ErrorCounts]:
    """Align the words of each hypothesis with its reference's; an empty reference makes every word an insertion.

    Args:
        references: raw texts, one an utterance.
        hypotheses: raw texts in the same order.
        normaliser: applied to both sides.
    """
    wanted, found = _normalised(references, hypotheses, normaliser)
    return [_counts(one) for one in jiwer.process_words(wanted, found).alignments] if wanted else []


def character_counts(references: Sequence[str], hypotheses: Sequence[str], normaliser: Normaliser) -> list[ErrorCounts]:
    """Align characters as ``word_counts`` does words; the space between words is a character."""
    wanted, found = _normalised(references, hypotheses, normaliser)
    return [_counts(one) for one in jiwer.process_characters(wanted, found).alignments] if wanted else []


def score(references: Sequence[str], hypotheses: Sequence[str], normaliser: Normaliser) -> list[UtteranceScore]:
    """Count words and characters; see ``word_counts``."""
    words = word_counts(references, hypotheses, normaliser)
    characters = character_counts(references, hypotheses, normaliser)
    return [UtteranceScore(w, c) for w, c in zip(words, characters, strict=True)]


def count_columns(counts: Sequence[ErrorCounts]) -> NDArray[np.float64]:
    """Substitutions, deletions, insertions and reference units as numbers that can be resampled: (N, 4)."""
    rows = [(c.substitutions, c.deletions, c.insertions, c.reference) for c in counts]
    return np.array(rows, dtype=float).reshape(-1, 4)


def word_diff(reference: str, hypothesis: str, normaliser: Normaliser) -> tuple[DiffPiece, ...]:
    """Align two raw texts and return the runs of equal, substituted, deleted and inserted words."""
    return _diff(jiwer.process_words([normaliser.apply(reference)], [normaliser.apply(hypothesis)]), " ")


def character_diff(reference: str, hypothesis: str, normaliser: Normaliser) -> tuple[DiffPiece, ...]:
    """Do the same with characters; the space between words is one."""
    return _diff(jiwer.process_characters([normaliser.apply(reference)], [normaliser.apply(hypothesis)]), "")


def _diff(output: jiwer.WordOutput | jiwer.CharacterOutput, between: str) -> tuple[DiffPiece, ...]:
    wanted, found = output.references[0], output.hypotheses[0]
    return tuple(
        DiffPiece(
            kind=chunk.type,
            reference=between.join(wanted[chunk.ref_start_idx : chunk.ref_end_idx]),
            hypothesis=between.join(found[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in output.alignments[0]
    )


def _normalised(
    references: Sequence[str], hypotheses: Sequence[str], normaliser: Normaliser
) -> tuple[list[str], list[str]]:
    return [normaliser.apply(text) for text in references], [normaliser.apply(text) for text in hypotheses]


def _counts(alignment: Sequence[AlignmentChunk]) -> ErrorCounts:
    """Add up the lengths of one utterance's alignment runs by kind."""
    length = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in alignment:
        length[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return ErrorCounts(length["equal"], length["substitute"], length["delete"], length["insert"])
