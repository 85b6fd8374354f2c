"""Two variants side by side: two systems on manifests, or two variants of reports that are there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_evaluation.derive import read_plan
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.pipeline import evaluate
from kdcompress_evaluation.reuse import copy_measured, copy_rows, derive_into
from kdcompress_evaluation.rows import ROWS, RUN
from kdcompress_evaluation.summary import Summary
from kdcompress_evaluation.variants import find_baseline
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kdcompress_evaluation.options import EvalOptions


@dataclass(frozen=True)
class _Place:
    """A variant of a report."""

    report: Path
    variant: str


def compare(
    first: str,
    second: str,
    manifests: Mapping[str, Path],
    output: Path | None = None,
    *,
    options: EvalOptions,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Summary:
    """Compare two variants over the same utterances; the first is the baseline.

    Args:
        first: a bundle (or another system that ``evaluate`` takes); or ``REPORT:VARIANT`` (or the name of a bundle: its
            float32), or a report folder, which stands for the variant that its headline is about.
        second: the same.
        manifests: for systems, by name; none for reports.
        output: where the report is kept; ``None``: nowhere.
        options: for systems.
        on_progress: called with (stage, done, total).

    Raises:
        OptionsError: one is a report and the other is not, or manifests are missing.
        RowsError, PairingError: the reports are not of the same utterances.
    """
    places = [_place(first), _place(second)]
    with tempfile.TemporaryDirectory(prefix="kdcompress-") as temporary:
        target = output or Path(temporary)
        if places[0] is not None and places[1] is not None:
            return _compare_rows(places[0], places[1], target, options.budget)
        if places != [None, None]:
            raise OptionsError(f"{first} and {second}: one is a report, the other is not; compare two of a kind")
        if not manifests:
            raise OptionsError("comparing systems needs recordings: name a --manifest NAME=FILE")
        summary = evaluate([Path(first), Path(second)], manifests, target, options, on_progress)
    if summary.broken and len(summary.variants) < 2:
        raise OptionsError(f"nothing to compare: {summary.broken[0].name}: {summary.broken[0].reason}")
    if len(summary.variants) != 2:
        names = ", ".join(v.info.name for v in summary.variants)
        raise OptionsError(f"two variants are needed, found {names}; choose one precision, or use eval")
    return summary


def _compare_rows(first: _Place, second: _Place, output: Path, budget: str) -> Summary:
    """Derive a report of two variants, each from the rows of a report."""
    runs = [read_plan(place.report) for place in (first, second)]
    plans = [[(m.name, m.fingerprint) for m in run.manifests] for run in runs]
    if plans[0] != plans[1]:
        raise RowsError(f"{first.report} and {second.report} are on different manifests and cannot be compared")
    found = [find_baseline(run.variants, place.variant) for place, run in zip((first, second), runs, strict=True)]
    if first.report.resolve() == second.report.resolve() and found[0] == found[1]:
        raise OptionsError(f"{first.report}:{found[0].name} is compared with itself; name two variants")
    ours, theirs = (replace(variant, anchor=False) for variant in found)
    if ours.name == theirs.name:
        theirs = replace(theirs, name=f"{theirs.name}@2")
    run = replace(
        runs[0], variants=(ours, theirs), baseline=ours.name, candidates=(theirs.name,), budget=budget, command=""
    )
    for place, old, new in zip((first, second), found, (ours, theirs), strict=True):
        copy_rows(place.report, old.name, output, new.name, run)
    if first.report.resolve() == second.report.resolve():
        copy_measured(first.report, output)
    return derive_into(output, run)


def _place(text: str) -> _Place | None:
    """``REPORT:VARIANT`` or ``REPORT``; ``None`` when it is no report."""
    whole = Path(text)
    if (whole / ROWS / RUN).is_file():
        return _Place(whole, Summary.read(whole / "report.json").chosen)
    folder, colon, variant = text.rpartition(":")
    if colon and (Path(folder) / ROWS / RUN).is_file():
        return _Place(Path(folder), variant)
    return None
