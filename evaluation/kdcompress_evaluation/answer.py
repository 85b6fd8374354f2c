"""The top of the page: which variant to ship, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.budget import FIGURES, parse_budget
from kdcompress_evaluation.pareto import is_paced, latency
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcompress_evaluation.summary import Overlap, Summary, VariantSummary, VariantVerdict, Verdict
    from kdcompress_evaluation.tasks import Task

SHARED, CLEAR, UNKNOWN = "shared", "clear", "unknown"


@dataclass(frozen=True)
class KeyFigure:
    """One of the few numbers under the answer."""

    name: str
    """What it is."""
    value: str
    """Of the variant that the page is about."""
    unit: str
    """Behind the value."""
    against: str
    """How it stands to the baseline, in words."""


@dataclass(frozen=True)
class _Cost:
    """A cost of the variant and of the baseline, and how it is written."""

    value: float | None
    baseline: float | None
    write: Callable[[float], str]
    unit: str


@dataclass(frozen=True)
class Demand:
    """One bound of the budget, met or not."""

    bound: str
    """As written, with real signs."""
    meaning: str
    """What is bounded."""
    state: str
    """``holds``, ``fails`` or ``unclear``."""
    found: str
    """What was found."""


@dataclass(frozen=True)
class Alert:
    """Something a reader must know before deciding."""

    bad: bool
    """Whether it can make the answer wrong."""
    text: str
    """In a sentence."""
    section: str
    """Id of the section with more."""


@dataclass(frozen=True)
class Answer:
    """What a reader sees first."""

    state: str
    """``ships``, ``stops``, or empty without a budget."""
    title: str
    """The answer."""
    lead: tuple[str, ...]
    """Why, in a few sentences; each a paragraph."""
    focus: str
    """Name of the variant that the page is about."""
    figures: tuple[KeyFigure, ...]
    """What it costs."""
    demands: tuple[Demand, ...]
    """The budget on it; empty without one."""
    alerts: tuple[Alert, ...]
    """The bad ones first."""


def answer(summary: Summary) -> Answer:
    """Put together what stands at the top."""
    focus = focus_of(summary)
    verdict = summary.verdict
    if verdict is None:
        state, title, lead = "", summary.headline, [summary.reason]
    elif verdict.ships is not None:
        state, title, lead = "ships", f"Ship {verdict.ships}", _why(summary, verdict)
    else:
        state, title, lead = "stops", "Do not ship", [_after("Do not ship", verdict.sentence)]
    return Answer(
        state=state,
        title=title,
        lead=tuple(filter(None, lead)),
        focus=focus,
        figures=tuple(_figures(summary, focus)),
        demands=() if verdict is None else demands(verdict, focus),
        alerts=tuple(sorted(_alerts(summary, focus), key=lambda alert: not alert.bad)),
    )


def focus_of(summary: Summary) -> str:
    """The variant that ships; when none does, the candidate nearest to it; without a budget, the best trade-off."""
    verdict = summary.verdict
    if verdict is None:
        return summary.chosen
    if verdict.ships is not None:
        return verdict.ships
    return verdict.nearest or summary.chosen


def demands(verdict: Verdict, name: str) -> tuple[Demand, ...]:
    """The budget on one variant."""
    checks = next(v.checks for v in verdict.variants if v.variant == name)
    bounds = parse_budget(verdict.budget)
    return tuple(
        Demand(words.bound(check.bound), FIGURES[bound.figure].meaning, check.state, check.found)
        for bound, check in zip(bounds, checks, strict=True)
    )


def standing(found: VariantVerdict, shipped: str | None) -> str:
    """How a variant stands to the budget, in a few words."""
    count = len(found.checks)
    failed = sum(check.state == "fails" for check in found.checks)
    if found.variant == shipped:
        return "ships"
    if not missed(found):
        return "would do" if found.ships else "holds"
    return f"fails {failed} of {count}" if failed else f"unclear {missed(found)} of {count}"


def overlap_state(overlap: Overlap) -> str:
    """``shared`` when test items were used to make the bundle, ``unknown`` when nobody could look."""
    if overlap.inputs or (overlap.evidence == "fingerprint" and overlap.inputs is None):
        return SHARED
    return UNKNOWN if overlap.evidence == "none" or overlap.inputs is None else CLEAR


def missed(found: VariantVerdict) -> int:
    """How many bounds are not shown to hold."""
    return sum(check.state != "holds" for check in found.checks)


def _why(summary: Summary, verdict: Verdict) -> list[str]:
    """What stands under ``Ship X``: the headline, when it is about the same variant."""
    others = sum(v.ships for v in verdict.variants) - 1
    demand = "the budget" if len(verdict.variants[0].checks) > 1 else "the bound"
    rank = f"It is the smallest of {others + 1} candidates that hold {demand}."
    if not others:
        rank = f"No other candidate holds {demand}." if sum(v.candidate for v in verdict.variants) > 1 else ""
    if verdict.ships == summary.chosen:
        return [summary.headline, rank]
    return [rank, f"Without a budget: {summary.headline}"]


def _after(start: str, sentence: str) -> str:
    """The rest of a sentence that begins as the title does."""
    rest = sentence.removeprefix(start)
    # What follows a colon is a sentence; what follows a space begins with a name, which stays as it is.
    return rest[2:3].upper() + rest[3:] if rest.startswith(": ") else rest.lstrip()


def _figures(summary: Summary, focus: str) -> Iterator[KeyFigure]:
    best, base = summary.variant(focus), summary.variant(summary.run.baseline)
    alone = best is base
    yield _metric_figure(summary, best, base)
    size = _Cost(best.footprint.size_bytes, base.footprint.size_bytes, words.megabytes, "MB")
    yield from _cost_figure("Size to ship", size, alone=alone)
    yield from _time_figure(summary, best, base)
    peaks = [None if v.footprint.memory is None else v.footprint.memory.peak for v in (best, base)]
    memory = _Cost(peaks[0], peaks[1], partial(words.megabytes, digits=0), "MB")
    yield from _cost_figure("Peak memory", memory, alone=alone)


def _metric_figure(summary: Summary, best: VariantSummary, base: VariantSummary) -> KeyFigure:
    primary = summary.primary
    estimate = best.pooled.metrics[primary.name]
    difference = best.pooled.differences.get(primary.name)
    name = primary.title[:1].upper() + primary.title[1:]
    if difference is None or difference.estimate.value is None:
        told = f"95 % interval {words.interval(estimate)}" if estimate.low is not None else ""
        return KeyFigure(name, words.percent(estimate.value), primary.unit, told)
    moved, theirs = difference.estimate, base.pooled.metrics[primary.name]
    told = f"{words.points(moved.value)} points against {words.percent(theirs.value)}{primary.unit and ' %'}"
    if moved.low is not None and moved.high is not None:
        noise = ": within noise" if moved.low <= 0 <= moved.high else ""
        told += f" ({words.points_interval(moved)}{noise})"
    return KeyFigure(name, words.percent(estimate.value), primary.unit, told)


def _time_figure(summary: Summary, best: VariantSummary, base: VariantSummary) -> Iterator[KeyFigure]:
    """Time of a chunk; of the answer after the end of the input where the variant does not stream."""
    paced, task = is_paced(summary.variants), TASKS[summary.run.task]
    name = f"{best.info.chunk_ms or 0:.0f} ms chunk{' in real time' if paced else ''}, p95"
    times = [latency(v, paced=paced) for v in (best, base)]
    if not task.chunked:
        yield from _rate_figure(task, best, base)
        return
    if times[0] is None:
        name = "From end to answer, p95"
        finals = [None if v.speed is None else v.speed.final for v in (best, base)]
        times = [None if final is None else final.p95 for final in finals]
    yield from _cost_figure(name, _Cost(times[0], times[1], words.milliseconds, "ms"), alone=best is base)


def _rate_figure(task: Task, best: VariantSummary, base: VariantSummary) -> Iterator[KeyFigure]:
    """Lines or sentences a second, one at a time on one thread."""
    if best.speed is None or not best.speed.per_second:
        return
    told = f"{words.milliseconds(1000 / best.speed.per_second)} ms each"
    if best is not base and base.speed is not None:
        times = best.speed.speedup.value if best.speed.speedup is not None else None
        told += f"; {words.times(times)}x the baseline's {words.rate(base.speed.per_second)}"
    yield KeyFigure(f"{task.unit.capitalize()}s a second", words.rate(best.speed.per_second), "", told)


def _cost_figure(name: str, cost: _Cost, *, alone: bool) -> Iterator[KeyFigure]:
    """``9 % of 13.72 MB``: the share that is left of the baseline's figure; nothing where nothing is known."""
    if not cost.value:
        return
    against = "baseline not known"
    if alone:
        against = "the baseline"
    elif cost.baseline:
        against = f"{words.ratio(cost.value, cost.baseline)} {cost.write(cost.baseline)} {cost.unit}"
    yield KeyFigure(name, cost.write(cost.value), cost.unit, against)


