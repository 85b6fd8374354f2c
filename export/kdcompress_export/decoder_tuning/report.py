"""What tuning a decoder found, as a table for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress_export.decoder_tuning.calibration import CalibrationReport
    from kdcompress_export.error_rates import ErrorRate, PairedDifference

COLUMNS = ("decoder", "WER %", "sub", "del", "ins", "CER %", "s")
"""Headings of ``TuneReport.table``."""


@dataclass(frozen=True)
class TriedDecoder:
    """One setting that was tried."""

    name: str
    """``greedy``, ``beam 16``..."""
    options: Mapping[str, Any]
    """Of the decoder, those that were searched."""
    rate: ErrorRate
    """On the dev manifest."""
    seconds: float
    """Time to decode the manifest's log-probabilities, one thread."""


@dataclass(frozen=True)
class TuneReport:
    """What was tried, what was chosen and why.

    All rates are those of the dev manifest that it was tuned on, so they are better than they will be elsewhere.
    """

    bundle: str
    """Name of the model."""
    output: str
    """Where the tuned bundle was written."""
    precision: str
    """Model that it was tuned with."""
    manifest: str
    """Path of the dev manifest."""
    fingerprint: str
    """Of the dev manifest."""
    utterances: int
    """Items."""
    words: int
    """Reference words."""
    frames: int
    """Output frames."""
    decoder: Mapping[str, Any]
    """The field ``decoder`` that went into ``bundle.json``."""
    reason: str
    """Why this setting, in one sentence."""
    tried: tuple[TriedDecoder, ...]
    """Greedy, greedy tuned, the best weights at every beam width; the last is the one that was chosen."""
    trials: int
    """Settings tried in all."""
    out_of: str
    """``trials`` or ``time`` where the search ended before it was done; else empty."""
    difference: PairedDifference
    """Error rate of the chosen setting minus that of greedy untuned, over the same items."""
    confidence: CalibrationReport | None
    """How far confidences are from what they claim; None where too few words were recognised to tell."""
    confidence_note: str
    """Why there is no calibration, where there is none."""
    lm: Mapping[str, Any] | None
    """The language model: file, SHA-256, order, unit, n-grams, bytes."""
    lexicon: Mapping[str, Any] | None
    """The lexicon: file, SHA-256, words."""

    @property
    def chosen(self) -> TriedDecoder:
        """What goes into the bundle."""
        return self.tried[-1]

    def table(self) -> tuple[tuple[str, ...], ...]:
        """Rows of cells, as many as ``COLUMNS``."""
        rows = []
        for one in self.tried:
            name = f"{one.name} (chosen)" if one is self.tried[-1] else one.name
            rate = one.rate
            rates = (rate.wer, rate.substitutions, rate.deletions, rate.insertions, rate.cer)
            rows.append((name, *(f"{value:.2f}" for value in rates), f"{one.seconds:.1f}"))
        return tuple(rows)

    def notes(self) -> tuple[str, ...]:
        """Sentences that belong under the table."""
        found = self.difference
        notes = [
            f"chosen: {', '.join(f'{name} {value}' for name, value in self.chosen.options.items())}",
            self.reason,
            f"against greedy {found.sentence}",
            "all on the inputs that it was tuned on: expect less elsewhere",
        ]
        if self.out_of:
            notes.append(f"the search ran out of {self.out_of}; allow more and it goes on")
        one = self.confidence
        if one is None:
            return (*notes, f"confidences are not calibrated: {self.confidence_note}")
        notes.append(
            f"confidence: calibration error {100 * one.ece_raw:.1f} % raw, {100 * one.ece:.1f} % calibrated "
            f"(other {one.halves}); wrong words with a confidence of 0.99: {100 * one.sure_and_wrong_raw:.1f} % raw, "
            f"{100 * one.sure_and_wrong:.1f} % calibrated"
        )
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)
