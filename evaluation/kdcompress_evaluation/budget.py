"""``size<=3MB,dwer<=0.5,p95<=20ms,rss<=150MB``: what a user demands of a variant before it ships."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_evaluation.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping

METRICS = ("wer", "cer", "ser", "chrf", "bleu", "exact", "copied")
"""Metrics that can be bounded, alone or, behind a ``d``, as the difference to the baseline."""
_BYTES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "bytes": _BYTES,
    "size": {**_BYTES, "x": math.nan},
    "milliseconds": {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3},
    "percent": {"": 0.01, "%": 0.01},
    "score": {"": 0.01},
    "points": {"": 0.01, "%": 0.01},
    "count": {"": 1.0},
    "large": {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9},
    "times": {"": 1.0, "x": 1.0},
}
"""Units by kind of figure, and what one is worth inside; ``nan``: times the baseline's."""
_BOUND = re.compile(r"\s*(?P<figure>[A-Za-z_0-9]+)\s*(?P<operator>[<>=]+)\s*(?P<value>[^,]*)")
_VALUE = re.compile(r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*(?P<unit>[A-Za-z%]*)")


@dataclass(frozen=True)
class Figure:
    """Something that can be bounded."""

    kind: str
    """Key of ``_UNITS``; also how it is written."""
    meaning: str
    """In words, for the documentation and for messages."""
    example: str
    """A value."""
    most: bool = True
    """Whether a bound says the most that is allowed (``<=``), or the least (``>=``)."""


def _rates() -> Mapping[str, Figure]:
    """The metrics and their differences: the cautious end of the interval counts."""
    titles = (
        "word error rate", "character error rate", "lines or utterances not exactly right", "chrF", "BLEU",
        "exact match", "output words that stand in the source",
    )  # fmt: skip
    found = {}
    for name, title in zip(METRICS, titles, strict=True):
        lower = name not in {"chrf", "bleu", "exact"}
        end, example = ("upper", "0.5") if lower else ("lower", "-0.5")
        found[name] = Figure(
            "score" if name in {"chrf", "bleu"} else "percent",
            f"{title}{'' if name in {'chrf', 'bleu'} else ', in percent'}: the {end} end of the 95 % interval",
            "12.5",
            most=lower,
        )
        found[f"d{name}"] = Figure(
            "points",
            f"{title} minus the baseline's, in points: the {end} end of the paired interval",
            example,
            most=lower,
        )
    return found


FIGURES: Mapping[str, Figure] = {
    "size": Figure("size", "bytes to ship, or times the baseline's", "3MB or 0.3x"),
    "zip": Figure("bytes", "bytes to ship, compressed", "2.5MB"),
    "lm": Figure("bytes", "bytes of the language model among them", "5MB"),
    "params": Figure("large", "parameters", "1.5M"),
    **_rates(),
    "dstream": Figure("points", "streaming minus whole recordings: the upper end of the paired interval", "0.3"),
    "not_worse": Figure("percent", "utterances not worse than the baseline's: the lower end", "95%", most=False),
    "p50": Figure("milliseconds", "computing a chunk, median", "10ms"),
    "p95": Figure("milliseconds", "computing a chunk, 95th percentile", "20ms"),
    "p99": Figure("milliseconds", "computing a chunk, 99th percentile", "30ms"),
    "max": Figure("milliseconds", "computing a chunk, the longest", "50ms"),
    "paced_p50": Figure("milliseconds", "computing a chunk that comes in real time, median", "10ms"),
    "paced_p95": Figure("milliseconds", "computing a chunk that comes in real time, 95th percentile", "20ms"),
    "paced_p99": Figure("milliseconds", "computing a chunk that comes in real time, 99th percentile", "30ms"),
    "final": Figure("milliseconds", "from the end of the input to the result, 95th percentile", "50ms"),
    "whole": Figure("milliseconds", "computing a whole line, sentence or recording, 95th percentile", "20ms"),
    "rate": Figure("count", "lines, sentences or recordings a second, one thread, one at a time", "100", most=False),
    "cold": Figure("milliseconds", "from the first import to the first token", "300ms"),
    "rtf": Figure("times", "computing time over audio time, one thread", "0.1"),
    "speed": Figure("times", "as fast as the baseline: the lower end of the interval", "2x", most=False),
    "macs": Figure("large", "multiply-accumulates for a second of audio, or for a line or sentence", "100M"),
    "rss": Figure("bytes", "peak resident memory of a process that streams", "150MB"),
    "steady": Figure("bytes", "resident memory after streaming for a while", "120MB"),
    "failures": Figure("count", "utterances that could not be recognised", "0"),
    "empty": Figure("count", "utterances with words for which nothing was recognised", "5"),
}
"""Everything that a budget may bound, by name."""
CHUNKED = frozenset({"p50", "p95", "p99", "max", "paced_p50", "paced_p95", "paced_p99", "rtf", "dstream"})
"""Figures of inputs that come in chunks against the clock: those of audio."""


@dataclass(frozen=True)
class Bound:
    """One demand."""

    text: str
    """As it was written."""
    figure: str
    """Key of ``FIGURES``."""
    value: float
    """In bytes, fractions, milliseconds, counts, or times."""
    relative: bool = False
    """Whether ``value`` is times the baseline's."""

    @property
    def most(self) -> bool:
        """Whether it is the most that is allowed."""
        return FIGURES[self.figure].most

    def met(self, value: float) -> bool:
        """Whether ``value`` is within."""
        return value <= self.value if self.most else value >= self.value


def parse_budget(text: str) -> tuple[Bound, ...]:
    """Read bounds separated by commas: a name, ``<=`` or ``>=``, and a value with its unit. Empty: no bound.

    Raises:
        BudgetError: what cannot be read, with what is known.
    """
    if not text.strip():
        return ()
    bounds = tuple(_parse_bound(text, part) for part in text.split(","))
    figures = [bound.figure for bound in bounds]
    for bound in bounds:
        if figures.count(bound.figure) > 1:
            raise BudgetError(f"budget {text!r}: {bound.figure} is bounded twice; keep the stricter bound")
    return bounds


def _parse_bound(text: str, part: str) -> Bound:
    found = _BOUND.fullmatch(part)
    if found is None:
        raise BudgetError(
            f"budget {text!r}: cannot read {part.strip()!r}; a bound is a name, <= or >=, and a value, "
            "as in size<=3MB,dwer<=0.5"
        )
    name, operator = found["figure"].lower(), found["operator"]
    if name not in FIGURES:
        near = difflib.get_close_matches(name, FIGURES, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIGURES)}"
        raise BudgetError(f"budget {text!r}: {found['figure']!r} cannot be bounded; {hint}")
    figure = FIGURES[name]
    wanted = "<=" if figure.most else ">="
    if operator != wanted:
        raise BudgetError(f"budget {text!r}: {name} ({figure.meaning}) is bounded by {wanted}, not {operator}")
    value = _VALUE.fullmatch(found["value"].strip())
    if value is None or value["unit"].lower() not in _UNITS[figure.kind]:
        raise BudgetError(
            f"budget {text!r}: cannot read {found['value'].strip()!r} as the value of {name}; write {figure.example}"
        )
    scale = _UNITS[figure.kind][value["unit"].lower()]
    relative = math.isnan(scale)
    return Bound(part.strip(), name, float(value["number"]) * (1.0 if relative else scale), relative)
