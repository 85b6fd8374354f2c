"""A report of several tasks: models of one task are compared with each other, and with nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.answer import answer
from kdcompress_evaluation.pareto import is_paced, latency
from kdcompress_evaluation.records import dumps

# The JSON reader resolves these annotations when it runs, so they are imported for real.
from kdcompress_evaluation.summary import SCHEMA, BrokenVariant, Summary
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_evaluation.answer import Answer


@dataclass(frozen=True)
class Report:
    """The content of ``report.json`` where several tasks were evaluated in one call."""

    headline: str
    """The answer of each task, one after the other."""
    tasks: tuple[Summary, ...]
    """Each as in a report of its own, with its own baseline, verdict and choice."""
    schema: int = SCHEMA
    """Version of this format."""

    @classmethod
    def of(cls, summary: Summary) -> Report:
        """A report of one task."""
        return cls(summary.headline, (summary,))

    @property
    def broken(self) -> tuple[BrokenVariant, ...]:
        """Variants of any task that could not be evaluated, or gave up half way."""
        return tuple(one for summary in self.tasks for one in summary.broken)

    def dumps(self) -> str:
        """Return the content of ``report.json``."""
        return dumps(self)

    def task(self, name: str) -> Summary:
        """Return the summary of one task."""
        return next(one for one in self.tasks if one.run.task == name)


@dataclass(frozen=True)
class Line:
    """One task in the table at the top: figures as they are written."""

    name: str
    """Of the variant that ships, or is nearest to it, or is the best trade-off."""
    ships: bool
    """Whether it holds the budget."""
    verdict: str
    """In a few words; empty without a budget."""
    metric: str
    """Of the first metric, with its unit."""
    value: str
    """Of that metric."""
    interval: str
    """Its 95 % interval."""
    difference: str
    """To the baseline, in points."""
    difference_interval: str
    """Its paired interval."""
    size: str
    """MB to ship."""
    speed: str
    """Real-time factor of audio; lines or sentences a second."""
    speed_unit: str
    """Which of them."""
    latency: str
    """95th percentile in ms: of a chunk, a line, a sentence."""
    memory: str
    """Peak resident MB."""
    cold: str
    """Cold start in ms."""


def collect(summaries: Sequence[Summary]) -> Report:
    """Put tasks together, in the order of ``TASKS``."""
    order = list(TASKS)
    ordered = sorted(summaries, key=lambda summary: order.index(summary.run.task))
    if len(ordered) == 1:
        return Report.of(ordered[0])
    told = " ".join(f"{TASKS[one.run.task].title}: {outcome(one)}" for one in ordered)
    return Report(f"{title_of(ordered)}. {told}", tuple(ordered))


def title_of(summaries: Sequence[Summary]) -> str:
    """What stands above a report of several tasks: how many of them ship, where that was asked."""
    judged = [one.verdict for one in summaries if one.verdict is not None]
    if not judged:
        return f"{len(summaries)} tasks, each decided by itself"
    ship = sum(verdict.ships is not None for verdict in judged)
    return f"{ship} of {words.plural(len(judged), 'task')} ready to ship, each decided by itself"


def line_of(summary: Summary, found: Answer | None = None) -> Line:
    """The figures of the variant that a task's report is about."""
    found = found or answer(summary)
    variant, primary, task = summary.variant(found.focus), summary.primary, TASKS[summary.run.task]
    estimate, change = variant.pooled.metrics[primary.name], variant.pooled.differences.get(primary.name)
    speed, memory, cold = variant.speed, variant.footprint.memory, variant.footprint.cold_start
    return Line(
        name=found.focus,
        ships=found.state == "ships",
        verdict={"ships": "holds the budget", "stops": "does not hold the budget"}.get(found.state, ""),
        metric=f"{primary.unit} {primary.short}".strip(),
        value=words.percent(estimate.value),
        interval=words.interval(estimate),
        difference="baseline" if change is None else words.points(change.estimate.value),
        difference_interval="" if change is None else words.points_interval(change.estimate),
        size=words.megabytes(variant.footprint.size_bytes),
        speed=words.MISSING
        if speed is None
        else words.number(speed.rtf_total, 4)
        if task.chunked
        else words.rate(speed.per_second),
        speed_unit="RTF" if task.chunked else f"{task.unit}s a second",
        latency=words.milliseconds(latency(variant, paced=is_paced(summary.variants))),
        memory=words.megabytes(None if memory is None else memory.peak, 0),
        cold=words.number(None if cold is None else cold.total, 0),
    )


def outcome(summary: Summary) -> str:
    """What came out of one task: the verdict of its budget, or its headline."""
    return summary.headline if summary.verdict is None else words.bound(summary.verdict.sentence)
