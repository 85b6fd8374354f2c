"""The answer in one sentence: which variant, and what it costs against the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_evaluation.pareto import cost_of, rise, size_of
from kdcompress_evaluation.tasks import TASKS
from kdcompress_evaluation.words import megabytes, percent, plural, points, points_interval, share, times

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.metrics import MetricInfo
    from kdcompress_evaluation.summary import RunInfo, VariantSummary, Verdict

_SAME_SIZE = 1.1
"""Systems within this ratio count as equally big."""


@dataclass(frozen=True)
class Choice:
    """The variant that the headline is about."""

    variant: VariantSummary
    """The best trade-off."""
    baseline: VariantSummary
    """What it is compared with."""
    shown: bool
    """Whether the data show that it stays within the tolerance."""


@dataclass(frozen=True)
class Headline:
    """The answer."""

    sentence: str
    """In plain words."""
    reason: str
    """How it stands against its neighbours; may be empty."""


_AS_FAST = 1.05
"""A ratio of speeds up to this is no news."""


def choose(
    run: RunInfo,
    info: MetricInfo,
    variants: Sequence[VariantSummary],
    broken: Collection[str] = (),
    verdict: Verdict | None = None,
) -> Choice:
    """Pick the best trade-off among the variants that may ship.

    What the verdict ships. Else, among the variants smaller than the baseline whose paired interval ends below
    ``run.tolerance``: the smallest, and among those within 10 % of its size the lowest cost. Where smaller ones exist
    but none is shown to stay within, the one with the least rise, as not shown. Where none is smaller, the lowest cost
    among those of the baseline's size. Anchors and variants that gave up half way are never chosen, unless there is
    nothing else.
    """
    baseline = next(v for v in variants if v.info.name == run.baseline)
    may = [v for v in variants if _may(run, v) and v.info.name not in broken]
    if verdict is not None and verdict.ships is not None:
        return Choice(next(v for v in variants if v.info.name == verdict.ships), baseline, shown=True)
    if baseline.info.name in broken:
        whole = may or [v for v in variants if v.info.name not in broken] or [baseline]
        return Choice(min(whole, key=lambda v: _rank(info, v)), baseline, shown=False)
    smaller = [v for v in may if _smaller(v, baseline)]
    within = [v for v in smaller if _end(info, v) <= run.tolerance]
    if smaller and not within:
        return Choice(min(smaller, key=lambda v: (_rise(info, v), size_of(v))), baseline, shown=False)
    pool = within or [v for v in may if v is baseline or (_end(info, v) <= run.tolerance and _same_size(v, baseline))]
    if not pool:
        # An anchor is the baseline, and nothing that may ship is smaller or shown to be as good.
        others = [v for v in may if v is not baseline] or [baseline]
        return Choice(min(others, key=lambda v: _rank(info, v)), baseline, shown=others == [baseline])
    smallest = min(size_of(v) for v in pool)
    same = [v for v in pool if size_of(v) <= smallest * _SAME_SIZE]
    return Choice(min(same, key=lambda v: _rank(info, v)), baseline, shown=True)


def rival_of(
    choice: Choice, info: MetricInfo, variants: Sequence[VariantSummary], broken: Collection[str]
) -> str | None:
    """The variant closest in cost among those of about the chosen one's size."""
    own = choice.variant
    cost = cost_of(info, own)
    same = [
        (abs(cost_of(info, v) - cost), v.info.name)
        for v in variants
        if v is not own and v.info.name not in broken and cost_of(info, v) < _INFINITE and _same_size(v, own)
    ]
    return min(same)[1] if same and cost < _INFINITE else None


