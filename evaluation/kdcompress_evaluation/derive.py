"""From the rows on disk to the summary: nothing here recognises anything, so it can be done again at any time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.bootstrap import (
    Estimate,
    check_pairs,
    choose_speakers,
    group_sums,
    ratio,
    resampled_sums,
)
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.headline import write_headline
from kdcompress_evaluation.notes import write_notes
from kdcompress_evaluation.pareto import pareto_front
from kdcompress_evaluation.records import load
from kdcompress_evaluation.rows import Row, read_rows
from kdcompress_evaluation.scoring import NORMALISERS, ErrorCounts, UtteranceScore, score, word_diff
from kdcompress_evaluation.speed import SpeedRecord, summarise_memory, summarise_speed
from kdcompress_evaluation.summary import (
    SCHEMA,
    Accuracy,
    Failure,
    RunInfo,
    Summary,
    VariantSummary,
    WorstUtterance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = "rows"
"""Folder of the raw rows inside a report folder."""
_WORST = 8
_FAILURES = 50


@dataclass(frozen=True)
class _Scored:
    """Rows of one variant over one manifest with their error counts, in the same order."""

    rows: list[Row]
    scores: list[UtteranceScore]


_Table = dict[str, dict[str, _Scored]]
"""By manifest, then by variant."""


def rows_path(output: Path, variant: str, manifest: str) -> Path:
    """Where the rows of one variant over one manifest lie."""
    return output / ROWS / f"{variant}.{manifest}.jsonl"


def summarise(output: Path) -> Summary:
    """Derive the summary of a report folder from what lies under ``rows/``.

    Raises:
        RowsError: rows are missing or of another version.
        PairingError: variants did not recognise the same utterances.
    """
    run = load(RunInfo, output / ROWS / "run.json")
    if run.schema != SCHEMA:
        raise RowsError(f"{output}: rows of schema {run.schema}, this version reads {SCHEMA}; run eval again")
    speed_path = output / ROWS / "speed.json"
    record = load(SpeedRecord, speed_path) if speed_path.exists() else None
    table = _read_table(output, run)
    accuracies, unit = _accuracies(run, table)
    variants = _variants(run, accuracies, record)
    failures = _failures(run, table)
    failed = len({(failure.manifest, failure.id) for failure in failures})
    chosen = write_headline(run, variants, None).chosen
    rival = _rival(chosen, variants)
    lead = None if rival is None else (rival, _lead(run, table, chosen, rival))
    headline = write_headline(run, variants, lead)
    return Summary(
        run=run,
        headline=headline.sentence,
        reason=headline.reason,
        chosen=chosen,
        variants=variants,
        worst={v.name: _worst(run, table, v.name) for v in run.variants},
        failures=tuple(failures[:_FAILURES]),
        failure_count=failed,
        resampled_by=unit,
        speed_machine=None if record is None else record.machine,
        notes=write_notes(run, variants, unit, failed, record),
    )


def _read_table(output: Path, run: RunInfo) -> _Table:
    """Read and score every rows file; one variant is aligned at a time."""
    table: _Table = {}
    normaliser = NORMALISERS[run.normaliser]
    for manifest in run.manifests:
        table[manifest.name] = {}
        order: list[str] = []
        for variant in run.variants:
            found = read_rows(rows_path(output, variant.name, manifest.name))
            order = order or list(found)
            check_pairs(variant.name, found, run.variants[0].name, order)
            if len(found) != manifest.utterances:
                raise RowsError(
                    f"{rows_path(output, variant.name, manifest.name)}: {len(found)} rows of "
                    f"{manifest.utterances}; run the same `kdcompress eval` again to complete them"
                )
            rows = [found[key] for key in order]
            scores = score([r.reference for r in rows], [r.hypothesis for r in rows], normaliser)
            table[manifest.name][variant.name] = _Scored(rows, scores)
    return table


def _statistics(run: RunInfo, scored: dict[str, _Scored]) -> NDArray[np.float64]:
    """(N, 2 + 2 * variants): reference words and characters, then word and character errors of each variant."""
    first = scored[run.variants[0].name].scores
    columns = [[s.words.reference for s in first], [s.characters.reference for s in first]]
    for variant in run.variants:
        columns.append([s.words.errors for s in scored[variant.name].scores])
        columns.append([s.characters.errors for s in scored[variant.name].scores])
    return np.array(columns, dtype=float).T


def _draw(run: RunInfo, table: _Table) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Bootstrap sums (R, K) of every manifest, all variants in the same draws; and the unit resampled."""
    speakers = {
        name: choose_speakers([row.speaker for row in scored[run.baseline].rows]) for name, scored in table.items()
    }
    by_speaker = all(named is not None for named in speakers.values())
    drawn = {}
    for number, (name, scored) in enumerate(table.items()):
        units, named = _statistics(run, scored), speakers[name]
        if by_speaker and named is not None:
            units = group_sums(units, named)
        drawn[name] = resampled_sums(units, resamples=run.resamples, seed=[run.seed, number])
        if len(units) < 2:
            drawn[name] = drawn[name][:0]
    return drawn, "speaker" if by_speaker else "utterance"


