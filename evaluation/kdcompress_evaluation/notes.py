"""What a reader must know before believing a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_evaluation.speed import SpeedRecord
    from kdcompress_evaluation.summary import RunInfo, VariantSummary

_FEW = 100
"""Utterances under which a percentile interval is known to be too narrow."""


def write_notes(
    run: RunInfo, variants: Sequence[VariantSummary], unit: str, failed: int, record: SpeedRecord | None
) -> tuple[str, ...]:
    """Return the caveats of this report, the weightiest first."""
    notes = [*_failed(failed), *_tuned_here(run), *_small(variants), *_perfect(variants), *_empty(variants)]
    if unit == "utterance":
        notes.append(
            "Intervals resample utterances; errors of one speaker hang together, so intervals for new speakers "
            "are wider. (With at least 10 speakers named in every manifest, speakers are resampled.)"
        )
    notes += _speed(run, record)
    return tuple(notes)


def _failed(failed: int) -> Iterable[str]:
    if failed:
        yield (
            f"{plural(failed, 'utterance')} could not be recognised by at least one variant. They are counted: "
            "their words are deletions in the rates above."
        )


def _tuned_here(run: RunInfo) -> Iterable[str]:
    """Decoders that were tuned on what they are tested on."""
    for variant in run.variants:
        data = variant.provenance.get("data")
        tuning = data.get("tuning") if isinstance(data, dict) else None
        tuned_on = tuning.get("fingerprint") if isinstance(tuning, dict) else None
        for manifest in run.manifests:
            if tuned_on == manifest.fingerprint:
                yield (
                    f"The decoder of {variant.name} was tuned on {manifest.name}: its rates there are better than they "
                    "will be elsewhere. Test on other recordings."
                )


def _small(variants: Sequence[VariantSummary]) -> Iterable[str]:
    count = variants[0].pooled.utterances
    if count < _FEW:
        yield (
            f"Only {plural(count, 'utterance')}: the intervals are rough, and on the narrow side. "
            "Decide nothing on small differences."
        )


def _perfect(variants: Sequence[VariantSummary]) -> Iterable[str]:
    for variant in variants:
        words = variant.pooled.words
        if not words.errors and words.reference:
            yield (
                f"{variant.info.name} made no error, so its interval has no width. By the rule of three its true "
                f"rate may still be up to about {100 * min(1.0, 3 / words.reference):.2f} %."
            )


def _empty(variants: Sequence[VariantSummary]) -> Iterable[str]:
    for variant in variants:
        if variant.pooled.empty:
            yield f"{variant.info.name} returned an empty text for {plural(variant.pooled.empty, 'utterance')}."


def _speed(run: RunInfo, record: SpeedRecord | None) -> Iterable[str]:
    if record is None or not record.utterances:
        yield "Speed was not measured: no utterance could be timed."
        return
    yield from record.notes
    load, cores = record.machine.load_average, record.machine.cores
    if load is not None and load > 0.75 * cores:
        yield (
            f"The machine was busy when timing began (load {load:.1f} on {cores} cores): trust the ratios, "
            "which are interleaved, more than the milliseconds."
        )
    if record.machine != run.machine and record.machine.cpu != run.machine.cpu:
        yield f"Speed was measured on {record.machine.cpu}, the texts were recognised on {run.machine.cpu}."
