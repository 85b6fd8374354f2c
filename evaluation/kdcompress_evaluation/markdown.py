"""``report.md``: the answer at the size of a pull request, then everything else; for terminals and mails, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.answer import answer, standing
from kdcompress_evaluation.markdown_costs import footprint, speed, streaming, trade_offs
from kdcompress_evaluation.markdown_details import accuracy, budget, comparison, failures, slices, utterances
from kdcompress_evaluation.markdown_identity import identity, method
from kdcompress_evaluation.markdown_text import code, moved, rate, table, text
from kdcompress_evaluation.pareto import is_paced, latency
from kdcompress_evaluation.several import line_of, outcome, title_of
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress_evaluation.answer import Answer
    from kdcompress_evaluation.several import Report
    from kdcompress_evaluation.summary import Summary, VariantSummary

_SAYS = {"holds": "holds", "fails": "**fails**", "unclear": "**unclear**"}


def render_markdown(summary: Summary) -> str:
    """Return the report as Markdown: what decides comes before the first rule, details behind it."""
    found = answer(summary)
    parts = (
        _top(summary, found),
        _main_table(summary, found.focus),
        ("---", ""),
        budget(summary),
        comparison(summary),
        trade_offs(summary),
        accuracy(summary),
        streaming(summary),
        speed(summary),
        footprint(summary),
        slices(summary, found.focus),
        utterances(summary, found.focus),
        failures(summary),
        identity(summary),
        method(summary),
    )
    return "\n".join(line for part in parts for line in part).rstrip("\n") + "\n"


def render_markdown_of(report: Report) -> str:
    """Return the report of several tasks: a table of what came out of each, then each as it is alone."""
    head = (
        "task", "variant", "budget", "result (95 % interval)", "points to the baseline", "MB", "speed, one thread",
        "latency p95 ms", "peak MB", "cold start ms",
    )  # fmt: skip
    lines = [f"# {text(title_of(report.tasks))}", ""]
    lines += [f"- **{TASKS[one.run.task].title}.** {text(outcome(one))}" for one in report.tasks]
    lines += [""]
    lines += table(head, [_task_row(summary) for summary in report.tasks], left=3)
    lines += ["Models of different tasks are never compared with each other.", ""]
    alone = [f"---\n\n# {TASKS[one.run.task].title}\n\n{_deeper(render_markdown(one))}" for one in report.tasks]
    return "\n".join([*lines, *alone])


def _task_row(summary: Summary) -> list[str]:
    line, task = line_of(summary), TASKS[summary.run.task]
    return [
        task.title,
        text(line.name),
        line.verdict or "none",
        f"{line.value} {line.metric} ({line.interval})",
        f"{line.difference} ({line.difference_interval})" if line.difference_interval else line.difference,
        line.size,
        f"{line.speed} {line.speed_unit}",
        f"{line.latency} (a {task.step})",
        line.memory,
        line.cold,
    ]


def _deeper(content: str) -> str:
    """Every heading one level further down; a fenced command line has none of its own."""
    fenced, found = False, []
    for line in content.split("\n"):
        fenced ^= line.startswith("```")
        found.append(f"#{line}" if line.startswith("#") and not fenced else line)
    return "\n".join(found)


def _top(summary: Summary, found: Answer) -> Iterator[str]:
    yield f"# {text(found.title) if found.state else 'Evaluation report'}"
    yield ""
    if not found.state:
        yield f"**{text(found.title)}**"
        yield ""
    for paragraph in found.lead:
        yield text(words.bound(paragraph))
        yield ""
    if not any(summary.headline in told for told in (found.title, *found.lead)):
        yield text(f"Without a budget: {summary.headline}")
        yield ""
    for demand in found.demands:
        yield f"- {_SAYS[demand.state]}: {code(demand.bound)} ({text(demand.meaning)}), found {text(demand.found)}"
    if found.demands:
        yield ""
    for alert in found.alerts:
        yield f"- {'**Mind:** ' if alert.bad else ''}{text(alert.text)}"
    if found.alerts:
        yield ""


def _main_table(summary: Summary, focus: str) -> Iterator[str]:
    primary, baseline, task = summary.primary, summary.run.baseline, TASKS[summary.run.task]
    head = [
        "variant",
        f"{primary.short} {primary.unit} (95 % interval)".replace("  ", " "),
        f"points to {text(baseline)}",
        "p (Holm)",
        "MB",
        f"{'paced ' if is_paced(summary.variants) else ''}{task.step} p95 ms",
        *([] if task.chunked else [f"{task.unit}s a second"]),
        "peak MB",
    ]
    verdicts = {} if summary.verdict is None else {v.variant: v for v in summary.verdict.variants}
    rows = [_row(summary, variant, focus) for variant in summary.variants]
    if summary.verdict is not None:
        head.append("budget")
        for variant, row in zip(summary.variants, rows, strict=True):
            judged = verdicts[variant.info.name]
            row.append(standing(judged, summary.verdict.ships) if judged.candidate else "not asked")
    yield from table(head, rows)
    yield _size(summary)
    yield ""


def _row(summary: Summary, variant: VariantSummary, focus: str) -> list[str]:
    info, memory, task = variant.info, variant.footprint.memory, TASKS[summary.run.task]
    name = f"**{text(info.name)}**" if info.name == focus else text(info.name)
    difference = variant.pooled.differences.get(summary.primary.name)
    time = latency(variant, paced=is_paced(summary.variants))
    return [
        f"{name} (for comparison)" if info.anchor else name,
        rate(variant.pooled.metrics[summary.primary.name]),
        "baseline" if difference is None else moved(difference.estimate),
        "" if difference is None else words.p_value(difference.p_adjusted),
        words.megabytes(variant.footprint.size_bytes or None),
        words.chunk_time(time, streaming=info.streaming or variant.speed is None or time is not None),
        *([] if task.chunked else [words.rate(None if variant.speed is None else variant.speed.per_second)]),
        words.megabytes(None if memory is None else memory.peak, 0),
    ]


def _size(summary: Summary) -> str:
    """How much stands behind the table, in a few sentences."""
    run, pooled = summary.run, summary.variants[0].pooled
    names = ", ".join(f"{text(m.name)} ({m.utterances:,})" for m in run.manifests)
    audio = f", {words.duration(pooled.audio_seconds)} of audio" if pooled.audio_seconds else ""
    told = [f"{words.plural(pooled.utterances, TASKS[run.task].unit)}{audio}: {names}."]
    compared = sum(not v.anchor and v.name != run.baseline for v in run.variants)
    if len(run.variants) > 1:
        corrected = f"; p-values are corrected for {compared} comparisons" if compared > 1 else ""
        told.append(f"Differences are paired{corrected}.")
    return " ".join([*told, f"{words.day(run.created)}."])
