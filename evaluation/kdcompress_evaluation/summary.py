"""Everything a report says, as values: derived from rows by ``derive``, drawn by ``report``, kept as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

# The JSON reader resolves these annotations when it runs, so they are imported for real.
from kdcompress_evaluation.bootstrap import Estimate  # noqa: TC001
from kdcompress_evaluation.cost import Footprint, Speed, SpeedRun  # noqa: TC001
from kdcompress_evaluation.machine import Machine  # noqa: TC001
from kdcompress_evaluation.metrics import MetricInfo  # noqa: TC001
from kdcompress_evaluation.percentiles import Percentiles  # noqa: TC001
from kdcompress_evaluation.records import dumps, from_json, load
from kdcompress_evaluation.scoring import DiffPiece, ErrorCounts  # noqa: TC001
from kdcompress_evaluation.variants import VariantInfo  # noqa: TC001

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 2
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
    task: str
    """``speech``, ``scene_text`` or ``translation``: decides the metrics."""
    decoder: dict[str, Any]
    """Options of the decoder."""
    normaliser: str
    """Name of the text normaliser."""
    resamples: int
    """Bootstrap draws, and random sign flips."""
    seed: int
    """Of the bootstrap."""
    tolerance: float
    """Rise of the error rate, as a fraction, that the headline accepts for a smaller bundle."""
    budget: str
    """As on the command line; empty: none."""
    candidates: tuple[str, ...]
    """Variants that may ship; empty: every one that is no anchor, the baseline only when it is alone."""
    slices: tuple[str, ...]
    """Manifest fields to slice by, beside those that suggest themselves."""
    command: str
    """That makes this report again."""
    device_note: str
    """Words of the user about the machine."""
    machine: Machine
    """That recognised."""
    created: str
    """UTC, ISO 8601."""
    streaming: dict[str, Any] = field(default_factory=dict)
    """How streams were tried: every how many utterances, and on how many in random pieces and with a pause."""
    resample_by: str = "speaker"
    """Manifest field whose values the bootstrap draws as wholes, where there are enough of them."""
    schema: int = SCHEMA
    """Version of this format."""


@dataclass(frozen=True)
class Difference:
    """A variant minus the baseline over the same utterances."""

    estimate: Estimate
    """Paired difference of the metric, a fraction; its sign is the metric's own."""
    p_value: float | None
    """Two-sided paired permutation test (random sign flips of whole units); ``None``: too few units."""
    p_adjusted: float | None
    """The same after Holm's correction over the variants of the report; only for all manifests together."""


@dataclass(frozen=True)
class Accuracy:
    """One variant over one manifest, or over all of them."""

    utterances: int
    """Counted, failures included."""
    failures: int
    """Utterances that could not be recognised; their words are deletions."""
    timeouts: int
    """Those of the failures that ran out of time."""
    empty: int
    """Recognised utterances with an empty text although the reference has words."""
    empty_references: int
    """Utterances whose reference holds no words: everything recognised there is an insertion."""
    audio_seconds: float
    """Audio recognised; 0 where the input is no audio."""
    words: ErrorCounts
    """Of words."""
    characters: ErrorCounts
    """Of characters."""
    metrics: dict[str, Estimate]
    """By name of the metric (``wer``, ``cer``, ``ser``, ``chrf``, ``bleu``, ``exact``, ``copied``), fractions."""
    differences: dict[str, Difference]
    """By name of the metric; empty for the baseline."""


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline, utterance by utterance, all manifests together."""

    better: int
    """Utterances with a lower cost in the first metric."""
    same: int
    """With the same."""
    worse: int
    """With a higher one."""
    not_worse: Estimate
    """Share of utterances that are not worse than the baseline's."""
    shift: dict[str, float]
    """Change of ``substitutions``, ``deletions`` and ``insertions`` of words per reference word."""


