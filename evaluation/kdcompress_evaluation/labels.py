"""Names beside the marks of a chart, placed so that they cover neither marks, bars, lines nor each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from matplotlib.text import Text
from matplotlib.transforms import Bbox, ScaledTranslation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Transform

# Stand-ins that ``charts`` swaps for colours of the page; no two are alike, and none is used for itself.
INK, MUTED, RULE, ACCENT, SURFACE = "#010101", "#020202", "#030303", "#040404", "#050505"
DPI = 100
PIXELS = DPI / 72
"""Pixels in a point of print."""
_LINE_FROM = 24
"""Offset in points of print beyond which a label gets a line to its mark."""
_Place = tuple[float, float, float, str]
"""Where a label may stand: cost, offset x, offset y in points of print, alignment."""
_Segment = tuple[tuple[float, float], tuple[float, float]]
Extent = tuple[tuple[float, float], tuple[float, float]]
"""Pixels of a mark, and of the lower and upper end of its bar."""


def _places() -> list[_Place]:
    """Candidate places of a label, near ones first."""
    found = [(0.0, 10.0, 0.0, "left"), (1.0, -10.0, 0.0, "right")]
    for ring in (12, 20, 32, 44, 58, 72, 90, 110):
        for dy in (float(ring), float(-ring)):
            bias = ring + (0.5 if dy < 0 else 0.0)
            found += [(bias, 10.0, dy, "left"), (bias + 1, -10.0, dy, "right"), (bias + 3, 0.0, dy, "center")]
            found += [(bias + 6, 28.0, dy, "left"), (bias + 7, -28.0, dy, "right")]
            found += [(bias + 14, 56.0, dy, "left"), (bias + 15, -56.0, dy, "right")]
            found += [(bias + 26, 96.0, dy, "left"), (bias + 27, -96.0, dy, "right")]
    return sorted(found)


_PLACES = _places()


@dataclass(frozen=True)
class Point:
    """One variant in a chart."""

    key: int
    """Number of the variant in the page, from 1."""
    label: str
    """Written beside it."""
    told: str
    """Everything known about it, for those who point at it or cannot see it: lines."""
    x: float
    """Cost on the horizontal axis."""
    y: float
    """The metric, times 100."""
    low: float | None
    """Lower end of the interval of ``y``."""
    high: float | None
    """Upper end."""
    front: bool
    """Not dominated: drawn solid."""
    chosen: bool
    """The one that the page is about."""
    marker: str
    """Shape: ``o``, ``s`` or ``D``."""


def colour_of(point: Point) -> str:
    """The chosen one in the accent, the front in ink, the rest muted."""
    return ACCENT if point.chosen else INK if point.front else MUTED


def moved(axes: Axes, shift: float) -> Transform:
    """Data coordinates, ``shift`` points of print to the right."""
    return axes.transData + ScaledTranslation(shift / 72, 0, cast("Any", axes.figure).dpi_scale_trans)


def pixel_extent(axes: Axes, point: Point, shift: float) -> Extent:
    """Pixels of a mark, and of the ends of its interval bar."""
    low, high = (point.y if end is None else end for end in (point.low, point.high))
    (x, y), (_, bottom), (_, top) = axes.transData.transform([(point.x, v) for v in (point.y, low, high)])
    return (float(x) + shift * PIXELS, float(y)), (float(bottom), float(top))


@dataclass
class _Layout:
    """What stands in the chart so far, in pixels."""

    frame: Bbox
    extents: list[Extent]
    boxes: list[Bbox]
    lines: list[_Segment]
    front: list[_Segment]

    def best(self, index: int, mark: tuple[float, float], size: tuple[float, float]) -> tuple[_Place, Bbox]:
        """The cheapest place for the label of mark ``index``; places come by what they cost at least."""
        found, least = None, math.inf
        for place in _PLACES:
            if place[0] >= least:
                break
            candidate = (place, _box(mark, size, place))
            cost = self.cost(index, candidate)
            if cost < least:
                found, least = candidate, cost
        return found or (_PLACES[0], _box(mark, size, _PLACES[0]))

    def cost(self, index: int, candidate: tuple[_Place, Bbox]) -> float:
        """How bad it would be to put the label of mark ``index`` there; 0 is best."""
        place, box = candidate
        outside = not (self.frame.contains(box.x0, box.y0) and self.frame.contains(box.x1, box.y1))
        total = place[0] + 400 * outside + 250 * sum(map(box.overlaps, self.boxes))
        total += 40 * sum(_hits(box, *extent) for extent in self.extents)
        total += 50 * sum(_meets(other, box) for other in self.lines)
        total += 12 * sum(_meets(step, box) for step in self.front)
        line = _line(self.extents[index][0], box, place)
        if line is not None:
            total += 50 * sum(_meets(line, other) for other in self.boxes)
            total += 50 * sum(_cross(line, other) for other in self.lines)
            total += 25 * sum(_meets(line, _around(e[0])) for i, e in enumerate(self.extents) if i != index)
        return total


def write_labels(axes: Axes, points: Sequence[Point], shifts: Sequence[float]) -> None:
    """Write each name at the nearest place where it covers nothing; from afar, a thin line leads to its mark.

    The chosen variant is placed first, then the front, then the others from below.
    """
    renderer = cast("Any", axes.figure).canvas.get_renderer()
    extents = [pixel_extent(axes, point, shift) for point, shift in zip(points, shifts, strict=True)]
    steps = _staircase([mark for (mark, _), point in zip(extents, points, strict=True) if point.front])
    layout = _Layout(axes.get_window_extent(renderer), extents, [], [], steps)
    order = sorted(range(len(points)), key=lambda i: (not points[i].chosen, not points[i].front, points[i].y))
    for index in order:
        mark = extents[index][0]
        trial = _write(axes, points[index], shifts[index], (0.0, 0.0, 0.0, "center"))
        size = Text.get_window_extent(trial, renderer).size
        trial.remove()
        place, box = layout.best(index, mark, size)
        _write(axes, points[index], shifts[index], place)
        layout.boxes.append(box)
        line = _line(mark, box, place)
        layout.lines += [] if line is None else [line]


def _staircase(marks: list[tuple[float, float]]) -> list[_Segment]:
    """The level and the falling pieces of the line through the front."""
    steps: list[_Segment] = []
    for (x0, y0), (x1, y1) in pairwise(sorted(marks)):
        steps += [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1))]
    return steps


def _box(mark: tuple[float, float], size: tuple[float, float], place: _Place) -> Bbox:
    """Pixels that a label of ``size`` covers at ``place``, with a little room around."""
    _, dx, dy, align = place
    x, y = mark[0] + dx * PIXELS, mark[1] + dy * PIXELS
    left = x - {"left": 0.0, "center": 0.5, "right": 1.0}[align] * size[0]
    return Bbox([(left, y - size[1] / 2), (left + size[0], y + size[1] / 2)]).padded(1.5 * PIXELS)


def _write(axes: Axes, point: Point, shift: float, place: _Place) -> Annotation:
    """Write a label; far from its mark it gets a line to it."""
    _, dx, dy, align = place
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 6}
    return axes.annotate(
        point.label,
        (point.x, point.y),
        (dx, dy),
        xycoords=moved(axes, shift),
        textcoords="offset points",
        ha=cast("Any", align),
        va="center",
        color=colour_of(point),
        fontweight="bold" if point.chosen else "normal",
        gid=f"label-{point.key}",
        arrowprops=line if math.hypot(dx, dy) > _LINE_FROM else None,
    )


def _line(mark: tuple[float, float], box: Bbox, place: _Place) -> _Segment | None:
    """The line of a label: from its mark to the middle of its box, stopped at the box."""
    if math.hypot(place[1], place[2]) <= _LINE_FROM:
        return None
    (x, y), (cx, cy) = mark, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    reach = max(abs(x - cx) / (box.width / 2), abs(y - cy) / (box.height / 2), 1.0)
    return mark, (cx + (x - cx) / reach, cy + (y - cy) / reach)


def _hits(box: Bbox, mark: tuple[float, float], bar: tuple[float, float]) -> bool:
    """Whether a label's box covers a mark, or the vertical bar through it."""
    on_bar = box.x0 < mark[0] + 2 and box.x1 > mark[0] - 2 and box.y0 < bar[1] and box.y1 > bar[0]
    return bool(on_bar or box.overlaps(_around(mark)))


def _around(mark: tuple[float, float]) -> Bbox:
    radius = 6 * PIXELS
    return Bbox([(mark[0] - radius, mark[1] - radius), (mark[0] + radius, mark[1] + radius)])


def _meets(line: _Segment, box: Bbox) -> bool:
    """Whether a line passes through a box."""
    corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
    if box.contains(*line[0]) or box.contains(*line[1]):
        return True
    return any(_cross(line, (corners[i - 1], corners[i])) for i in range(4))


def _cross(one: _Segment, other: _Segment) -> bool:
    """Whether two lines cross."""

    def side(line: _Segment, point: tuple[float, float]) -> float:
        (x0, y0), (x1, y1) = line
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

    return side(one, other[0]) * side(one, other[1]) < 0 and side(other, one[0]) * side(other, one[1]) < 0
