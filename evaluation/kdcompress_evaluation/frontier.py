"""The plots of a metric against what it costs, from a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from kdcompress_evaluation import words
from kdcompress_evaluation.charts import pareto_chart
from kdcompress_evaluation.labels import Point
from kdcompress_evaluation.pareto import is_paced, latency
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress_evaluation.summary import Summary, VariantSummary

_NAMED = 3
"""With more marks than this they carry numbers, and a key tells the names."""
_MARKERS = {"anchor": "D", "float32": "o", "other": "s"}


@dataclass(frozen=True)
class Chart:
    """One plot of the page."""

    title: str
    """Above it."""
    svg: Markup
    """An ``<svg>`` element."""
    missing: tuple[str, ...]
    """Variants for which the cost was not measured."""


@dataclass(frozen=True)
class Key:
    """One line of the key under the plots."""

    number: int
    """Of the variant in the page, from 1."""
    name: str
    """Of the variant."""
    shape: str
    """``o``, ``s`` or ``D``."""
    state: str
    """``chosen``, ``front`` (on at least one) or ``beaten``."""


def charts(summary: Summary, focus: str, prefix: str = "") -> list[Chart]:
    """The plots that the data allow; ``focus`` is the variant that the page is about, ``prefix`` that of ids."""
    known = [v for v in summary.variants if v.pooled.metrics[summary.primary.name].value is not None]
    axes: Sequence[tuple[str, str, str, Callable[[VariantSummary], float | None]]] = (
        ("size", "Against size", "size to ship, MB", _megabytes),
        ("latency", "Against latency", latency_label(summary), lambda v: latency(v, paced=is_paced(summary.variants))),
        ("memory", "Against memory", "peak resident memory, MB", _peak),
    )
    found = []
    for name, title, x_label, cost in axes:
        costs = [(v, cost(v)) for v in known]
        points = [_point(summary, v, x, name, focus) for v, x in costs if x is not None]
        if len(points) > 1:
            missing = tuple(v.info.name for v, x in costs if x is None)
            found.append(Chart(title, _draw(summary, points, name, x_label, prefix), missing))
    return found


def key(summary: Summary, focus: str) -> list[Key]:
    """Names of the numbers, when the marks carry numbers."""
    if len(summary.variants) <= _NAMED:
        return []
    return [
        Key(number, v.info.name, _marker(v), "chosen" if v.info.name == focus else "front" if _front(v) else "beaten")
        for number, v in enumerate(summary.variants, 1)
    ]


def latency_label(summary: Summary) -> str:
    """Name and unit of the horizontal axis."""
    step = TASKS[summary.run.task].step
    return f"computing a {step}{' in real time' if is_paced(summary.variants) else ''}, p95, ms"


def _megabytes(variant: VariantSummary) -> float | None:
    size = variant.footprint.size_bytes
    return size / 1e6 if size else None


def _peak(variant: VariantSummary) -> float | None:
    return None if variant.footprint.memory is None else variant.footprint.memory.peak / 1e6


def _front(variant: VariantSummary) -> bool:
    return any(variant.fronts.values())


def _marker(variant: VariantSummary) -> str:
    kind = "anchor" if variant.info.anchor else variant.info.precision
    return _MARKERS.get(kind, _MARKERS["other"])


def _point(summary: Summary, variant: VariantSummary, x: float, cost: str, focus: str) -> Point:
    estimate = variant.pooled.metrics[summary.primary.name]
    number = [v.info.name for v in summary.variants].index(variant.info.name) + 1
    chosen = variant.info.name == focus
    named = len(summary.variants) <= _NAMED
    label = variant.info.name if named else f"{number} {variant.info.name}" if chosen else str(number)
    return Point(
        key=number,
        label=label,
        told=_tell(summary, variant),
        x=x,
        y=100 * (estimate.value or 0.0),
        low=None if estimate.low is None else 100 * estimate.low,
        high=None if estimate.high is None else 100 * estimate.high,
        front=bool(variant.fronts.get(cost)),
        chosen=chosen,
        marker=_marker(variant),
    )


def _tell(summary: Summary, variant: VariantSummary) -> str:
    """What stands in the tooltip, line by line."""
    primary, estimate = summary.primary, variant.pooled.metrics[summary.primary.name]
    difference = variant.pooled.differences.get(primary.name)
    paced = is_paced(summary.variants)
    lines: Mapping[str, str | None] = {
        primary.short: f"{words.percent(estimate.value)}{primary.unit and ' ' + primary.unit} "
        f"({words.interval(estimate)})",
        "to baseline": None
        if difference is None
        else f"{words.points(difference.estimate.value)} ({words.points_interval(difference.estimate)})",
        "size": _with(" MB", words.bytes_or_missing(variant.footprint.size_bytes)),
        "p95": _with(f" ms{' in real time' if paced else ''}", words.milliseconds(latency(variant, paced=paced))),
        "memory": _with(" MB", words.number(_peak(variant), 0)),
    }
    role = "baseline" if variant.info.name == summary.run.baseline else "for comparison" if variant.info.anchor else ""
    gave_up = any(item.name == variant.info.name for item in summary.broken)
    told = ", ".join(filter(None, (role, "incomplete" if gave_up else "")))
    name = f"{variant.info.name} ({told})" if told else variant.info.name
    return "\n".join([name, *(f"{what} {value}" for what, value in lines.items() if value)])


def _with(unit: str, value: str) -> str | None:
    return None if value == words.MISSING else value + unit


def _draw(summary: Summary, points: Sequence[Point], name: str, x_label: str, prefix: str) -> Markup:
    primary = summary.primary
    y_label = f"{primary.title}{primary.unit and ', ' + primary.unit}"
    told = f"{y_label} against {x_label}; {len(points)} marks, arrow keys lead from one to the next"
    svg = pareto_chart(points, name=name, x_label=x_label, y_label=y_label, description=told, prefix=prefix)
    return Markup(svg)  # noqa: S704 - the chart is ours; matplotlib and pareto_chart escape what is written in it