@dataclass(frozen=True)
class SliceRate:
    """The first metric of one variant on a slice."""

    estimate: Estimate
    """A fraction."""
    difference: Estimate | None
    """Paired, to the baseline; ``None`` for the baseline."""


@dataclass(frozen=True)
class Slice:
    """Utterances of all manifests that share something."""

    field: str
    """``duration``, ``speaker`` or a field of the manifest."""
    value: str
    """In words: ``2 to 4 s``."""
    utterances: int
    """How many."""
    reference: int
    """Reference words (lines, segments) in them."""
    rates: dict[str, SliceRate]
    """By variant."""


@dataclass(frozen=True)
class Endpointing:
    """What the default endpoint rules do with an utterance and the pause behind it."""

    utterances: int
    """Tried."""
    wait: Percentiles | None
    """Seconds of audio from the end of speech to the decision; ``None``: no decision came in time."""
    early: int
    """Utterances that were cut before their last word ended."""
    missed: int
    """Utterances without an endpoint in three seconds of pause."""


@dataclass(frozen=True)
class Streaming:
    """How a variant behaves in a stream."""

    utterances: int
    """Streamed in the chunks that it was exported for."""
    difference: Estimate
    """Streaming minus whole recordings in the first metric, paired, a fraction."""
    texts_equal: int
    """Utterances with the same text in the stream and whole."""
    splits: int
    """Utterances streamed once more, in pieces of random length."""
    splits_equal: int
    """Those with the same text as in regular chunks."""
    first_partial: Percentiles | None
    """Seconds of audio from the beginning of the first word to the first partial text."""
    emission: Percentiles | None
    """Seconds of audio from the end of a word to the moment since which it stands unchanged in the partial text."""
    word_times: str
    """Whose word times those are: ``manifest`` or ``recogniser``; empty: none."""
    revised: float | None
    """Words of partial texts that were taken back, per word of the final texts."""
    final: Percentiles | None
    """Milliseconds of computing from the end of the input to the final result."""
    endpointing: Endpointing | None
    """``None`` where it was not tried."""


@dataclass(frozen=True)
class VariantSummary:
    """One row of the main table."""

    info: VariantInfo
    """Identity and constants."""
    pooled: Accuracy
    """Over all manifests: errors and words summed."""
    manifests: dict[str, Accuracy]
    """By manifest."""
    comparison: Comparison | None
    """``None`` for the baseline."""
    streaming: Streaming | None
    """``None`` when it does not stream or was not tried."""
    speed: Speed | None
    """``None`` when nothing could be timed."""
    footprint: Footprint
    """Bytes on disk and in memory, and the cold start; parts may be missing."""
    fronts: dict[str, bool | None]
    """By cost (``size``, ``latency``, ``memory``): whether no other variant is at least as good in the first metric
    and in this cost, and better in one; ``None``: not measured."""


@dataclass(frozen=True)
class WorstUtterance:
    """An utterance with many errors."""

    manifest: str
    """Its manifest."""
    id: str
    """Its id."""
    input: str
    """Path of the recording or image, or the source sentence."""
    speaker: str | None
    """Speaker, where known."""
    duration: float | None
    """Seconds."""
    errors: float
    """Word errors (characters for text lines; 1 - chrF for translation)."""
    baseline_errors: float | None
    """Those of the baseline; ``None`` for the baseline itself."""
    words: int
    """Reference words; characters of text lines."""
    reference: str
    """Raw text."""
    hypothesis: str
    """Raw text."""
    baseline_hypothesis: str | None
    """Raw text of the baseline; ``None`` for the baseline itself."""
    diff: tuple[DiffPiece, ...]
    """Of the normalised words; of the characters of text lines."""


@dataclass(frozen=True)
class Failure:
    """An utterance that could not be recognised."""

    manifest: str
    """Its manifest."""
    id: str
    """Its id."""
    kind: str
    """``input``, ``model``, ``crash``, ``timeout`` or ``not attempted``."""
    error: str
    """Why."""
    variants: tuple[str, ...]
    """That failed on it for this reason."""


