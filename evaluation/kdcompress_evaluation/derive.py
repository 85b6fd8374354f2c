"""From the rows on disk to the summary: nothing here recognises anything, so it can be done again at any time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.broken import read_broken
from kdcompress_evaluation.comparison import compare, not_worse, p_value
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.headline import choose, rival_of, write_headline
from kdcompress_evaluation.notes import write_notes
from kdcompress_evaluation.overlap import OVERLAPS
from kdcompress_evaluation.pareto import fronts
from kdcompress_evaluation.records import load
from kdcompress_evaluation.rows import FAILURES, ROWS, RUN
from kdcompress_evaluation.sampling import Units, difference, draw_manifests, estimate
from kdcompress_evaluation.scoring import ErrorCounts
from kdcompress_evaluation.significance import holm
from kdcompress_evaluation.slices import make_slices
from kdcompress_evaluation.speed import SpeedRecord, summarise_footprint, summarise_run, summarise_speed
from kdcompress_evaluation.speed.record import SPEED
from kdcompress_evaluation.streaming_summary import summarise_streaming
from kdcompress_evaluation.summary import (
    SCHEMA,
    Accuracy,
    BrokenVariant,
    Comparison,
    Difference,
    Overlap,
    RunInfo,
    Summary,
    VariantSummary,
)
from kdcompress_evaluation.table import read_table
from kdcompress_evaluation.tasks import TASKS
from kdcompress_evaluation.verdict import decide
from kdcompress_evaluation.words import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.metrics import Metric
    from kdcompress_evaluation.sampling import Sums
    from kdcompress_evaluation.table import Scored, Table

_NOT_WORSE = "not worse"
_NOT_ATTEMPTED = "not attempted"


def summarise(output: Path) -> Summary:
    """Derive the summary of a report folder from what lies under ``rows/``.

    Raises:
        RowsError: rows are missing or of another version.
        PairingError: variants did not recognise the same utterances.
    """
    run = read_plan(output)
    speed_path, overlaps_path = output / ROWS / SPEED, output / ROWS / OVERLAPS
    record = load(SpeedRecord, speed_path) if speed_path.exists() else None
    overlaps = load(tuple[Overlap, ...], overlaps_path) if overlaps_path.exists() else ()
    table = read_table(output, run)
    broken = _broken(output, table)
    gave_up = {one.name for one in broken}
    units = Units.of(run.resample_by, [table.fields.resampled(number) for number in range(len(run.manifests))])
    draws = _Draws.of(table, units)
    variants = _variants(table, draws, record, gave_up)
    infos = tuple(metric.info for metric in table.metrics)
    verdict = decide(run, variants, infos, sorted(gave_up))
    choice = choose(run, infos[0], variants, gave_up, verdict)
    chosen = choice.variant.info.name
    rival = rival_of(choice, infos[0], variants, gave_up)
    lead = None if rival is None else (rival, draws.difference(table.primary, chosen, rival))
    headline = write_headline(run, infos[0], variants, choice, rival=lead, broken=gave_up, verdict=verdict)
    worst, regressions, improvements = table.extremes.resolve(output, run.manifests, [v.name for v in run.variants])
    speed_run = None if record is None else summarise_run(record)
    return Summary(
        run=run,
        metrics=infos,
        headline=headline.sentence,
        reason=headline.reason,
        chosen=chosen,
        verdict=verdict,
        variants=variants,
        broken=broken,
        slices=make_slices(table, units),
        worst=worst,
        regressions=regressions,
        improvements=improvements,
        failures=table.failures.first([v.name for v in run.variants]),
        failure_count=table.failures.count,
        overlaps=overlaps,
        resampled_by=units.name,
        speed_run=speed_run,
        notes=write_notes(
            run,
            variants,
            unit=units.name,
            failed=table.failures.count,
            broken=broken,
            overlaps=overlaps,
            unknown_fields=table.fields.unknown(),
            speed=speed_run,
            copied=_copied_by_references(table),
        ),
    )


def _copied_by_references(table: Table) -> float | None:
    """Share of the references' words that stand in the source; ``None`` where nobody counts them."""
    found = [part.statistics.get("copied") for part in table.scored[table.run.baseline]]
    copied, count = (sum(float(one[:, column].sum()) for one in found if one is not None) for column in (2, 3))
    return copied / count if count else None


