"""Ship or not, budget by budget. What the data cannot tell does not ship."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.bootstrap import Estimate
from kdcompress_evaluation.budget import FIGURES, METRICS, Bound, parse_budget
from kdcompress_evaluation.pareto import cost_of, rise, size_of
from kdcompress_evaluation.summary import Check, VariantVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress_evaluation.metrics import MetricInfo
    from kdcompress_evaluation.percentiles import Percentiles
    from kdcompress_evaluation.summary import RunInfo, VariantSummary

HOLDS, FAILS, UNCLEAR = "holds", "fails", "unclear"


@dataclass(frozen=True)
class _Found:
    """What was found for one bound; an exact figure is its own interval."""

    value: float
    low: float | None
    high: float | None


def decide(
    run: RunInfo, variants: Sequence[VariantSummary], metrics: Sequence[MetricInfo], broken: Sequence[str] = ()
) -> Verdict | None:
    """Judge every variant by ``run.budget``; ``None`` without one.

    A bound holds when the whole interval of the figure is within it, fails when the whole interval is beyond it, and is
    unclear between, or where nothing was measured. A variant ships when every bound holds.

    Args:
        run: names the budget, the baseline and the candidates.
        variants: of the report.
        metrics: of the task, the first one decides between variants of one size.
        broken: names of variants that gave up half way; they never ship.

    Raises:
        BudgetError: the budget cannot be read.
    """
    bounds = parse_budget(run.budget)
    if not bounds:
        return None
    baseline = next(v for v in variants if v.info.name == run.baseline)
    candidates = candidates_of(run, [v.info.name for v in variants if not v.info.anchor])
    verdicts: list[VariantVerdict] = []
    misses: dict[str, float] = {}
    for variant in variants:
        found = [_find(bound, variant, baseline, metrics) for bound in bounds]
        checks = tuple(_check(*pair) for pair in zip(bounds, found, strict=True))
        misses[variant.info.name] = sum(_miss(*pair) for pair in zip(bounds, found, strict=True))
        candidate = variant.info.name in candidates
        whole = variant.info.name not in broken
        ships = candidate and whole and all(check.state == HOLDS for check in checks)
        verdicts.append(VariantVerdict(variant.info.name, candidate, ships, checks))
    by_name = {v.info.name: v for v in variants}
    order = sorted(
        (v for v in verdicts if v.ships),
        key=lambda v: (size_of(by_name[v.variant]), cost_of(metrics[0], by_name[v.variant])),
    )
    shipped = order[0].variant if order else None
    asked = [v for v in verdicts if v.candidate]
    complete = [v for v in asked if v.variant not in broken]
    nearest = None if order else min(complete, key=lambda v: misses[v.variant], default=None)
    sentence = _yes(order, bounds) if order else _no(asked, nearest)
    return Verdict(run.budget, shipped, nearest.variant if nearest else None, sentence, tuple(verdicts))


def candidates_of(run: RunInfo, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the variants that may ship: those asked for, else all but the baseline, else the baseline alone."""
    if run.candidates:
        return run.candidates
    return tuple(name for name in names if name != run.baseline) or tuple(names)


def _check(bound: Bound, found: _Found | None) -> Check:
    if found is None:
        return Check(bound.text, UNCLEAR, "not measured")
    told = _tell(bound, found)
    if found.low is None or found.high is None:
        return Check(bound.text, UNCLEAR, f"{told}, too few units for an interval")
    met = [bound.met(end) for end in (found.low, found.high)]
    return Check(bound.text, HOLDS if all(met) else UNCLEAR if any(met) else FAILS, told)


def _miss(bound: Bound, found: _Found | None) -> float:
    """By how much a bound is missed, as a share of it, or in points; 1 where nothing is known."""
    if found is None or found.low is None or found.high is None:
        return 1.0
    over = found.high - bound.value if bound.most else bound.value - found.low
    points = FIGURES[bound.figure].kind in {"percent", "score", "points"}
    return max(0.0, over) / (0.01 if points else abs(bound.value) or 1.0)


def _find(
    bound: Bound, variant: VariantSummary, baseline: VariantSummary, metrics: Sequence[MetricInfo]
) -> _Found | None:
    if bound.figure not in _MEASURED:
        return _find_estimate(bound.figure, variant, metrics[0], itself=variant is baseline)
    value = _MEASURED[bound.figure](variant)
    if value is not None and bound.relative:
        value /= _MEASURED[bound.figure](baseline) or math.nan
    return _exact(value)


def _find_estimate(name: str, variant: VariantSummary, primary: MetricInfo, *, itself: bool) -> _Found | None:
    """A figure with an interval; the baseline compared with itself has none and needs none."""
    pooled, comparison, speed = variant.pooled, variant.comparison, variant.speed
    if name in METRICS:
        found = _estimated(pooled.metrics.get(name))
    elif name == "dstream":
        found = _stream_cost(variant, primary)
    elif name == "not_worse":
        found = _exact(1.0) if itself else _estimated(comparison.not_worse if comparison else None)
    elif name == "speed":
        found = _exact(1.0) if itself and speed else _estimated(speed.speedup if speed else None)
    elif itself:
        found = _exact(0.0) if name[1:] in pooled.metrics else None
    else:
        difference = pooled.differences.get(name[1:])
        found = _estimated(difference.estimate if difference else None)
    return found