@dataclass(frozen=True)
class BrokenVariant:
    """A variant that could not be evaluated at all, or gave up half way."""

    name: str
    """Of the variant, or the path that was given."""
    reason: str
    """Why."""


@dataclass(frozen=True)
class Overlap:
    """What a set that a bundle was made with shares with a test manifest."""

    bundle: str
    """Name of the bundle."""
    role: str
    """``train``, ``dev``, ``calibration`` or ``tuning``."""
    manifest: str
    """The test manifest."""
    evidence: str
    """``fingerprint`` (the very same set), ``content`` (item by item), or ``none`` (the set could not be read)."""
    detail: str
    """What was compared, or why it could not be."""
    inputs: int | None
    """Recordings (images, source sentences) in both."""
    speakers: int | None
    """Speakers in both; ``None`` also where they are not named."""
    texts: int | None
    """Distinct reference texts in both."""


@dataclass(frozen=True)
class Check:
    """One bound of the budget on one variant."""

    bound: str
    """As written: ``dwer<=0.5``."""
    state: str
    """``holds``, ``fails`` or ``unclear`` (the data cannot tell, or nothing was measured)."""
    found: str
    """What was found, in words with its unit."""


@dataclass(frozen=True)
class VariantVerdict:
    """Whether one variant may ship."""

    variant: str
    """Name."""
    candidate: bool
    """Whether it was to be decided on; others are shown for comparison."""
    ships: bool
    """Every bound holds."""
    checks: tuple[Check, ...]
    """In the order of the budget."""


@dataclass(frozen=True)
class Verdict:
    """Ship or not, budget by budget."""

    budget: str
    """As written."""
    ships: str | None
    """The candidate to ship: of those that hold every bound, the smallest; ``None``: do not ship."""
    nearest: str | None
    """When none ships: the candidate that misses its bounds by the least; ``None``: none could be judged."""
    sentence: str
    """The verdict in plain words."""
    variants: tuple[VariantVerdict, ...]
    """In the order of the report."""


@dataclass(frozen=True)
class Summary:
    """The content of ``report.json``."""

    run: RunInfo
    """What was asked for."""
    metrics: tuple[MetricInfo, ...]
    """Of the task, the first one decides."""
    headline: str
    """The answer in one sentence."""
    reason: str
    """One or two more sentences; may be empty."""
    chosen: str
    """Name of the variant that the headline is about."""
    verdict: Verdict | None
    """``None`` without a budget."""
    variants: tuple[VariantSummary, ...]
    """In the order of the command line."""
    broken: tuple[BrokenVariant, ...]
    """Variants that could not be evaluated, or gave up half way."""
    slices: tuple[Slice, ...]
    """By field, in order."""
    worst: dict[str, tuple[WorstUtterance, ...]]
    """By variant, most errors first."""
    regressions: dict[str, tuple[WorstUtterance, ...]]
    """By variant: utterances with most errors more than the baseline."""
    improvements: dict[str, tuple[WorstUtterance, ...]]
    """By variant: utterances with most errors fewer than the baseline."""
    failures: tuple[Failure, ...]
    """The first ones."""
    failure_count: int
    """Distinct utterances that failed for at least one variant."""
    overlaps: tuple[Overlap, ...]
    """Of every set that the bundles name with every test manifest."""
    resampled_by: str
    """The unit of the bootstrap: ``utterance``, or the field ``run.resample_by`` (``speaker``)."""
    speed_run: SpeedRun | None
    """How speed was measured; ``None``: it was not."""
    notes: tuple[str, ...]
    """What a reader must know before believing a number."""
    schema: int = SCHEMA
    """Version of this format."""

    @property
    def primary(self) -> MetricInfo:
        """The metric that decides."""
        return self.metrics[0]

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