def read_plan(output: Path) -> RunInfo:
    """Read what a report was asked for.

    Raises:
        RowsError: no report, or one of another version.
    """
    run = load(RunInfo, output / ROWS / RUN)
    if run.schema != SCHEMA:
        raise RowsError(f"{output}: rows of schema {run.schema}, this version reads {SCHEMA}; run eval again")
    return run


def _broken(output: Path, table: Table) -> tuple[BrokenVariant, ...]:
    """Variants that the run gave up, and those with utterances that nobody attempted, or that recognised nothing."""
    found = {one.name: one for one in read_broken(output)}
    total = sum(manifest.utterances for manifest in table.run.manifests)
    unit = TASKS[table.run.task].unit
    for name, parts in table.scored.items():
        failed = {kind: sum(part.failed(kind) for part in parts) for kind in FAILURES}
        reason = ""
        if failed[_NOT_ATTEMPTED]:
            reason = f"{failed[_NOT_ATTEMPTED]:,} of {total:,} {unit}s were not attempted"
        elif sum(failed.values()) == total:
            reason = f"not one of {plural(total, unit)} could be recognised"
        if reason and name not in found:
            found[name] = BrokenVariant(name, reason)
    return tuple(found.values())


@dataclass(frozen=True)
class _Draws:
    """Sums of everything that gets an interval; all variants in the same draws."""

    units: Units
    pooled: Sums
    manifests: list[Sums]
    places: Mapping[tuple[str, str], slice]
    """Columns by variant and metric."""

    @classmethod
    def of(cls, table: Table, units: Units) -> _Draws:
        run = table.run
        places: dict[tuple[str, str], slice] = {}
        columns = []
        for number in range(len(run.manifests)):
            parts, width = [], 0
            base = table.scored[run.baseline][number].statistics[table.primary.info.name]
            for variant in run.variants:
                found = table.scored[variant.name][number].statistics
                both = not_worse(table.primary, found[table.primary.info.name], base)
                for name, one in (*((m.info.name, found[m.info.name]) for m in table.metrics), (_NOT_WORSE, both)):
                    places[variant.name, name] = slice(width, width + one.shape[1])
                    parts.append(one)
                    width += one.shape[1]
            columns.append(np.hstack(parts))
        pooled, manifests = draw_manifests(columns, units, resamples=run.resamples, seed=run.seed)
        return cls(units, pooled, manifests, places)

    def sums(self, variant: str, name: str, manifest: int | None = None) -> Sums:
        whole = self.pooled if manifest is None else self.manifests[manifest]
        return whole.part(self.places[variant, name])

    def difference(self, metric: Metric, variant: str, other: str, manifest: int | None = None) -> Estimate:
        name = metric.info.name
        return difference(metric, self.sums(variant, name, manifest), self.sums(other, name, manifest))


def _variants(table: Table, draws: _Draws, record: SpeedRecord | None, broken: set[str]) -> tuple[VariantSummary, ...]:
    """Put accuracy, streaming, speed and bytes together; then correct p-values, and mark the fronts."""
    run = table.run
    plain = [_variant(table, draws, record, number) for number in range(len(run.variants))]
    family = [v.info.name for v in plain if v.info.name not in {run.baseline, *broken} and not v.info.anchor]
    for metric in table.metrics:
        name = metric.info.name
        raw = {v.info.name: v.pooled.differences[name].p_value for v in plain if v.info.name in family}
        adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
        plain = [_adjusted(v, name, adjusted.get(v.info.name)) for v in plain]
    flags = fronts(table.primary.info, plain, broken)
    return tuple(replace(variant, fronts=found) for variant, found in zip(plain, flags, strict=True))


