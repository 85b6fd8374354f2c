"""``report.html``, ``report.md`` and ``report.json`` from a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from kdcompress_evaluation import words
from kdcompress_evaluation.charts import pareto_chart
from kdcompress_evaluation.labels import Point
from kdcompress_evaluation.markdown import render_markdown
from kdcompress_evaluation.records import write_text
from kdcompress_evaluation.scoring import NORMALISERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.summary import Speed, Summary, VariantSummary

_FOREST_WIDTH = 92
_FOREST_HEIGHT = 14


@dataclass(frozen=True)
class KeyFigure:
    """One of the few numbers under the headline."""

    name: str
    """What it is."""
    value: str
    """Of the chosen variant."""
    unit: str
    """Behind the value."""
    against: str
    """The baseline's, in words."""


def write_report(summary: Summary, output: Path) -> None:
    """Write the three files into ``output``, each moved into place when complete."""
    write_text(output / "report.json", summary.dumps())
    write_text(output / "report.md", render_markdown(summary))
    write_text(output / "report.html", render_html(summary))


def render_html(summary: Summary) -> str:
    """Return the page: one file without a link to anything outside."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kdcompress_evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        percent=words.percent,
        points=words.points,
        interval=words.interval,
        points_interval=words.points_interval,
        megabytes=words.megabytes,
        milliseconds=words.milliseconds,
        chunk_time=words.chunk_time,
        millions=words.millions,
        number=words.number,
        times=words.times,
        plural=words.plural,
        decoder=words.decoder,
    )
    span = _span(summary.variants)
    return environment.get_template("report.html.j2").render(
        summary=summary,
        run=summary.run,
        chosen=summary.variant(summary.chosen),
        baseline=summary.variant(summary.run.baseline),
        figures=key_figures(summary),
        charts=_charts(summary),
        forest=lambda estimate: _forest(estimate, span),
        normaliser=NORMALISERS[summary.run.normaliser],
        provenance=_provenance,
    )


def key_figures(summary: Summary) -> list[KeyFigure]:
    """The numbers of the chosen variant, each beside the baseline's."""
    best, base = summary.variant(summary.chosen), summary.variant(summary.run.baseline)
    alone = best is base
    figures = [
        KeyFigure(
            "Word error rate",
            words.percent(best.pooled.wer.value),
            "%",
            (
                f"95 % interval {words.interval(best.pooled.wer)}"
                if best.pooled.words.errors
                else f"no error in {words.plural(best.pooled.words.reference, 'word')}"
            )
            if alone
            else f"baseline {words.percent(base.pooled.wer.value)} %",
        ),
        KeyFigure(
            "Size to ship",
            words.megabytes(best.info.size_bytes),
            "MB",
            "" if alone else f"baseline {words.megabytes(base.info.size_bytes)} MB",
        ),
    ]
    if best.speed is not None and base.speed is not None:
        figures.append(_time_figure(best, base, best.speed, base.speed))
    if best.memory is not None and base.memory is not None:
        figures.append(
            KeyFigure(
                "Peak memory",
                words.megabytes(best.memory.peak, 0),
                "MB",
                "" if alone else f"baseline {words.megabytes(base.memory.peak, 0)} MB",
            )
        )
    return figures


def _time_figure(best: VariantSummary, base: VariantSummary, speed: Speed, base_speed: Speed) -> KeyFigure:
    """Time of a chunk; of the answer after the end of the input where the chosen variant does not stream."""
    name = f"A {best.info.chunk_ms or 0:.0f} ms chunk, p95"
    value, against = speed.chunk_p95_ms, base_speed.chunk_p95_ms
    if not best.info.streaming:
        name, value, against = "From end to answer, p95", speed.final_p95_ms, base_speed.final_p95_ms
    told = "baseline does not stream" if against is None else f"baseline {words.milliseconds(against)} ms"
    return KeyFigure(name, words.milliseconds(value), "ms", "" if best is base else told)


def _charts(summary: Summary) -> list[tuple[str, Markup]]:
    """The Pareto charts that the data allow, with their titles."""
    found = []
    sized = [v for v in summary.variants if v.pooled.wer.value is not None]
    timed = [(v, v.speed.chunk_p95_ms) for v in sized if v.speed is not None and v.speed.chunk_p95_ms is not None]
    if len(sized) > 1:
        sizes = [_point(summary, v, v.info.size_bytes / 1e6, front=bool(v.on_size_front)) for v in sized]
        found.append(("Error rate against size", _draw(sizes, "size", "bundle size, MB")))
    if len(timed) > 1:
        latencies = [_point(summary, v, time, front=bool(v.on_latency_front)) for v, time in timed]
        found.append(("Error rate against latency", _draw(latencies, "latency", "chunk compute time p95, ms")))
    return found


def _draw(points: Sequence[Point], name: str, x_label: str) -> Markup:
    told = "; ".join(f"{p.label}: {p.x:.2f}, {p.y:.2f} %" for p in points)
    # The chart is ours, and matplotlib and pareto_chart escape the labels.
    return Markup(  # noqa: S704
        pareto_chart(points, name=name, x_label=x_label, description=f"Word error rate against {x_label}. {told}")
    )


def _point(summary: Summary, variant: VariantSummary, x: float, *, front: bool) -> Point:
    wer = variant.pooled.wer
    return Point(
        label=variant.info.name,
        x=x,
        y=100 * (wer.value or 0.0),
        low=None if wer.low is None else 100 * wer.low,
        high=None if wer.high is None else 100 * wer.high,
        front=front,
        chosen=variant.info.name == summary.chosen,
        square=variant.info.precision != "float32",
    )


def _span(variants: Sequence[VariantSummary]) -> tuple[float, float]:
    """Ends of the difference column, as fractions: zero and every interval lie inside."""
    ends = [
        end
        for variant in variants
        for accuracy in (variant.pooled, *variant.manifests.values())
        if accuracy.difference is not None
        for end in (accuracy.difference.low, accuracy.difference.high, accuracy.difference.value)
        if end is not None
    ]
    return min([0.0, *ends]), max([0.0, *ends])


def _forest(estimate: Estimate | None, span: tuple[float, float]) -> Markup:
    """A small interval bar beside the zero line, drawn to one scale in all rows."""
    height, (low, high) = _FOREST_HEIGHT, span

    def place(value: float) -> float:
        return 4 + (_FOREST_WIDTH - 8) * ((value - low) / (high - low) if high > low else 0.5)

    parts = [f'<line x1="{place(0):.1f}" y1="0" x2="{place(0):.1f}" y2="{height}" class="zero"/>']
    if estimate is not None and estimate.value is not None:
        if estimate.low is not None and estimate.high is not None:
            ends = f'x1="{place(estimate.low):.1f}" x2="{place(estimate.high):.1f}"'
            parts.append(f'<line {ends} y1="{height / 2}" y2="{height / 2}" class="bar"/>')
        parts.append(f'<circle cx="{place(estimate.value):.1f}" cy="{height / 2}" r="3" class="dot"/>')
    # Made of numbers only.
    return Markup(  # noqa: S704
        f'<svg class="forest" viewBox="0 0 {_FOREST_WIDTH} {height}" aria-hidden="true">{"".join(parts)}</svg>'
    )


def _provenance(variant: VariantSummary) -> list[tuple[str, str]]:
    """What the bundle says of its origin, one short text a field; the run's own measurements are left out."""
    fields = {key: value for key, value in variant.info.provenance.items() if key != "run"}
    return [(key, _short(value)) for key, value in fields.items() if value not in (None, "", {})]


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(item) for item in value)
    return str(value)
