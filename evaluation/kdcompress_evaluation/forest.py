"""Small pictures inside table cells, drawn with numbers alone: intervals beside a line, bars of parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_evaluation.bootstrap import Estimate

WIDTH, HEIGHT = 112, 16
_EDGE = 5
_LINE = (-30, 300)
"""Ends of upright lines: beyond the cell, which clips them, so that they make one line down the column."""
_CUT = 4.0
"""An interval end this many times farther out than the median one is cut: it must not squeeze the rest."""


@dataclass(frozen=True)
class Scale:
    """One horizontal scale for all intervals of a column."""

    low: float
    """Left end."""
    high: float
    """Right end."""
    zero: float = 0.0
    """Where nothing differs."""
    mark: float | None = None
    """A bound, drawn dashed."""
    band: tuple[float, float] | None = None
    """What is noise, drawn behind."""
    log: bool = False
    """For ratios: twice as much is as far to the right as half as much is to the left."""

    @classmethod
    def around(cls, estimates: Iterable[Estimate | None], *, mark: float | None = None) -> Scale:
        """A scale for differences: holds zero, the bound and the intervals; far outliers run off its end."""
        ends = _ends(estimates)
        far = sorted(map(abs, ends))
        reach = _CUT * far[len(far) // 2] if far else 0.0
        kept = [0.0, *(min(max(end, -reach), reach) for end in ends), *([] if mark is None else [mark])]
        return cls(min(kept), max(kept), mark=mark)

    @classmethod
    def of_ratios(cls, estimates: Iterable[Estimate | None], *, band: tuple[float, float] | None = None) -> Scale:
        """A logarithmic scale for ratios around 1."""
        kept = [1.0, *(end for end in _ends(estimates) if end > 0), *(band or ())]
        return cls(min(kept), max(kept), 1.0, None, band, log=True)

    def place(self, value: float) -> float:
        """Pixels from the left; values beyond an end stand at the edge."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return WIDTH / 2 if high <= low else _EDGE + (WIDTH - 2 * _EDGE) * (at - low) / (high - low)


def _ends(estimates: Iterable[Estimate | None]) -> list[float]:
    return [e for x in estimates if x is not None for e in (x.low, x.high, x.value) if e is not None]


def forest(estimate: Estimate | None, scale: Scale) -> Markup:
    """A dot with its interval beside the line of no difference; an arrow where the interval is cut."""
    middle = HEIGHT / 2
    parts = []
    if scale.band is not None:
        left, right = map(scale.place, scale.band)
        tall = _LINE[1] - _LINE[0]
        parts.append(f'<rect x="{left:.1f}" y="{_LINE[0]}" width="{right - left:.1f}" height="{tall}" class="band"/>')
    parts.append(_upright(scale.place(scale.zero), "zero"))
    if scale.mark is not None:
        parts.append(_upright(scale.place(scale.mark), "bound"))
    if estimate is not None and estimate.value is not None:
        if estimate.low is not None and estimate.high is not None:
            low, high = scale.place(estimate.low), scale.place(estimate.high)
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" class="bar"/>')
            parts += _arrows(estimate.low, estimate.high, scale)
        if scale.low <= estimate.value <= scale.high:
            parts.append(f'<circle cx="{scale.place(estimate.value):.1f}" cy="{middle}" r="3.2" class="dot"/>')
    return _svg("forest", WIDTH, parts)


def ruler(scale: Scale, low: str, zero: str, high: str) -> Markup:
    """The scale of a column for its head: what its ends and its line stand for."""
    left, right = (low, high) if scale.high > scale.low else ("", "")
    at = scale.place(scale.zero)
    texts = [
        f'<text x="{x:.1f}" y="11" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in ((0, "start", left), (at, "middle", zero), (WIDTH, "end", right))
        if text and (text == zero or abs(x - at) > 36)
    ]
    return _svg("forest ruler", WIDTH, texts)


def stack(parts: Sequence[tuple[str, float]]) -> Markup:
    """Parts of a whole side by side over the full width."""
    whole = sum(value for _, value in parts)
    drawn, left = [], 0.0
    for name, value in parts:
        width = WIDTH * value / whole if whole > 0 else 0.0
        drawn.append(f'<rect x="{left:.1f}" y="3" width="{width:.1f}" height="10" class="part-{name}"/>')
        left += width
    return _svg("stack", WIDTH, drawn)


def _arrows(low: float, high: float, scale: Scale) -> list[str]:
    """Heads where the interval goes on beyond the scale."""
    tolerance, middle = 1e-9 + 1e-6 * (scale.high - scale.low), HEIGHT / 2
    heads = []
    if low < scale.low - tolerance:
        heads.append(f'<path d="M7 {middle - 3.5}L2 {middle}L7 {middle + 3.5}" class="arrow"/>')
    if high > scale.high + tolerance:
        edge = WIDTH - 7
        heads.append(f'<path d="M{edge} {middle - 3.5}L{edge + 5} {middle}L{edge} {middle + 3.5}" class="arrow"/>')
    return heads


def _upright(x: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{_LINE[0]}" x2="{x:.1f}" y2="{_LINE[1]}" class="{kind}"/>'


def _svg(kind: str, width: int, parts: Sequence[str]) -> Markup:
    # Made of numbers and of our own words only.
    return Markup(  # noqa: S704
        f'<svg class="{kind}" viewBox="0 0 {width} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'
    )
