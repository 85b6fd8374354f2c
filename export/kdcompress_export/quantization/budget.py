"""``size<=3MB,wer<=+0.3,p95<=2ms``: what a user demands of a file, and by how much a candidate misses it."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdcompress_export.errors import BudgetSyntaxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Figure = Literal[
    "size", "size_ratio", "wer", "wer_high", "cer", "cer_high", "p50", "p95", "speed", "chunk_speed", "agreement"
]

_BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_MILLISECONDS = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3}
_SHARE = {"": 1.0, "%": 0.01}
_POINTS = {"": 1.0, "%": 1.0}
_TIMES = {"": 1.0, "x": 1.0}
_NAMES: Mapping[str, tuple[str, Mapping[str, float], str]] = {
    "size": ("<=", {**_BYTES, "x": math.nan}, "3MB, 800KB, 2.5MiB or 0.27x"),
    "wer": ("<=", _POINTS, "12.5 or +0.3"),
    "cer": ("<=", _POINTS, "2.5 or +0.2"),
    "p50": ("<=", _MILLISECONDS, "1.5ms"),
    "p95": ("<=", _MILLISECONDS, "2ms"),
    "speed": (">=", _TIMES, "2x"),
    "chunk_speed": (">=", _TIMES, "2x"),
    "agreement": (">=", _SHARE, "0.95 or 95%"),
}
_BOUND = re.compile(r"\s*(?P<name>[A-Za-z_0-9]+)\s*(?P<operator>[<>=]+)\s*(?P<value>[^,]*)")
_VALUE = re.compile(r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z%]*)")
_RELATIVE_TO_FLOAT: Mapping[str, Figure] = {"wer": "wer_high", "cer": "cer_high"}


@dataclass(frozen=True)
class Bound:
    """One demand."""

    text: str
    """As it was written."""
    figure: Figure
    """What is bounded. ``wer_high`` and ``cer_high`` are the upper end of the paired 95 % interval against float32, in
    points: of words or of characters, as the input has it (``Inputs.counted``); the other is not measured."""
    most: bool
    """Whether the value is the most that is allowed, or the least."""
    value: float
    """In bytes, points, milliseconds, times float32, or as a share."""

    def miss(self, figures: Mapping[str, float | None]) -> float | None:
        """By how much it is missed, as a share of the bound (of one point for error rates); None when met.

        Infinite where the figure was not measured.
        """
        found = figures.get(self.figure)
        if found is None:
            return math.inf
        over = found - self.value if self.most else self.value - found
        scale = 1.0 if self.figure.startswith(("wer", "cer")) else max(abs(self.value), 1e-9)
        return over / scale if over > 0 else None

    def describe(self, figures: Mapping[str, float | None]) -> str:
        """Return one clause: the bound and what was found."""
        found = figures.get(self.figure)
        return f"{self.text} (not measured)" if found is None else f"{self.text} (found {_FORMATS[self.figure](found)})"


@dataclass(frozen=True)
class Budget:
    """Demands that must all be met."""

    bounds: tuple[Bound, ...]
    """In the order they were written."""

    def misses(self, figures: Mapping[str, float | None]) -> dict[str, float]:
        """By how much each missed bound is missed, by its text; empty when all are met."""
        found = {bound.text: bound.miss(figures) for bound in self.bounds}
        return {text: miss for text, miss in found.items() if miss is not None}

    def describe_misses(self, figures: Mapping[str, float | None]) -> str:
        """Return the missed bounds in words."""
        return ", ".join(bound.describe(figures) for bound in self.bounds if bound.miss(figures) is not None)

    def bounds_errors(self) -> bool:
        """Whether a bound speaks of errors made beyond those of float32."""
        return any(bound.figure in _RELATIVE_TO_FLOAT.values() for bound in self.bounds)

    def __str__(self) -> str:
        return ",".join(bound.text for bound in self.bounds)


def parse_budget(text: str) -> Budget:
    """Read a budget: bounds separated by commas, each a name, ``<=`` or ``>=``, and a value with its unit.

    ``size``: bytes (``B``, ``KB``, ``MB``, ``KiB``, ``MiB``) or times float32 (``0.27x``). ``wer``: word error rate on
    the dev manifest (``<=12.5``), or, with a sign, the upper end of the paired 95 % interval against float32 in points
    (``<=+0.3``; of words where the input is speech or sentences). ``cer``: the same of characters (relative where it
    is images). ``p50``, ``p95``: milliseconds of one streaming chunk, one thread. ``speed``, ``chunk_speed``: times
    float32 over a long input and over a chunk. ``agreement``: share of frames with the label of float32.

    Raises:
        BudgetSyntaxError: with the position of what cannot be read, and what is known.
    """
    bounds: list[Bound] = []
    start = 0
    for part in text.split(","):
        bounds.append(_parse_bound(text, part, start))
        start += len(part) + 1
    names = [bound.figure for bound in bounds]
    twice = next((bound for index, bound in enumerate(bounds) if bound.figure in names[:index]), None)
    if twice is not None:
        raise _error(text, text.rindex(twice.text), f"{twice.text!r} bounds what was bounded before")
    return Budget(tuple(bounds))


def nearest(budget: Budget, candidates: Sequence[Mapping[str, float | None]]) -> int | None:
    """Index of the candidate whose misses add up to the least; None when there are none."""
    if not candidates:
        return None
    totals = [sum(budget.misses(figures).values()) for figures in candidates]
    return totals.index(min(totals))


def _parse_bound(text: str, part: str, start: int) -> Bound:
    found = _BOUND.fullmatch(part)
    if found is None:
        raise _error(text, start, "expected a bound such as size<=3MB")
    name, operator = found["name"].lower(), found["operator"]
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _error(text, start + found.start("name"), f"unknown name {found['name']!r}{hint}")
    expected, units, example = _NAMES[name]
    if operator != expected:
        raise _error(text, start + found.start("operator"), f"{name} is bounded by {expected}, not {operator}")
    position = start + found.start("value")
    value = _VALUE.fullmatch(found["value"].strip())
    if value is None:
        raise _error(text, position, f"{name} takes a value such as {example}; found {found['value'].strip()!r}")
    unit = value["unit"].lower()
    if unit not in units:
        raise _error(text, position + value.start("unit"), f"unknown unit {value['unit']!r}; {name} takes {example}")
    if value["sign"] and name not in _RELATIVE_TO_FLOAT:
        raise _error(text, position, f"{name} takes no sign; only wer and cer are relative to float32 with one")
    number = float(value["sign"] + value["number"])
    bound = part.strip().replace(" ", "")
    if name == "size" and unit == "x":
        return Bound(bound, "size_ratio", most=True, value=number)
    if value["sign"]:
        return Bound(bound, _RELATIVE_TO_FLOAT[name], most=True, value=number)
    figure: Figure = name  # type: ignore[assignment] # the names of the table are figures
    return Bound(bound, figure, most=expected == "<=", value=number * units[unit])


def _error(text: str, position: int, problem: str) -> BudgetSyntaxError:
    known = ", ".join(_NAMES)
    return BudgetSyntaxError(f"budget {text!r}, character {position + 1}: {problem}; known names are {known}")


_FORMATS = {
    "size": lambda value: f"{value / 1e6:.3g} MB" if value >= 1e6 else f"{value / 1e3:.3g} KB",
    "size_ratio": lambda value: f"{value:.3f}x",
    "wer": lambda value: f"{value:.2f} %",
    "wer_high": lambda value: f"{value:+.2f} points at the upper end",
    "cer": lambda value: f"{value:.2f} %",
    "cer_high": lambda value: f"{value:+.2f} points at the upper end",
    "p50": lambda value: f"{value:.2f} ms",
    "p95": lambda value: f"{value:.2f} ms",
    "speed": lambda value: f"{value:.2f}x",
    "chunk_speed": lambda value: f"{value:.2f}x",
    "agreement": lambda value: f"{100 * value:.1f} %",
}