def _variant(table: Table, draws: _Draws, record: SpeedRecord | None, number: int) -> VariantSummary:
    run = table.run
    info = run.variants[number]
    scored = table.scored[info.name]
    primary = table.primary.info.name
    return VariantSummary(
        info=info,
        pooled=_accuracy(table, draws, info.name, None),
        manifests={m.name: _accuracy(table, draws, info.name, place) for place, m in enumerate(run.manifests)},
        comparison=None if info.name == run.baseline else _comparison(table, draws, info.name),
        streaming=summarise_streaming(
            [part.streams for part in scored],
            [part.statistics[primary] for part in scored],
            draws.units,
            resamples=run.resamples,
            seed=run.seed,
        ),
        speed=None if record is None else summarise_speed(record, info.name, run.baseline),
        footprint=summarise_footprint(record, info),
        fronts={},
    )


def _accuracy(table: Table, draws: _Draws, name: str, manifest: int | None) -> Accuracy:
    """Of one manifest, or (``None``) of all together."""
    every = range(len(table.run.manifests)) if manifest is None else [manifest]
    parts = [table.scored[name][number] for number in every]
    words = [part.statistics[table.words.info.name] for part in parts]
    characters = [part.statistics[table.characters.info.name] for part in parts]
    durations = [table.fields.durations[number] for number in every]
    return Accuracy(
        utterances=sum(len(part.states) for part in parts),
        failures=sum(int((~part.recognised).sum()) for part in parts),
        timeouts=sum(part.failed("timeout") for part in parts),
        empty=sum(_empty(part, counts) for part, counts in zip(parts, words, strict=True)),
        empty_references=sum(int((counts[:, -1] == 0).sum()) for counts in words),
        audio_seconds=float(sum(np.nansum(one[part.recognised]) for one, part in zip(durations, parts, strict=True))),
        words=_add(words),
        characters=_add(characters),
        metrics={m.info.name: estimate(m, draws.sums(name, m.info.name, manifest)) for m in table.metrics},
        differences={} if name == table.run.baseline else _differences(table, draws, name, manifest),
    )


def _differences(table: Table, draws: _Draws, name: str, manifest: int | None) -> dict[str, Difference]:
    run = table.run
    every = list(range(len(run.manifests))) if manifest is None else [manifest]
    units = Units(draws.units.name, tuple(draws.units.codes[number] for number in every))
    found = {}
    for metric in table.metrics:
        ours, theirs = (
            [table.scored[one][number].statistics[metric.info.name] for number in every] for one in (name, run.baseline)
        )
        p = p_value(metric, ours, theirs, units, permutations=run.resamples, seed=run.seed)
        found[metric.info.name] = Difference(draws.difference(metric, name, run.baseline, manifest), p, None)
    return found


def _comparison(table: Table, draws: _Draws, name: str) -> Comparison:
    ours, theirs = (table.scored[one] for one in (name, table.run.baseline))
    primary, words = table.primary.info.name, table.words.info.name
    return compare(
        table.primary,
        [part.statistics[primary] for part in ours],
        [part.statistics[primary] for part in theirs],
        draws.sums(name, _NOT_WORSE),
        (_sum([part.statistics[words] for part in ours]), _sum([part.statistics[words] for part in theirs])),
    )


def _adjusted(variant: VariantSummary, metric: str, p_adjusted: float | None) -> VariantSummary:
    """With the corrected p-value of one metric, where there is a difference."""
    differences = variant.pooled.differences
    if metric not in differences:
        return variant
    changed = {**differences, metric: replace(differences[metric], p_adjusted=p_adjusted)}
    return replace(variant, pooled=replace(variant.pooled, differences=changed))


def _empty(part: Scored, words: NDArray[np.float64]) -> int:
    """Recognised utterances without a word, although the reference has some."""
    return int((part.recognised & (words[:, 1] == words[:, 3]) & (words[:, 3] > 0) & (words[:, 2] == 0)).sum())


def _add(counts: Sequence[NDArray[np.float64]]) -> ErrorCounts:
    return ErrorCounts.of(_sum(counts))


def _sum(counts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.sum([one.sum(axis=0) for one in counts], axis=0))
