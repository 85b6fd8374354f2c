"""What a reader must know before believing a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation.fields import SPEAKER
from kdcompress_evaluation.overlap import LEAK, severity
from kdcompress_evaluation.sampling import UTTERANCE
from kdcompress_evaluation.tasks import TASKS
from kdcompress_evaluation.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_evaluation.cost import SpeedRun
    from kdcompress_evaluation.summary import BrokenVariant, ManifestInfo, Overlap, RunInfo, VariantSummary
    from kdcompress_evaluation.tasks import Task

_FEW = 100
"""Utterances under which little can be decided."""
_DIFFERENT = 10
"""Differing utterances under which a bootstrap interval of a difference is too narrow."""
_USED = {
    "train": "{} was trained on {}",
    "dev": "{} was chosen among others on {}",
    "calibration": "{} was quantized with recordings of {}",
    "tuning": "The decoder of {} was tuned on {}",
}
"""What a bundle did with a set, by role."""


def write_notes(
    run: RunInfo,
    variants: Sequence[VariantSummary],
    *,
    unit: str,
    failed: int,
    broken: Sequence[BrokenVariant],
    overlaps: Sequence[Overlap],
    unknown_fields: Sequence[str],
    speed: SpeedRun | None,
    copied: float | None = None,
) -> tuple[str, ...]:
    """Return the caveats of this report, the weightiest first.

    Args:
        run: what was asked for.
        variants: of the report.
        unit: of the bootstrap.
        failed: distinct utterances that some variant could not recognise.
        broken: variants that could not be evaluated, or gave up half way.
        overlaps: of the sets that bundles were made with, and the manifests.
        unknown_fields: asked for as slices, and in no manifest.
        speed: how it was measured.
        copied: share of the references' words that stand in the source, of translations.
    """
    task = TASKS[run.task]
    notes = [
        *_broken(run, broken),
        *_failed(failed, variants, task.unit),
        *_leaks(overlaps, run.manifests, task.unit),
        *_small(variants, task.unit),
        *_perfect(variants),
        *_sparse(variants, task.unit),
        *_empty(variants, task.unit),
    ]
    notes += [f"No {task.unit} has a field {name!r} to slice by." for name in unknown_fields]
    if unit == UTTERANCE:
        notes.append(_resampled(task, run.resample_by))
    if copied is not None:
        notes.append(
            f"Of the references' own words, {100 * copied:.1f} % stand in the source, too (names, numbers): a model "
            "that translates comes near that share, one that copies is far above it."
        )
    return (*notes, *_speed(run, speed))


def _resampled(task: Task, field: str) -> str:
    """What intervals over single items leave out."""
    if field != SPEAKER:
        return (
            f"Intervals were to be drawn by {field!r}, but that field does not name at least 10 things, one on every "
            f"{task.unit}, in every manifest: single {task.unit}s are drawn."
        )
    if task.chunked:
        return (
            "Intervals resample utterances. Errors of one speaker hang together, so for new speakers the intervals of "
            "rates are too narrow; those of differences suffer little. (With at least 10 speakers named in every "
            "manifest, speakers are resampled.)"
        )
    return (
        f"Intervals resample {task.unit}s. Errors in one document hang together, so for new documents the intervals of "
        "rates are too narrow; those of differences suffer little. (With at least 10 documents named in every "
        "manifest by a field, `--resample FIELD` draws documents.)"
    )


def _broken(run: RunInfo, broken: Sequence[BrokenVariant]) -> Iterable[str]:
    known = {variant.name for variant in run.variants}
    for variant in broken:
        if variant.name in known:
            yield (
                f"{variant.name} was not evaluated to the end ({variant.reason}): what it did not recognise counts as "
                "errors, and it is neither chosen nor on a front."
            )
        else:
            yield f"{variant.name} could not be evaluated: {variant.reason}"


def _failed(failed: int, variants: Sequence[VariantSummary], unit: str) -> Iterable[str]:
    if failed:
        late = sum(variant.pooled.timeouts for variant in variants)
        yield (
            f"{plural(failed, unit)} could not be recognised by at least one variant. They are counted: "
            "their words are deletions in the rates above."
            + (f" {plural(late, 'time')} the reason was that it took too long." if late else "")
        )


def _leaks(overlaps: Sequence[Overlap], manifests: Sequence[ManifestInfo], unit: str) -> Iterable[str]:
    """Sets that a bundle was made with and is tested on."""
    sizes = {manifest.name: manifest.utterances for manifest in manifests}
    for overlap in overlaps:
        if severity(overlap) == LEAK:
            what = _USED.get(overlap.role, "{} was made with {}")
            part = overlap.manifest
            if overlap.evidence != "fingerprint" and overlap.inputs is not None:
                part = f"{overlap.inputs:,} of the {plural(sizes.get(overlap.manifest, 0), unit)} of {part}"
            yield (
                f"{what.format(overlap.bundle, part)}: its rates there are better than they will be elsewhere. "
                "Test on other data."
            )


def _small(variants: Sequence[VariantSummary], unit: str) -> Iterable[str]:
    count = variants[0].pooled.utterances
    if count < _FEW:
        yield f"Only {plural(count, unit)}: the intervals are rough. Decide nothing on small differences."


def _perfect(variants: Sequence[VariantSummary]) -> Iterable[str]:
    for variant in variants:
        words = variant.pooled.words
        if not words.errors and words.reference:
            yield (
                f"{variant.info.name} made no error. By the rule of three its true rate may still be up to about "
                f"{100 * min(1.0, 3 / words.reference):.2f} %."
            )


def _sparse(variants: Sequence[VariantSummary], unit: str) -> Iterable[str]:
    """Differences that rest on a handful of utterances; ``benchmarks/results/statistics`` has how far they go wrong."""
    for variant in variants:
        found = variant.comparison
        different = 0 if found is None else found.better + found.worse
        if 0 < different < _DIFFERENT:
            yield (
                f"{variant.info.name} and the baseline differ on {plural(different, unit)} only: the interval "
                "of their difference is too narrow then; go by the permutation test."
            )


def _empty(variants: Sequence[VariantSummary], unit: str) -> Iterable[str]:
    for variant in variants:
        if variant.pooled.empty:
            yield f"{variant.info.name} returned an empty text for {plural(variant.pooled.empty, unit)}."
    without = variants[0].pooled.empty_references
    if without:
        yield f"{plural(without, 'reference')} without words: whatever is recognised there is an insertion."


def _speed(run: RunInfo, speed: SpeedRun | None) -> Iterable[str]:
    if speed is None:
        yield "Speed was not measured."
        return
    yield from speed.notes
    load, cores = speed.machine.load_average, speed.machine.cores
    if load is not None and load > 0.75 * cores:
        yield (
            f"The machine was busy when timing began (load {load:.1f} on {cores} cores): trust the ratios, "
            "which are interleaved, more than the milliseconds."
        )
    noise = speed.noise
    if noise is not None and noise.low is not None and noise.high is not None and not noise.low <= 1 <= noise.high:
        yield (
            f"A second copy of the baseline ran at {noise.value:.2f} times its speed ({noise.low:.2f} to "
            f"{noise.high:.2f}): differences in speed of this size are noise of the machine."
        )
    if speed.machine.cpu != run.machine.cpu:
        yield f"Speed was measured on {speed.machine.cpu}, the texts were recognised on {run.machine.cpu}."