def write_headline(
    run: RunInfo,
    info: MetricInfo,
    variants: Sequence[VariantSummary],
    choice: Choice,
    *,
    rival: tuple[str, Estimate] | None = None,
    broken: Collection[str] = (),
    verdict: Verdict | None = None,
) -> Headline:
    """Write the sentence.

    Args:
        run: what was asked for.
        info: the metric that decides.
        variants: all of the report.
        choice: what ``choose`` picked.
        rival: another variant of about the chosen one's size, and the chosen one's paired difference to it.
        broken: names of variants that gave up half way.
        verdict: on the budget.
    """
    best, baseline = choice.variant, choice.baseline
    if best.pooled.metrics[info.name].value is None:
        return Headline(
            f"No {info.title}: the references hold no words ({plural(best.pooled.utterances, TASKS[run.task].unit)}).",
            "",
        )
    if baseline.info.name in broken:
        return Headline(_without_baseline(info, best, baseline), "")
    if len(variants) == 1:
        return Headline(_alone(info, best), "")
    sentence = _sentence(run, info, choice, verdict)
    rest = [v for v in variants if v.info.name not in broken]
    reason = " ".join(filter(None, [_against_rival(info, best, rival), _lowest(info, choice, rest)]))
    return Headline(sentence, reason)


def _sentence(run: RunInfo, info: MetricInfo, choice: Choice, verdict: Verdict | None) -> str:
    best, baseline = choice.variant, choice.baseline
    name = best.info.name
    if verdict is not None and verdict.ships == name:
        kept = "holds the budget" if best is baseline else "is the smallest that holds the budget"
        return f"{name} {kept}: {_told(info, best, baseline)}."
    if best is baseline:
        return (
            f"The baseline {name} is the best trade-off: no smaller system is in the comparison; it has "
            f"{_value(info, best)} at {_megabytes(best)}."
        )
    if choice.shown:
        return f"{name} is the best trade-off: {_told(info, best, baseline)}."
    nothing = (
        f"No smaller system is shown to stay within {points(run.tolerance, 1)} points of {baseline.info.name}"
        if _smaller(best, baseline)
        else f"No system that may ship is smaller than {baseline.info.name}, or shown to be as good"
    )
    return f"{nothing}; the closest is {name}: {_told(info, best, baseline)}."


def _told(info: MetricInfo, best: VariantSummary, baseline: VariantSummary) -> str:
    if best is baseline:
        return f"{_value(info, best)} at {_megabytes(best)}"
    return f"{_gain(best, baseline)} {_cost(info, best)}"


def _without_baseline(info: MetricInfo, best: VariantSummary, baseline: VariantSummary) -> str:
    lost = f"The baseline {baseline.info.name} could not be evaluated to the end, so nothing can be compared with it"
    if best is baseline:
        return f"{lost}, and no other system was."
    return f"{lost}; of the others, {best.info.name} is the best with {_value(info, best)} at {_megabytes(best)}."


def _alone(info: MetricInfo, best: VariantSummary) -> str:
    estimate, words = best.pooled.metrics[info.name], best.pooled.words
    text = f"{best.info.name} has {_value(info, best)}"
    if not words.errors and words.reference:
        text = f"{best.info.name} made no error in {plural(words.reference, 'word')}"
    elif estimate.low is not None:
        text += f" (95 % interval {percent(estimate.low)} to {percent(estimate.high)})"
    text += f" at {_megabytes(best)}"
    chunk = None if best.speed is None else best.speed.paced or best.speed.chunk
    if chunk is not None and best.info.chunk_ms is not None:
        text += f" and computes a {best.info.chunk_ms:.0f} ms chunk in {chunk.p95:.1f} ms (p95)"
    return text + "; there is nothing to compare it with."


def _gain(best: VariantSummary, baseline: VariantSummary) -> str:
    size = size_of(best) / size_of(baseline)
    if not 0 < size < _INFINITE:
        about = "of unknown size against"
    elif _same_size(best, baseline):
        about = "about the size of"
    else:
        about = f"{share(size)} of the size of" if size < 1 else f"{times(size)}x the size of"
    name = baseline.info.name
    faster = None if best.speed is None or best.speed.speedup is None else best.speed.speedup
    if faster is None or faster.value is None:
        return f"{about} {name},"
    within = faster.low is not None and faster.high is not None and faster.low <= 1 <= faster.high
    if within or 1 / _AS_FAST < faster.value < _AS_FAST:
        return f"{about} {name} and as fast,"
    speed = f"{times(faster.value)}x as fast" if faster.value > 1 else f"{times(1 / faster.value)}x slower"
    return f"{about} {name} and {speed},"


