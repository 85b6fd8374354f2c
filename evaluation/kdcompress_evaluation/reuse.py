"""Reports from rows that are there: derived again, or merged from shards and machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.broken import BROKEN
from kdcompress_evaluation.budget import parse_budget
from kdcompress_evaluation.derive import read_plan, summarise
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.overlap import OVERLAPS
from kdcompress_evaluation.plan import find_candidates
from kdcompress_evaluation.records import dumps, to_json, write_text
from kdcompress_evaluation.report import write_report
from kdcompress_evaluation.rows import ROWS, RUN, row_identity, rows_files, rows_path
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.speed.record import SPEED
from kdcompress_evaluation.variants import find_baseline
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcompress_evaluation.summary import RunInfo, Summary

MEASURED = (SPEED, BROKEN, OVERLAPS)
"""What lies beside the rows and belongs to one report as a whole."""


@dataclass(frozen=True)
class Rederive:
    """What to change when a report is derived again; ``None`` and empty: as it was."""

    baseline: str | None = None
    """Variant that the others are compared with."""
    budget: str = ""
    """Bounds to hold."""
    candidates: tuple[str, ...] = ()
    """Variants that may ship."""
    slices: tuple[str, ...] = ()
    """Fields of the manifests to slice by."""
    normaliser: str | None = None
    """Key of ``scoring.NORMALISERS``."""
    device_note: str = ""
    """Words about the machine."""


def rederive(reports: Sequence[Path], output: Path, changes: Rederive | None = None) -> Summary:
    """Derive every number, plot and verdict again from the rows of one report, or of several merged.

    Several reports are shards of one evaluation (on the same manifests; variants may differ). Speed, memory and
    overlaps are those of the first report that has them.

    Args:
        reports: folders that hold ``rows/``.
        output: folder of the report; one of ``reports``, or another one, into which the rows are copied.
        changes: what to ask for differently.

    Raises:
        RowsError: rows are missing, of another version, or of other manifests.
        OptionsError, BudgetError: a change that cannot be made.
    """
    changes = changes or Rederive()
    run = _change(_merge_runs(reports), changes)
    for report in reports:
        if report.resolve() != output.resolve():
            for variant in read_plan(report).variants:
                copy_rows(report, variant.name, output, variant.name, run)
            copy_measured(report, output)
    return derive_into(output, run)


def _merge_runs(reports: Sequence[Path]) -> RunInfo:
    """The plan of the first report with the variants of all."""
    runs = [read_plan(report) for report in reports]
    variants = list(runs[0].variants)
    for report, run in zip(reports, runs, strict=True):
        mine, theirs = ([(m.name, m.fingerprint) for m in one.manifests] for one in (runs[0], run))
        if mine != theirs:
            raise RowsError(f"{report}: made from other manifests than {reports[0]}; merge reports on the same data")
        if (run.decoder, run.streaming) != (runs[0].decoder, runs[0].streaming):
            raise RowsError(f"{report}: decoded or streamed in another way than {reports[0]}; merge reports made alike")
        for variant in run.variants:
            same = next((v for v in variants if v.name == variant.name), None)
            if same is None:
                variants.append(variant)
            elif same.files != variant.files:
                raise RowsError(
                    f"{report}: {variant.name} is made of other files there than in {reports[0]}; give one a new name"
                )
    return replace(runs[0], variants=tuple(variants))


def derive_into(output: Path, run: RunInfo) -> Summary:
    """Write down what is asked for, and make the report from the rows in ``output``.

    Raises:
        RowsError, PairingError: see ``derive.summarise``.
    """
    write_text(output / ROWS / RUN, dumps(run))
    summary = summarise(output)
    write_report(summary, output)
    return summary


def _change(run: RunInfo, changes: Rederive) -> RunInfo:
    new: dict[str, Any] = {}
    if changes.baseline is not None:
        new["baseline"] = find_baseline(run.variants, changes.baseline).name
    if changes.budget:
        parse_budget(changes.budget)
        new["budget"] = changes.budget
    if changes.candidates:
        new["candidates"] = find_candidates(run.variants, changes.candidates)
    if changes.slices:
        new["slices"] = changes.slices
    if changes.normaliser is not None:
        if changes.normaliser not in NORMALISERS:
            known = ", ".join(NORMALISERS)
            raise OptionsError(f"normaliser {changes.normaliser!r} is unknown; choose one of {known}")
        new["normaliser"] = changes.normaliser
    if changes.device_note:
        new["device_note"] = changes.device_note
    return replace(run, **new)


def copy_rows(report: Path, variant: str, output: Path, name: str, run: RunInfo) -> None:
    """Add the rows of a variant to those of ``name`` in ``output``; those that are there already are not repeated."""
    for manifest in run.manifests:
        target = rows_path(output, name, manifest.name)
        sources = rows_files(report, variant, manifest.name)
        # Not splitlines: texts may hold separators of other kinds.
        lines = dict.fromkeys(
            line
            for file in [*([target] if target.exists() else []), *sources]
            for line in file.read_text(encoding="utf-8").split("\n")
            if line
        )
        if lines:
            write_text(target, "".join(f"{line}\n" for line in lines))
            write_text(target.with_suffix(".identity.json"), dumps(row_identity(to_json(run), name, manifest.name)))


def copy_measured(report: Path, output: Path) -> None:
    """Take over what was measured and found beside the rows, where ``output`` has nothing of the kind."""
    for name in MEASURED:
        source, target = report / ROWS / name, output / ROWS / name
        if source.is_file() and not target.exists():
            write_text(target, source.read_text(encoding="utf-8"))