def _stream_cost(variant: VariantSummary, primary: MetricInfo) -> _Found | None:
    """Streaming minus whole as a cost, so that more is worse for scores, too."""
    return None if variant.streaming is None else _estimated(Estimate(*rise(primary, variant.streaming.difference)))


def _exact(value: float | None) -> _Found | None:
    return None if value is None else _Found(value, value, value)


def _estimated(estimate: Estimate | None) -> _Found | None:
    return None if estimate is None or estimate.value is None else _Found(estimate.value, estimate.low, estimate.high)


def _tell(bound: Bound, found: _Found) -> str:
    """The figure in words, with its interval where it has one."""
    write = _WRITERS["times" if bound.relative else FIGURES[bound.figure].kind]
    if found.low is None or found.high is None or found.low == found.high:
        return write(found.value)
    return f"{write(found.value)} ({write(found.low)} to {write(found.high)})"


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "percent": lambda value: f"{words.percent(value)} %",
    "score": words.percent,
    "points": words.points,
    "bytes": lambda value: f"{words.megabytes(value)} MB",
    "size": lambda value: f"{words.megabytes(value)} MB",
    "milliseconds": lambda value: f"{words.milliseconds(value)} ms",
    "count": lambda value: f"{value:.0f}",
    "large": lambda value: f"{value / 1e6:.2f} M",
    "times": lambda value: f"{value:.3g}x",
}


def _yes(order: Sequence[VariantVerdict], bounds: Sequence[Bound]) -> str:
    first = order[0]
    every = "the bound" if len(bounds) == 1 else f"all {len(bounds)} bounds"
    told = ", ".join(f"{check.bound} (found {check.found})" for check in first.checks)
    others = ""
    if len(order) > 1:
        others = f" {words.plural(len(order) - 1, 'other variant')} would do as well; this one is the smallest."
    return f"Ship {first.variant}: it holds {every}: {told}.{others}"


def _misses(verdict: VariantVerdict) -> list[Check]:
    return [check for check in verdict.checks if check.state != HOLDS]


def _no(asked: Sequence[VariantVerdict], nearest: VariantVerdict | None) -> str:
    if nearest is None:
        return "Do not ship: no candidate could be evaluated to the end."
    told = ", ".join(
        f"{check.bound} {'is missed' if check.state == FAILS else 'is not shown'} (found {check.found})"
        for check in _misses(nearest)
    )
    if len(asked) == 1:
        return f"Do not ship {nearest.variant}: {told}."
    return (
        f"Do not ship: none of {words.plural(len(asked), 'candidate')} holds every bound. Nearest is "
        f"{nearest.variant}: {told}."
    )


def _percentile(
    of: Callable[[VariantSummary], Percentiles | None], name: str
) -> Callable[[VariantSummary], float | None]:
    def find(variant: VariantSummary) -> float | None:
        found = of(variant)
        return None if found is None else float(getattr(found, name))

    return find


def _chunk(variant: VariantSummary) -> Percentiles | None:
    return None if variant.speed is None else variant.speed.chunk


def _paced(variant: VariantSummary) -> Percentiles | None:
    return None if variant.speed is None else variant.speed.paced


def _final(variant: VariantSummary) -> Percentiles | None:
    return None if variant.speed is None else variant.speed.final


def _whole(variant: VariantSummary) -> Percentiles | None:
    return None if variant.speed is None else variant.speed.whole


def _macs(variant: VariantSummary) -> float | None:
    return None if variant.speed is None or variant.speed.work is None else variant.speed.work.macs


_MEASURED: Mapping[str, Callable[[VariantSummary], float | None]] = {
    "size": lambda v: v.footprint.size_bytes,
    "zip": lambda v: v.footprint.compressed_bytes,
    "lm": lambda v: v.footprint.lm_bytes,
    "params": lambda v: v.info.parameters,
    **{name: _percentile(_chunk, name) for name in ("p50", "p95", "p99")},
    "max": _percentile(_chunk, "highest"),
    **{f"paced_{name}": _percentile(_paced, name) for name in ("p50", "p95", "p99")},
    "final": _percentile(_final, "p95"),
    "cold": lambda v: None if v.footprint.cold_start is None else v.footprint.cold_start.total,
    "rtf": lambda v: None if v.speed is None else v.speed.rtf_total,
    "whole": _percentile(_whole, "p95"),
    "rate": lambda v: None if v.speed is None else v.speed.per_second,
    "macs": _macs,
    "rss": lambda v: None if v.footprint.memory is None else v.footprint.memory.peak,
    "steady": lambda v: None if v.footprint.memory is None else v.footprint.memory.steady,
    "failures": lambda v: v.pooled.failures,
    "empty": lambda v: v.pooled.empty,
}
"""How each figure that is no estimate is read off a variant."""
