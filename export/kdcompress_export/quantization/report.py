"""What a search found -> files, choice, and the JSON that goes into ``bundle.json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdcompress_export.agreement import compare_models
from kdcompress_export.prove import FLOAT, Speed, speed_summary, split_summary
from kdcompress_export.quantization.budget import nearest
from kdcompress_export.quantization.decide import choose, runner_up
from kdcompress_export.quantization.options import BudgetVerdict, SearchResult
from kdcompress_export.timing import cpu_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_export.inputs import Units
    from kdcompress_export.prove import Choice
    from kdcompress_export.quantization.decide import Rules
    from kdcompress_export.quantization.measure import Candidate, ErrorCounter, Table
    from kdcompress_export.quantization.options import SearchOptions
    from kdcompress_export.quantization.rows import Row
    from kdcompress_export.source import Source

NOT_MEASURED = "not measured: no dev manifest was given"
_SPLIT_RECORDINGS = 2


def build_result(
    source: Source,
    options: SearchOptions,
    rules: Rules,
    table: Table,
    *,
    recordings: Sequence[Units],
    errors: ErrorCounter | None,
) -> SearchResult:
    """Decide and write down.

    Args:
        source: what was searched.
        options: what was asked for.
        rules: what a candidate must hold.
        table: all candidates.
        recordings: inputs of the proof, ``(units, ...)`` each; may be none.
        errors: where the errors of all candidates were counted.
    """
    winner, choice = choose(table.rows, rules)
    kept = winner if winner is not None and winner.precision != FLOAT else runner_up(table.rows, rules)
    small = next((one for one in table.candidates if kept is not None and one.name == kept.name), None)
    contents = {FLOAT: source.content}
    names = {FLOAT: FLOAT}
    measured: dict[str, Any] = {"size_bytes": {FLOAT: len(source.content)}}
    if small is not None:
        precision = small.row.precision
        contents[precision], names[precision] = small.content, small.name
        measured["size_bytes"][precision] = len(small.content)
        measured["size_ratio"] = small.row.size_ratio
        measured[precision] = _proof(source, table, small, recordings)
    measured["error_rates"] = errors.rates(names).summary() if errors else NOT_MEASURED
    measured["float32_splits"] = split_summary(
        table.baseline.model, list(recordings[:_SPLIT_RECORDINGS]) or source.inputs.probe()
    )
    measured["default"] = asdict(choice)
    verdict = _verdict(rules, table.rows, winner)
    search = _search_json(options, table, choice, small, verdict)
    measured["search"] = {**search, "allowed_points": rules.allowed_points}
    return SearchResult(
        contents,
        choice,
        tuple(table.rows),
        small.name if small else "",
        measured,
        verdict,
        small.scheme if small else None,
    )


def _proof(source: Source, table: Table, small: Candidate, recordings: Sequence[Units]) -> dict[str, Any]:
    """JSON object: the smaller file against float32."""
    row, baseline, probe = small.row, table.baseline, source.inputs.probe()
    calibration: Any = "none: this scheme needs no data"
    if small.scheme is not None and small.scheme.needs_calibration:
        manifest = str(source.calibration)
        frames = row.calibration_frames
        calibration = {"manifest": manifest, "method": small.scheme.method, "frames": frames}
    agreement = asdict(row.agreement) if row.agreement else {}
    found: dict[str, Any] = {
        "scheme": row.name,
        "settings": dict(row.scheme),
        "quantized_nodes": sum(row.quantized.values()),
        "quantized_by_type": dict(row.quantized),
        "float32_by_type": dict(row.floating),
        "calibration": calibration,
        "agreement": {**agreement, "fed": source.inputs.items if recordings else "noise"},
        "probe": asdict(compare_models(baseline.model, small.model, probe)),
        "splits": split_summary(small.model, [*probe[:1], *recordings[:_SPLIT_RECORDINGS]]),
        "speed": _speed(row, baseline.row),
    }
    if row.difference:
        found["error_rate_difference"] = asdict(row.difference)
        found["error_shift"] = dict(row.error_shift)
    return found


def _speed(row: Row, baseline: Row) -> dict[str, Any]:
    whole, chunk = (
        {one.precision: getattr(one, name) for one in (baseline, row) if getattr(one, name) is not None}
        for name in ("whole", "chunk")
    )
    return speed_summary(Speed(whole, chunk, row.precision, row.long))


def _verdict(rules: Rules, rows: Sequence[Row], winner: Row | None) -> BudgetVerdict | None:
    if rules.budget is None:
        return None
    text = str(rules.budget)
    if winner is not None and not rules.budget.misses(winner.figures()):
        return BudgetVerdict(text, met=True, nearest=winner.name)
    made = [row for row in rows if not row.refused]
    best = made[nearest(rules.budget, [row.figures() for row in made]) or 0]
    misses = rules.budget.misses(best.figures())
    words = rules.budget.describe_misses(best.figures())
    said = f"misses {words}" if misses else "meets the budget, but is not the same model or makes more errors"
    return BudgetVerdict(text, met=False, nearest=best.name, misses=misses, text=said)


def _search_json(
    options: SearchOptions, table: Table, choice: Choice, small: Candidate | None, verdict: BudgetVerdict | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "quantize": options.quantize,
        "cpu": cpu_name(),
        "preset": options.cpu or "this machine",
        "chosen": FLOAT if choice.precision == FLOAT else (small.name if small else FLOAT),
        "shipped": small.name if small else "",
        "rows": [row.to_json() for row in table.rows],
    }
    if table.sensitivity is not None:
        found["sensitivity"] = table.sensitivity.to_json()
    if verdict is not None:
        found["budget"] = asdict(verdict)
    return found