def _accuracies(run: RunInfo, table: _Table) -> tuple[dict[str, dict[str, Accuracy]], str]:
    """Accuracy by variant, then by manifest; the pooled one under the empty name."""
    drawn, unit = _draw(run, table)
    draws = min(len(sums) for sums in drawn.values())
    # Manifests are resampled each on its own and then added: the mix of test sets stays as it is.
    pooled_draws = np.sum([sums[:draws] for sums in drawn.values()], axis=0)
    found: dict[str, dict[str, Accuracy]] = {}
    for variant in run.variants:
        parts = [table[m.name][variant.name] for m in run.manifests]
        base = [table[m.name][run.baseline] for m in run.manifests]
        found[variant.name] = {"": _accuracy(run, variant.name, parts, base, pooled_draws)}
        for manifest, part, against in zip(run.manifests, parts, base, strict=True):
            found[variant.name][manifest.name] = _accuracy(run, variant.name, [part], [against], drawn[manifest.name])
    return found, unit


def _accuracy(
    run: RunInfo, name: str, parts: Sequence[_Scored], base: Sequence[_Scored], draws: NDArray[np.float64]
) -> Accuracy:
    """Add up the utterances of ``parts`` and read the intervals off the draws."""
    rows = [row for part in parts for row in part.rows]
    scores = [one for part in parts for one in part.scores]
    words = sum((s.words for s in scores), ErrorCounts())
    characters = sum((s.characters for s in scores), ErrorCounts())
    column = _column(run, name)
    difference = None
    if name != run.baseline:
        theirs = sum(s.words.errors for part in base for s in part.scores)
        both = draws[:, column] - draws[:, _column(run, run.baseline)]
        difference = ratio(words.errors - theirs, words.reference, both, draws[:, 0])
    return Accuracy(
        utterances=len(rows),
        failures=sum(row.error is not None for row in rows),
        empty=sum(
            row.error is None and one.words.deletions == one.words.reference > 0 and not one.words.insertions
            for row, one in zip(rows, scores, strict=True)
        ),
        audio_seconds=float(sum(row.duration or 0.0 for row in rows if row.error is None)),
        words=words,
        characters=characters,
        wer=ratio(words.errors, words.reference, draws[:, column], draws[:, 0]),
        cer=ratio(characters.errors, characters.reference, draws[:, column + 1], draws[:, 1]),
        difference=difference,
    )


def _column(run: RunInfo, name: str) -> int:
    return 2 + 2 * [variant.name for variant in run.variants].index(name)


def _variants(
    run: RunInfo, accuracies: dict[str, dict[str, Accuracy]], record: SpeedRecord | None
) -> tuple[VariantSummary, ...]:
    """Put accuracy, speed and memory together and mark the fronts."""
    plain = []
    for info in run.variants:
        found = dict(accuracies[info.name])
        plain.append(
            VariantSummary(
                info=info,
                pooled=found.pop(""),
                manifests=found,
                speed=None if record is None else summarise_speed(record, info.name, run.baseline),
                memory=None if record is None else summarise_memory(record, info.name),
                on_size_front=None,
                on_latency_front=None,
            )
        )
    size = pareto_front([(v.pooled.wer.value, float(v.info.size_bytes)) for v in plain])
    latency = pareto_front([(v.pooled.wer.value, v.speed.chunk_p95_ms if v.speed else None) for v in plain])
    return tuple(replace(v, on_size_front=a, on_latency_front=b) for v, a, b in zip(plain, size, latency, strict=True))


def _rival(chosen: str, variants: Sequence[VariantSummary]) -> str | None:
    """The variant closest in error rate among those of about the chosen one's size."""
    own = next(v for v in variants if v.info.name == chosen)
    value = own.pooled.wer.value
    same = [
        (abs(v.pooled.wer.value - value), v.info.name)
        for v in variants
        if v is not own
        and value is not None
        and v.pooled.wer.value is not None
        and abs(v.info.size_bytes - own.info.size_bytes) <= 0.1 * own.info.size_bytes
    ]
    return min(same)[1] if same else None


def _lead(run: RunInfo, table: _Table, name: str, rival: str) -> Estimate:
    """Paired difference of ``name`` to ``rival``, from the same draws as everything else."""
    accuracies, _ = _accuracies(replace(run, baseline=rival), table)
    return accuracies[name][""].difference or Estimate(None)


def _worst(run: RunInfo, table: _Table, variant: str) -> tuple[WorstUtterance, ...]:
    """Utterances with most word errors; among equals those with the higher rate, then in order."""
    normaliser = NORMALISERS[run.normaliser]
    found = [
        (one.words, manifest.name, row)
        for manifest in run.manifests
        for row, one in zip(table[manifest.name][variant].rows, table[manifest.name][variant].scores, strict=True)
        if one.words.errors and row.error is None
    ]
    found.sort(key=lambda item: (-item[0].errors, item[0].reference, item[1], item[2].id))
    return tuple(
        WorstUtterance(
            manifest=manifest,
            id=row.id,
            speaker=row.speaker,
            duration=row.duration,
            errors=words.errors,
            words=words.reference,
            reference=row.reference,
            hypothesis=row.hypothesis,
            diff=word_diff(row.reference, row.hypothesis, normaliser),
        )
        for words, manifest, row in found[:_WORST]
    )


def _failures(run: RunInfo, table: _Table) -> list[Failure]:
    """Failed utterances, once for each reason, with the variants it befell."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for manifest in run.manifests:
        for variant, scored in table[manifest.name].items():
            for row in scored.rows:
                if row.error is not None:
                    found.setdefault((manifest.name, row.id, row.error), []).append(variant)
    return [Failure(manifest=m, id=i, error=e, variants=tuple(names)) for (m, i, e), names in found.items()]
