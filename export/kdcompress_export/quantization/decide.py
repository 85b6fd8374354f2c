"""Which candidate ships: float32 unless a smaller one is faster and not worse; among those, the cheapest.

A candidate is refused when it is slower than float32 (a long input or a chunk), chooses another label in more than a
tenth of the frames, or makes more errors: when the upper end of the paired 95 % interval lies above what is allowed. An
interval that reaches above it although nothing shows more errors says that the items are too few to tell; then
float32 stays, too. Without a dev manifest, agreement decides and the reason says so.

Among those left the cheapest wins: size ratio times time ratio. Within 5 % of it, which is the noise of timing,
the one whose log-probabilities differ least from float32: they tell more than a few errors, and choosing by errors
would pick the lucky one. All the same, several candidates are held against one dev manifest, and the interval is not
corrected for that.

With a budget every bound is a condition. Where float32 itself misses it, a slower candidate may win: then small is
what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_export.prove import FLOAT, MAX_WORSE_POINTS, MIN_AGREEMENT, Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_export.quantization.budget import Budget
    from kdcompress_export.quantization.rows import Row

TIMING_NOISE = 1.05
"""Costs that differ by less are equal."""


@dataclass(frozen=True)
class Rules:
    """What a candidate must hold."""

    allowed_points: float = MAX_WORSE_POINTS["words"]
    """Error rate, of words or characters as the input has it, that a smaller file may cost at the upper end of the
    paired 95 % interval."""
    min_agreement: float = MIN_AGREEMENT
    """Least share of frames with the same best label."""
    budget: Budget | None = None
    """Demands of the user; a bound ``wer<=+...`` or ``cer<=+...`` takes the place of ``allowed_points``."""


@dataclass(frozen=True)
class Objection:
    """A reason against a candidate."""

    kind: str
    """``made`` (there is no file), ``slow``, ``agreement``, ``errors``, ``few`` (items to tell), ``unmeasured``,
    ``budget``."""
    text: str
    """One clause with the numbers."""


def objections(row: Row, rules: Rules) -> tuple[Objection, ...]:
    """Everything that speaks against a candidate; empty when it may ship."""
    if row.refused:
        return (Objection("made", row.refused),)
    found: list[Objection] = []
    if row.precision != FLOAT:
        found += _against_float(row, rules)
    if rules.budget is not None and (missed := rules.budget.describe_misses(row.figures())):
        found.append(Objection("budget", f"misses {missed}"))
    return tuple(found)


def _against_float(row: Row, rules: Rules) -> list[Objection]:
    found = []
    if row.timed_ratios and min(row.timed_ratios) < 1.0:
        found.append(Objection("slow", f"is slower than float32 on this CPU ({ratios(row)})"))
    if row.agreement is not None and row.agreement.argmax_agreement < rules.min_agreement:
        same = f"{100 * row.agreement.argmax_agreement:.1f} % of the frames"
        found.append(Objection("agreement", f"and float32 choose the same label in only {same}"))
    bounded = rules.budget is not None and rules.budget.bounds_errors()
    if row.difference is not None and not bounded and row.difference.high > rules.allowed_points:
        worse = row.difference.low > 0 or row.difference.points > rules.allowed_points
        if worse:
            found.append(Objection("errors", f"makes more errors ({points(row)})"))
        else:
            few = f"{row.total} {row.difference.counted} are too few to tell whether it makes more errors"
            found.append(Objection("few", f"is not proven: {few} ({points(row)}, allowed {rules.allowed_points:+.2f})"))
    return found


def choose(rows: Sequence[Row], rules: Rules) -> tuple[Row | None, Choice]:
    """Return the row that ships and the choice for ``bundle.json``; None where a budget is met by none.

    Args:
        rows: float32 first; a candidate whose error rate was left out is never chosen where another's was measured.
        rules: see there.
    """
    baseline, *small = rows
    rates = baseline.rate is not None
    open_rows = [row for row in small if row.rate is not None or not rates]
    passed = [row for row in open_rows if not objections(row, rules)]
    if passed:
        best = cheapest(passed)
        return best, Choice(best.precision, _praise(best, rules))
    if rules.budget is not None and objections(baseline, rules):
        slow = [row for row in open_rows if {one.kind for one in objections(row, rules)} == {"slow"}]
        if not slow:
            return None, Choice(FLOAT, f"nothing meets the budget {rules.budget}")
        best = cheapest(slow)
        reason = f"{best.name} is the cheapest that meets {rules.budget}; float32 does not, although it is faster"
        return best, Choice(best.precision, f"{reason} ({ratios(best)})")
    return baseline, Choice(FLOAT, _blame(small, rules))


def runner_up(rows: Sequence[Row], rules: Rules) -> Row | None:
    """Return the smaller candidate that was nearest to winning; None where no file could be made."""
    made = [row for row in rows[1:] if not row.refused]
    return min(made, key=lambda row: (len(objections(row, rules)), row.cost)) if made else None


def cheapest(rows: Sequence[Row]) -> Row:
    """Least cost; within the noise of timing, least different from float32."""
    least = min(row.cost for row in rows)
    near = [row for row in rows if row.cost <= least * TIMING_NOISE]
    return min(near, key=_difference)


def _difference(row: Row) -> tuple[float, float, float]:
    errors = row.difference.points if row.difference else 0.0
    nats = row.agreement.mean_abs_diff if row.agreement else 0.0
    return nats, errors, row.cost


def _praise(row: Row, rules: Rules) -> str:
    gain = f"{row.name} ({row.precision}) is faster ({ratios(row)}), {row.size_ratio:.2f}x the size"
    demand = f" and meets {rules.budget}" if rules.budget is not None else ""
    if row.difference is None:
        return f"{gain}{demand}; error rates were not compared: no dev manifest was given"
    return f"{gain}{demand} and not worse ({points(row)})"


def _blame(rows: Sequence[Row], rules: Rules) -> str:
    """Why float32 stays: what speaks against the candidate that was nearest to winning."""
    if not rows:
        return "nothing smaller was asked for"
    best = runner_up([rows[0], *rows], rules)
    if best is None:
        return f"no smaller file could be made ({rows[0].name}: {rows[0].refused})"
    against = " and ".join(one.text for one in objections(best, rules)) or "was not compared with float32"
    others = sum(not row.refused for row in rows) - 1
    return f"{best.precision} ({best.name}) {against}" + (f"; {others} more were no better" if others else "")


def ratios(row: Row) -> str:
    """Speed in words."""
    named = ((row.whole_ratio, row.long), (row.chunk_ratio, "a chunk"))
    return ", ".join(f"{ratio:.2f}x on {what}" for ratio, what in named if ratio is not None) or "speed not measured"


def points(row: Row) -> str:
    """Difference of error rates in words."""
    return "errors not compared" if row.difference is None else row.difference.sentence