def _cost(info: MetricInfo, best: VariantSummary) -> str:
    """The difference in words: less, more, or not to be told from noise."""
    change = best.pooled.differences.get(info.name)
    if change is None or change.estimate.value is None:
        return f"with no {info.title} to compare"
    estimate = change.estimate
    value, low, high = rise(info, estimate)
    if low is None or high is None:
        return f"at {points(estimate.value)} points of {info.short}, with too little data for an interval"
    numbers = f"{points(estimate.value)} points (95 % interval {points_interval(estimate)})"
    if low > 0:
        return f"for a {'higher' if info.lower_is_better else 'lower'} {_title(info)}: {numbers}"
    if high < 0:
        return f"with a {'lower' if info.lower_is_better else 'higher'} {_title(info)}: {numbers}"
    if value == low == high == 0:
        return f"and the same {_title(info)}"
    return f"and the difference in {_title(info)} is within noise: {numbers}"


def _lowest(info: MetricInfo, choice: Choice, variants: Sequence[VariantSummary]) -> str:
    """Which variant is the most accurate, when that is one of another size and not compared already."""
    first = min(variants, key=lambda v: _rank(info, v))
    best = choice.variant
    if first in (best, choice.baseline) or _same_size(first, best):
        return ""
    size = size_of(first) / size_of(best)
    at = f"at {times(size)}x the size" if 0 < size < _INFINITE else "of unknown size"
    anchor = ", an anchor," if first.info.anchor else ""
    return f"The best {info.short} is {_number(info, first)}, by {first.info.name}{anchor} {at}."


def _against_rival(info: MetricInfo, best: VariantSummary, rival: tuple[str, Estimate] | None) -> str:
    """How it stands against the nearest other variant of its size."""
    if rival is None:
        return ""
    name, lead = rival
    _, low, high = rise(info, lead)
    if low is None or high is None:
        return ""
    numbers = f"{points(lead.value)} points ({points_interval(lead)})"
    if low <= 0 <= high:
        return f"Against {name}, of the same size, {best.info.name} differs by {numbers}: within noise."
    return f"Against {name}, of the same size, it is {'better' if high < 0 else 'worse'}: {numbers}."


_INFINITE = float("inf")


def _may(run: RunInfo, variant: VariantSummary) -> bool:
    """Whether a variant may be chosen: the baseline and the candidates, no anchors."""
    name = variant.info.name
    return not variant.info.anchor and (not run.candidates or name in run.candidates or name == run.baseline)


def _smaller(one: VariantSummary, other: VariantSummary) -> bool:
    return size_of(one) * _SAME_SIZE < size_of(other)


def _same_size(one: VariantSummary, other: VariantSummary) -> bool:
    return size_of(one) < _INFINITE and 1 / _SAME_SIZE <= size_of(one) / size_of(other) <= _SAME_SIZE


def _end(info: MetricInfo, variant: VariantSummary) -> float:
    """Upper end of the rise in cost; infinite where there is none."""
    change = variant.pooled.differences.get(info.name)
    high = None if change is None else rise(info, change.estimate)[2]
    return _INFINITE if high is None else high


def _rise(info: MetricInfo, variant: VariantSummary) -> float:
    change = variant.pooled.differences.get(info.name)
    value = None if change is None else rise(info, change.estimate)[0]
    return _INFINITE if value is None else value


def _rank(info: MetricInfo, variant: VariantSummary) -> tuple[float, float]:
    """The most accurate first, then the smaller."""
    return (cost_of(info, variant), size_of(variant))


def _number(info: MetricInfo, variant: VariantSummary) -> str:
    number = percent(variant.pooled.metrics[info.name].value)
    return f"{number} {info.unit}" if info.unit else number


def _value(info: MetricInfo, variant: VariantSummary) -> str:
    """``a word error rate of 7.12 %``."""
    if info.name == "ser":
        return f"{_number(info, variant)} of {info.title}"
    return f"a {_title(info)} of {_number(info, variant)}"


def _title(info: MetricInfo) -> str:
    return "share of " + info.title if info.name == "ser" else info.title


def _megabytes(variant: VariantSummary) -> str:
    size = variant.footprint.size_bytes
    return "unknown size" if size is None else f"{megabytes(size)} MB"
