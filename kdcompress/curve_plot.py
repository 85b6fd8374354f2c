"""The curves of a run and its twin as one SVG file. Needs matplotlib, which the extra ``eval`` brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kdcompress.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from kdcompress.time_to_quality import Point, TimeToQuality

RUN, TWIN, TARGET = "#0b6e99", "#8a8f98", "#b3541e"
_STYLE: Any = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "kdcompress", "font.size": 11}


def draw_curves(found: TimeToQuality, path: Path) -> None:
    """Draw dev CTC by updates and by seconds to ``path``, an SVG; the same input gives the same file."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _draw(left, found, "updates")
        _draw(right, found, "seconds")
        left.set_ylabel("dev CTC, nats a frame")
        losses = [point.dev_ctc for point in (*found.curve, *found.twin_curve)]
        if 0 < 5 * min(losses) < max(losses):
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_minor_formatter(NullFormatter())
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.legend(frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Title": found.sentence})


def _draw(axes: Axes, found: TimeToQuality, axis: str) -> None:
    def plot(points: tuple[Point, ...], **style: Any) -> None:  # noqa: ANN401 (matplotlib's own)
        axes.plot([getattr(point, axis) for point in points], [point.dev_ctc for point in points], **style)

    plot(found.twin_curve, color=TWIN, marker="o", markersize=4, label=found.twin_name)
    plot(found.curve, color=RUN, marker="o", markersize=4, label=found.name)
    axes.axhline(found.target, color=TARGET, linewidth=1, linestyle="--", label=f"final of {found.twin_name}")
    if found.reached:
        plot((found.reached,), color=TARGET, marker="D", linestyle="none")
    axes.set_xlabel(axis)
    axes.set_xlim(0, 1.05 * max(getattr(point, axis) for point in (*found.curve, *found.twin_curve)) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, linewidth=0.4)