def _alerts(summary: Summary, focus: str) -> Iterator[Alert]:
    yield from _seen(summary, focus)
    if any(broken.name == focus for broken in summary.broken):
        yield Alert(bad=True, text=f"{focus} could not be evaluated to the end.", section="failures")
    others = [broken.name for broken in summary.broken if broken.name != focus]
    if others:
        text = f"{words.plural(len(others), 'variant')} could not be evaluated to the end: {', '.join(others)}."
        yield Alert(bad=False, text=text, section="failures")
    if summary.failure_count:
        verb = "counts" if summary.failure_count == 1 else "count"
        failed = f"{words.plural(summary.failure_count, TASKS[summary.run.task].unit)} failed and {verb} as errors."
        yield Alert(bad=False, text=failed, section="failures")


def _seen(summary: Summary, focus: str) -> Iterator[Alert]:
    """Bundles that were made with test items; worst when the answer rests on one."""
    weighty = {summary.variant(name).info.bundle_name for name in (focus, summary.run.baseline)}
    shared = [overlap for overlap in summary.overlaps if overlap_state(overlap) == SHARED]
    for bundle in dict.fromkeys(overlap.bundle for overlap in shared):
        sets = [_shared(overlap) for overlap in shared if overlap.bundle == bundle]
        text = f"{bundle} was made with test items: {'; '.join(sets)}. Its results there are too good."
        yield Alert(bad=bundle in weighty, text=text, section="identity")
    mine = {summary.variant(focus).info.bundle_name}
    unknown = [o for o in summary.overlaps if o.bundle in mine and overlap_state(o) == UNKNOWN]
    if unknown:
        sets = [f"{overlap.role} with {overlap.manifest}" for overlap in unknown]
        text = f"It could not be checked whether sets of {unknown[0].bundle} hold test items: {', '.join(sets)}."
        yield Alert(bad=False, text=text, section="identity")


def _shared(overlap: Overlap) -> str:
    many = "all" if overlap.inputs is None else f"{overlap.inputs:,}"
    return f"{many} of {overlap.manifest} in its {overlap.role} set"
