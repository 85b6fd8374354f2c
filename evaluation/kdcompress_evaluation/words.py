"""Numbers as people read them; one place, so that HTML, Markdown and the headline agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation.decoding import BUNDLE
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress_evaluation.bootstrap import Estimate

MISSING = "–"
_MINUS = "\u2212"


def percent(value: float | None, digits: int = 2) -> str:
    """``0.0712`` as ``7.12``."""
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def points(value: float | None, digits: int = 2) -> str:
    """``0.004`` as ``+0.40``, with a real minus sign."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.{digits}f}"
    if float(text) == 0:
        return f"{0:.{digits}f}"
    return text.replace("-", _MINUS)


def interval(estimate: Estimate, digits: int = 2) -> str:
    """``6.20 to 8.10`` in percent."""
    if estimate.low is None or estimate.high is None:
        return MISSING
    return f"{percent(estimate.low, digits)} to {percent(estimate.high, digits)}"


def points_interval(estimate: Estimate, digits: int = 2) -> str:
    """``−0.20 to +0.40``."""
    if estimate.low is None or estimate.high is None:
        return MISSING
    return f"{points(estimate.low, digits)} to {points(estimate.high, digits)}"


def megabytes(count: float | None, digits: int = 2) -> str:
    """Bytes as ``0.95`` (of 10^6)."""
    return MISSING if count is None else f"{count / 1e6:.{digits}f}"


def times(value: float | None) -> str:
    """A ratio as ``3.1``."""
    if value is None:
        return MISSING
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def share(value: float) -> str:
    """A size ratio in plain words: ``0.27`` as ``27 %``."""
    return f"{100 * value:.0f} %"


def milliseconds(value: float | None) -> str:
    """Three significant digits or so, always two decimals, so that columns align."""
    return MISSING if value is None else f"{value:.2f}"


def chunk_time(value: float | None, *, streaming: bool) -> str:
    """Time of a chunk, or why there is none."""
    return milliseconds(value) if streaming else "not streaming"


def rate(value: float | None) -> str:
    """Things a second: ``1,240``, ``86``, ``7.4``."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with fixed decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def millions(count: int | None) -> str:
    """Parameters as ``1.53``."""
    return MISSING if count is None else f"{count / 1e6:.2f}"


def plural(count: int, noun: str) -> str:
    """``1 word``, ``2 words``, ``12,345 words``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def decoder(options: Mapping[str, object]) -> str:
    """``greedy``, or the options of a search that has some."""
    kind = str(options.get("kind", ""))
    if kind == BUNDLE:
        return "each bundle's own"
    hidden = {"kind", *(() if options.get("blank_penalty") else ("blank_penalty",))}
    if kind == "greedy":
        hidden |= set(options) - {"blank_penalty"}
    shown = [f"{name.replace('_', ' ')} {value}" for name, value in options.items() if name not in hidden]
    return ", ".join([kind, *shown])


def p_value(value: float | None) -> str:
    """``0.012``, ``< 0.001``."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def bytes_or_missing(count: float | None, digits: int = 2) -> str:
    """Megabytes; nothing known (0 or ``None``) is missing, not nothing."""
    return megabytes(count or None, digits)


def count(value: int) -> str:
    """``12,345``."""
    return f"{value:,}"


def bound(text: str) -> str:
    """``dwer<=0.5`` as ``dwer ≤ 0.5``."""
    return text.replace("<=", " ≤ ").replace(">=", " ≥ ")


def ratio(value: float, baseline: float) -> str:
    """Of two costs, before the second one: ``9 % of``, ``the same as``, ``1.40 times``."""
    quotient = value / baseline
    if 0.995 <= quotient <= 1.005:
        return "the same as"
    if quotient < 1:
        return f"{100 * quotient:.0f} % of" if quotient >= 0.01 else f"{100 * quotient:.1f} % of"
    return f"{quotient:.2f} times" if quotient < 2 else f"{times(quotient)} times"


def times_interval(estimate: Estimate, digits: int = 2) -> str:
    """Of ratios: ``0.97 to 1.03``."""
    if estimate.low is None or estimate.high is None:
        return MISSING
    return f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"


def duration(seconds: float) -> str:
    """``45 s``, ``12.3 min``, ``4.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def day(created: str) -> str:
    """``2026-11-20`` of an ISO 8601 time."""
    return created[:10]


def utterance_errors(errors: float, task: str) -> str:
    """Errors of one utterance; its score where the task counts none: 1 - chrF comes back as chrF."""
    return f"{errors:g}" if TASKS[task].counted else percent(1 - errors, 1)


def error_unit(length: int, task: str) -> str:
    """What stands behind ``utterance_errors``: ``of 7 words wrong``, ``of 12 characters wrong``, ``chrF``."""
    counted = TASKS[task].counted
    return f"of {plural(length, counted.removesuffix('s'))} wrong" if counted else "chrF"
