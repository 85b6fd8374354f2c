"""Charts as inline SVG that follows the page: text in its font, colours from its style sheet, light or dark."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Stand-ins that ``_inline`` swaps for colours of the page; no two are alike, and none is used for itself.
_INK, _MUTED, _RULE, _ACCENT, _SURFACE = "#010101", "#020202", "#030303", "#040404", "#050505"
_COLOURS = {
    _INK: "currentColor",
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    _ACCENT: "var(--accent)",
    _SURFACE: "var(--surface)",
}
_WIDTH, _HEIGHT = 5.6, 4.3
_TEXT = 12
_STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdcompress",
    "font.size": _TEXT,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}


@dataclass(frozen=True)
class Point:
    """One variant in a chart."""

    label: str
    """Written beside it."""
    x: float
    """Cost on the horizontal axis."""
    y: float
    """Error rate in percent."""
    low: float | None
    """Lower end of the interval of ``y``."""
    high: float | None
    """Upper end."""
    front: bool
    """Not dominated: drawn solid."""
    chosen: bool
    """The one that the headline names."""
    square: bool
    """Drawn as a square (quantized) instead of a circle (float32)."""


def pareto_chart(points: Sequence[Point], *, name: str, x_label: str, description: str) -> str:
    """Draw error rate against a cost, both to be small; returns an ``<svg>`` element.

    Args:
        points: at least one.
        name: prefix of the ids inside, unique in the page.
        x_label: name and unit of the cost.
        description: for readers who cannot see it.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        figure.set_facecolor("none")
        axes.set_facecolor("none")
        _frame(axes, points, x_label)
        _front_line(axes, points)
        for point in points:
            _mark(axes, point)
        canvas.draw()  # type: ignore[no-untyped-call]
        figure.set_layout_engine("none")
        _label(axes, points)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, description)


def _frame(axes: Axes, points: Sequence[Point], x_label: str) -> None:
    """Axes, limits with room for labels, few ticks, a light grid."""
    low = min(p.x for p in points)
    high = max(p.x for p in points)
    if low > 0 and high / low > 4:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.18, high * (high / low) ** 0.18)
        ticks = _log_ticks(low, high)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        room = 0.3 * (high - low) or 0.5 * high or 1.0
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
    axes.set_title("word error rate, %", loc="left", fontsize=_TEXT, color=_MUTED)
    axes.grid(visible=True, color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=5)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 in every decade around the data, thinned to about six."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    steps = (1, 2, 5) if high / low < 60 else (1, 3)
    ticks = [m * 10.0**e for e in range(first, last + 1) for m in steps]
    return [t for t in ticks if low / 2 <= t <= high * 2]


def _front_line(axes: Axes, points: Sequence[Point]) -> None:
    """A thin staircase through the points that nothing dominates."""
    front = sorted((p.x, p.y) for p in points if p.front)
    if len(front) > 1:
        axes.step([x for x, _ in front], [y for _, y in front], where="post", color=_MUTED, linewidth=1, dashes=(3, 3))


def _mark(axes: Axes, point: Point) -> None:
    colour = _ACCENT if point.chosen else _INK if point.front else _MUTED
    if point.low is not None and point.high is not None:
        axes.plot([point.x, point.x], [point.low, point.high], color=colour, linewidth=1.2, alpha=0.75)
    axes.plot(
        [point.x],
        [point.y],
        marker="s" if point.square else "o",
        markersize=9.5 if point.chosen else 8,
        markerfacecolor=colour if point.front else _SURFACE,
        markeredgecolor=colour,
        markeredgewidth=1.5,
        linestyle="none",
        zorder=5,
    )


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write each name beside its point at the nearest place where it covers nothing; a thin line leads there."""
    figure = axes.get_figure()
    renderer = figure.canvas.get_renderer()  # type: ignore[union-attr]
    scale = renderer.points_to_pixels(1.0)
    obstacles = [_extent(axes, point) for point in points]
    taken: list[Bbox] = []
    frame = axes.get_window_extent(renderer)
    for point in sorted(points, key=lambda p: (not p.chosen, not p.front, p.y)):

        def cost(place: tuple[float, float, float, str], point: Point = point) -> float:
            text = _write(axes, point, place)
            box = Text.get_window_extent(text, renderer).padded(1.5 * scale)
            text.remove()
            hit = sum(_hits(box, mark, bar, 6 * scale) for mark, bar in obstacles)
            return place[0] + 400 * _outside(box, frame) + 60 * sum(map(box.overlaps, taken)) + 40 * hit

        text = _write(axes, point, min(_places(), key=cost))
        taken.append(Text.get_window_extent(text, renderer).padded(1.5 * scale))


def _extent(axes: Axes, point: Point) -> tuple[tuple[float, float], tuple[float, float]]:
    """Pixels of a marker, and of the ends of its interval bar."""
    low, high = (point.y if end is None else end for end in (point.low, point.high))
    (x, y), (_, bottom), (_, top) = axes.transData.transform([(point.x, v) for v in (point.y, low, high)])
    return (float(x), float(y)), (float(bottom), float(top))


def _write(axes: Axes, point: Point, place: tuple[float, float, float, str]) -> Annotation:
    """Write a label; far from its point it gets a line to it."""
    _, dx, dy, align = place
    line = {"arrowstyle": "-", "color": _MUTED, "linewidth": 0.7, "shrinkA": 2, "shrinkB": 6}
    return axes.annotate(
        point.label,
        (point.x, point.y),
        (dx, dy),
        textcoords="offset points",
        ha=cast("Any", align),
        va="center",
        color=_ACCENT if point.chosen else _INK if point.front else _MUTED,
        fontweight="bold" if point.chosen else "normal",
        arrowprops=line if math.hypot(dx, dy) > 24 else None,
    )


def _places() -> list[tuple[float, float, float, str]]:
    """Candidate places of a label: (cost, offset x, offset y in points, alignment), near ones first."""
    found = []
    for ring in (0, 16, 32, 48, 66, 86):
        for dy in {0, ring, -ring}:
            found += [(ring + 0.5 * (dy > 0), 10.0, float(dy), "left"), (ring + 1.0, -10.0, float(dy), "right")]
        if ring:
            found += [(ring + 3.0, 0.0, float(ring), "center"), (ring + 3.5, 0.0, float(-ring), "center")]
            found += [(ring + 6.0, 26.0, float(dy), "left") for dy in (ring, -ring)]
            found += [(ring + 6.0, -26.0, float(dy), "right") for dy in (ring, -ring)]
    return sorted(found)


def _outside(box: Bbox, frame: Bbox) -> bool:
    return bool(box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1)


def _hits(box: Bbox, mark: tuple[float, float], bar: tuple[float, float], radius: float) -> bool:
    """Whether a label's box covers a marker at ``mark``, or the vertical bar through it; all in pixels."""
    x, y = mark
    on_bar = box.x0 < x + 2 and box.x1 > x - 2 and box.y0 < bar[1] and box.y1 > bar[0]
    on_mark = box.x0 < x + radius and box.x1 > x - radius and box.y0 < y + radius and box.y1 > y - radius
    return bool(on_bar or on_mark)


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
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{label}"', 1).strip()
