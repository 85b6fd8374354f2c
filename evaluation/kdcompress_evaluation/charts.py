"""Charts as inline SVG that follows the page: text in its font, colours from its style sheet, light or dark."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from kdcompress_evaluation.labels import (
    ACCENT,
    DPI,
    INK,
    MUTED,
    PIXELS,
    RULE,
    SURFACE,
    Extent,
    Point,
    colour_of,
    moved,
    pixel_extent,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    ACCENT: "var(--accent)",
    SURFACE: "var(--page)",
}
_WIDTH, _HEIGHT = 4.6, 3.9
_TEXT = 11
_APART = 11.0
"""Points (of print) between marks of the same cost."""
_ROUNDS = 80
"""Enough for twenty marks to come apart."""
_STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdcompress",
    "font.size": _TEXT,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def pareto_chart(
    points: Sequence[Point], *, name: str, x_label: str, y_label: str, description: str, prefix: str = ""
) -> str:
    """Draw a metric against a cost; returns an ``<svg>`` element whose marks are groups with ``data-variant``.

    Args:
        points: at least one.
        name: prefix of the ids inside, unique in the page.
        x_label: name and unit of the cost.
        y_label: name and unit of the metric.
        description: for readers who cannot see it.
        prefix: of ``name`` and of ``data-variant``, where a page shows several reports.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        figure.set_facecolor("none")
        axes.set_facecolor("none")
        _frame(axes, points, x_label, y_label)
        axes.plot([p.x for p in points], [p.y for p in points], linestyle="none")
        canvas.draw()  # type: ignore[no-untyped-call]
        figure.set_layout_engine("none")
        shifts = _side_by_side(axes, points)
        _front_line(axes, points, shifts)
        for point, shift in zip(points, shifts, strict=True):
            _mark(axes, point, shift)
        write_labels(axes, points, shifts)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _pointable(_inline(buffer.getvalue(), prefix + name, description), prefix, prefix + name, points)


def _frame(axes: Axes, points: Sequence[Point], x_label: str, y_label: str) -> None:
    """Axes, limits with room for labels, few ticks, a light grid."""
    low = min(p.x for p in points)
    high = max(p.x for p in points)
    if low > 0 and high / low > 4:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.26, high * (high / low) ** 0.18)
        ticks = _log_ticks(low, high)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        room = max(0.3 * (high - low), 0.1 * high) or 1.0
        axes.set_xlim(max(0.0, low - room), high + room)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom = min(p.y if p.low is None else p.low for p in points)
    top = max(p.y if p.high is None else p.high for p in points)
    room = 0.12 * (top - bottom) or 0.5
    axes.set_ylim(max(0.0, bottom - room) if bottom > room else -0.04 * (top or 1.0), top + room)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=_TEXT, color=MUTED)
    axes.grid(visible=True, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=5)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 in every decade around the data, thinned to about six."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    steps = (1, 2, 5) if high / low < 60 else (1, 3)
    ticks = [m * 10.0**e for e in range(first, last + 1) for m in steps]
    return [t for t in ticks if low / 2 <= t <= high * 2]


def _front_line(axes: Axes, points: Sequence[Point], shifts: Sequence[float]) -> None:
    """A thin staircase through the marks that nothing dominates."""
    marks = [pixel_extent(axes, p, shift)[0] for p, shift in zip(points, shifts, strict=True) if p.front]
    if len(marks) > 1:
        front = sorted((float(x), float(y)) for x, y in axes.transData.inverted().transform(marks))
        xs, ys = [x for x, _ in front], [y for _, y in front]
        axes.step(xs, ys, where="post", color=MUTED, linewidth=1, dashes=(3, 3), zorder=1.5)


def _side_by_side(axes: Axes, points: Sequence[Point]) -> list[float]:
    """Points (of print) by which marks move sideways, so that bars that share a height stay apart; as little as can be.

    Every pair that is too near is pushed apart by half of what is missing, again and again; none passes another, so the
    order of the costs stays.
    """
    extents = [pixel_extent(axes, point, 0.0) for point in points]
    places = [mark[0] / PIXELS for mark, _ in extents]
    order = sorted(range(len(points)), key=lambda i: (points[i].x, -points[i].y, i))
    pairs = [(i, j) for n, i in enumerate(order) for j in order[n + 1 :]]
    apart = [_APART if _share_height(extents[i], extents[j]) else 0.0 for i, j in pairs]
    moving = list(places)
    for _ in range(_ROUNDS):
        lacks = [need - (moving[j] - moving[i]) for (i, j), need in zip(pairs, apart, strict=True)]
        for (i, j), lack in zip(pairs, lacks, strict=True):
            if lack > 0:
                moving[i] -= lack / 4
                moving[j] += lack / 4
    return [now - before for now, before in zip(moving, places, strict=True)]


def _share_height(one: Extent, other: Extent) -> bool:
    """Whether two marks with their bars would touch if they stood at the same cost."""
    (_, y0), (low0, high0) = one
    (_, y1), (low1, high1) = other
    room = _APART * PIXELS / 2
    return min(low0, y0 - room) < max(high1, y1 + room) and min(low1, y1 - room) < max(high0, y0 + room)


def _mark(axes: Axes, point: Point, shift: float) -> None:
    """The interval bar and the mark; those of dominated variants stand back."""
    colour = colour_of(point)
    if point.low is not None and point.high is not None:
        ends = [point.low, point.high]
        (bar,) = axes.plot([point.x, point.x], ends, color=colour, linewidth=1.4, transform=moved(axes, shift))
        bar.set_alpha(0.75 if point.front else 0.4)
        bar.set_gid(f"bar-{point.key}")
    size = 10.0 if point.chosen else 7.5
    axes.plot(
        [point.x],
        [point.y],
        marker=point.marker,
        markersize=0.85 * size if point.marker == "D" else size,
        markerfacecolor=colour if point.front else SURFACE,
        markeredgecolor=colour,
        markeredgewidth=1.5,
        linestyle="none",
        zorder=6 if point.chosen else 5,
        transform=moved(axes, shift),
        gid=f"mark-{point.key}",
    )


def _inline(svg: str, name: str, description: str) -> str:
    """Make matplotlib's file an element of a page: no prologue, no links, unique ids, colours of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<style type="text/css">[^<]*</style>', "", svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"(href=\"|url\()#", rf"\1#{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"font: (?:(\d+|bold) )?([\d.]+px) [^;\"]*", r"font-weight: \1; font-size: \2", svg)
    svg = svg.replace("font-weight: ; ", "")
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", svg, count=1)
    return svg.replace("<svg", f'<svg class="chart" role="group" aria-label="{escape(description)}"', 1).strip()


def _pointable(svg: str, prefix: str, name: str, points: Sequence[Point]) -> str:
    """Give every mark its words; one of them takes part in the order of the keyboard, arrows lead to the rest."""
    first = min(points, key=lambda p: (not p.chosen, p.x)).key
    for point in points:
        told = str(escape(point.told)).replace("\n", "&#10;")
        spoken = escape(point.told.replace("\n", "; "))
        attributes = (
            f'class="mark" data-variant="{prefix}{point.key}" data-told="{told}" role="img" aria-label="{spoken}" '
            f'tabindex="{0 if point.key == first else -1}"'
        )
        svg = svg.replace(f'<g id="{name}-mark-{point.key}"', f'<g id="{name}-mark-{point.key}" {attributes}')
        for part in ("bar", "label"):
            lit = f'<g class="{part}" data-variant="{prefix}{point.key}"'
            svg = svg.replace(f'<g id="{name}-{part}-{point.key}"', lit)
    return svg
