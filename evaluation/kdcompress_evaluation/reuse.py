"""Reports from rows that are there: derived again, or merged from shards and machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.bounds import budget_of
from kdcompress_evaluation.broken import BROKEN
from kdcompress_evaluation.budget import parse_budget
from kdcompress_evaluation.derive import read_plan, summarise
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.overlap import OVERLAPS
from kdcompress_evaluation.plan import find_candidates
from kdcompress_evaluation.records import dumps, to_json, write_text
from kdcompress_evaluation.report import write_report, write_reports
from kdcompress_evaluation.rows import ROWS, RUN, row_identity, rows_files, rows_path
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.several import Report, collect
from kdcompress_evaluation.speed.record import SPEED
from kdcompress_evaluation.tasks import TASKS
from kdcompress_evaluation.variants import find_baseline
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_evaluation.summary import RunInfo, Summary

MEASURED = (SPEED, BROKEN, OVERLAPS)
"""What lies beside the rows and belongs to one report as a whole."""


@dataclass(frozen=True)
class Rederive:
    """What to change when a report is derived again; ``None`` and empty: as it was."""

    baseline: str | tuple[str, ...] | None = None
    """Variant that the others are compared with; of each task one at most."""
    budget: str = ""
    """Bounds to hold."""
    candidates: tuple[str, ...] = ()
    """Variants that may ship."""
    slices: tuple[str, ...] = ()
    """Fields of the manifests to slice by."""
    resample_by: str = ""
    """Field of the manifests whose values the bootstrap draws as wholes."""
    normaliser: str | None = None
    """Key of ``scoring.NORMALISERS``."""
    device_note: str = ""
    """Words about the machine."""

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of baselines."""
        return (self.baseline,) if isinstance(self.baseline, str) else self.baseline or ()


def rederive_tasks(reports: Sequence[Path], output: Path, changes: Rederive | None = None) -> Report:
    """Do as ``rederive`` with reports of any number of tasks, task by task.

    Raises:
        RowsError, OptionsError, BudgetError: see ``rederive``.
    """
    changes = changes or Rederive()
    tasks = [task for task in TASKS if (reports[0] / task / ROWS / RUN).is_file()]
    if (reports[0] / ROWS / RUN).is_file() or not tasks:
        return Report.of(rederive(reports, output, changes))
    summaries = []
    for task in tasks:
        run = _change(_merge_runs([report / task for report in reports]), _own(changes, task, reports[0]))
        summaries.append(_rederive([report / task for report in reports], output / task, run))
    found = collect(summaries)
    write_reports(found, output)
    return found


def _own(changes: Rederive, task: str, report: Path) -> Rederive:
    """What of the changes is meant for one task of several: names that it has, bounds that it has figures for."""
    variants = read_plan(report / task).variants
    known = {name for v in variants for name in (v.name, v.bundle_name, Path(v.bundle_path).stem)}
    return replace(
        changes,
        baseline=tuple(name for name in changes.baselines if name in known) or None,
        budget=budget_of(changes.budget, task),
        candidates=tuple(name for name in changes.candidates if name in known),
    )


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
    summary = _rederive(reports, output, _change(_merge_runs(reports), changes or Rederive()))
    write_report(summary, output)
    return summary


def _rederive(reports: Sequence[Path], output: Path, run: RunInfo) -> Summary:
    """Bring the rows together and derive."""
    for report in reports:
        if report.resolve() != output.resolve():
            for variant in read_plan(report).variants:
                copy_rows(report, variant.name, output, variant.name, run)
            copy_measured(report, output)
    write_text(output / ROWS / RUN, dumps(run))
    return summarise(output)


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
    if len(changes.baselines) > 1:
        raise OptionsError(f"several baselines of one task ({', '.join(changes.baselines)}); name one for each task")
    for name in changes.baselines:
        new["baseline"] = find_baseline(run.variants, name).name
    if changes.budget:
        parse_budget(changes.budget)
        new["budget"] = changes.budget
    if changes.candidates:
        new["candidates"] = find_candidates(run.variants, changes.candidates)
    if changes.slices:
        new["slices"] = changes.slices
    if changes.resample_by:
        new["resample_by"] = changes.resample_by
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
