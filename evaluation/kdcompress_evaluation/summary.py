"""Everything a report says, as values: derived from rows by ``derive``, drawn by ``report``, kept as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# The JSON reader resolves these annotations when it runs, so they are imported for real.
from kdcompress_evaluation.bootstrap import Estimate  # noqa: TC001
from kdcompress_evaluation.machine import Machine  # noqa: TC001
from kdcompress_evaluation.records import dumps, from_json, load
from kdcompress_evaluation.scoring import DiffPiece, ErrorCounts  # noqa: TC001
from kdcompress_evaluation.variants import VariantInfo  # noqa: TC001

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
"""Version of ``report.json`` and of the files under ``rows/``."""


@dataclass(frozen=True)
class ManifestInfo:
    """One manifest of a report."""

    name: str
    """As named on the command line."""
    path: str
    """Where it was read."""
    fingerprint: str
    """SHA-256 over ids and texts in order."""
    utterances: int
    """Lines."""


@dataclass(frozen=True)
class RunInfo:
    """What was asked for; with the rows it is all that the summary is derived from."""

    variants: tuple[VariantInfo, ...]
    """In the order of the command line."""
    baseline: str
    """Name of the variant that others are compared with."""
    manifests: tuple[ManifestInfo, ...]
    """In the order of the command line."""
    decoder: dict[str, Any]
    """Options of the decoder."""
    normaliser: str
    """Name of the text normaliser."""
    resamples: int
    """Bootstrap draws."""
    seed: int
    """Of the bootstrap."""
    tolerance: float
    """Rise of the error rate, as a fraction, that the headline accepts for a smaller bundle."""
    command: str
    """That makes this report again."""
    machine: Machine
    """That recognised."""
    created: str
    """UTC, ISO 8601."""
    schema: int = SCHEMA
    """Version of this format."""


@dataclass(frozen=True)
class Accuracy:
    """Errors of one variant over one manifest, or over all of them."""

    utterances: int
    """Counted, failures included."""
    failures: int
    """Utterances that could not be recognised; their words are deletions."""
    empty: int
    """Recognised utterances with an empty text although the reference has words."""
    audio_seconds: float
    """Audio recognised."""
    words: ErrorCounts
    """Of words."""
    characters: ErrorCounts
    """Of characters."""
    wer: Estimate
    """Word error rate, a fraction."""
    cer: Estimate
    """Character error rate, a fraction."""
    difference: Estimate | None
    """Paired difference of the word error rate to the baseline; ``None`` for the baseline."""


@dataclass(frozen=True)
class Speed:
    """One thread, interleaved with the other variants."""

    utterances: int
    """Utterances timed."""
    rounds: int
    """Repeats of each."""
    audio_seconds: float
    """Of one round."""
    rtf_median: float
    """Processing time over audio time: median over utterances of the median over rounds."""
    rtf_total: float
    """Summed processing time over summed audio time."""
    speedup: float | None
    """Baseline's time over this variant's: median over utterances and rounds; ``None`` for the baseline."""
    chunks: int
    """Streaming steps timed."""
    chunk_p50_ms: float | None
    """Median compute time of a chunk; ``None``, as the next two, when no chunk was timed: the model does not stream,
    or every utterance is shorter than a chunk."""
    chunk_p95_ms: float | None
    """95th percentile."""
    chunk_max_ms: float | None
    """Longest."""
    final_p95_ms: float
    """95th percentile of the time from the end of the input to the final result. A model that takes whole recordings
    does everything then."""


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes of a process that loads the bundle and streams one utterance."""

    imported: int
    """Before the bundle: interpreter, numpy, onnxruntime, audio."""
    peak: int
    """Highest of the process."""


@dataclass(frozen=True)
class VariantSummary:
    """One row of the main table."""

    info: VariantInfo
    """Identity and constants."""
    pooled: Accuracy
    """Over all manifests: errors and words summed."""
    manifests: dict[str, Accuracy]
    """By manifest."""
    speed: Speed | None
    """``None`` when nothing could be timed."""
    memory: Memory | None
    """``None`` when it could not be measured."""
    on_size_front: bool | None
    """No other variant is at least as good in error rate and size, and better in one."""
    on_latency_front: bool | None
    """The same for error rate and 95th percentile of the chunk time."""


@dataclass(frozen=True)
class WorstUtterance:
    """An utterance with many errors."""

    manifest: str
    """Its manifest."""
    id: str
    """Its id."""
    speaker: str | None
    """Speaker, where known."""
    duration: float | None
    """Seconds."""
    errors: int
    """Word errors."""
    words: int
    """Reference words."""
    reference: str
    """Raw text."""
    hypothesis: str
    """Raw text."""
    diff: tuple[DiffPiece, ...]
    """Of the normalised words."""


@dataclass(frozen=True)
class Failure:
    """An utterance that could not be recognised."""

    manifest: str
    """Its manifest."""
    id: str
    """Its id."""
    error: str
    """Why."""
    variants: tuple[str, ...]
    """That failed on it for this reason."""


@dataclass(frozen=True)
class Summary:
    """The content of ``report.json``."""

    run: RunInfo
    """What was asked for."""
    headline: str
    """The answer in one sentence."""
    reason: str
    """One or two more sentences; may be empty."""
    chosen: str
    """Name of the variant that the headline is about."""
    variants: tuple[VariantSummary, ...]
    """In the order of the command line."""
    worst: dict[str, tuple[WorstUtterance, ...]]
    """By variant, most errors first."""
    failures: tuple[Failure, ...]
    """The first ones."""
    failure_count: int
    """Distinct utterances that failed for at least one variant."""
    resampled_by: str
    """``utterance`` or ``speaker``: the unit of the bootstrap."""
    speed_machine: Machine | None
    """That was timed, and when it was busy."""
    notes: tuple[str, ...]
    """What a reader must know before believing a number."""
    schema: int = SCHEMA
    """Version of this format."""

    def variant(self, name: str) -> VariantSummary:
        """Return the variant called ``name``."""
        return next(v for v in self.variants if v.info.name == name)

    def dumps(self) -> str:
        """Return the content of ``report.json``."""
        return dumps(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Summary:
        """Build a summary from parsed JSON; raises ``RowsError`` when it is something else."""
        return from_json(cls, value)

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read ``report.json``; raises ``RowsError``."""
        return load(cls, path)
