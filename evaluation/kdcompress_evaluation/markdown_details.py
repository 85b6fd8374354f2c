"""Sections of ``report.md`` about what is recognised: budget, comparison, accuracy, slices, utterances, failures."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.extremes import diff_of
from kdcompress_evaluation.markdown_text import code, diff, moved, rate, table, text
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.tasks import TASKS, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcompress_evaluation.summary import Accuracy, Comparison, Slice, Summary, VariantSummary, WorstUtterance
    from kdcompress_evaluation.tasks import Task

_SHOWN = 5
"""Utterances of a kind; the page has more."""


def budget(summary: Summary) -> Iterator[str]:
    """Every bound on every variant."""
    if summary.verdict is None:
        return
    verdict = summary.verdict
    yield "## Budget"
    yield ""
    yield text(words.bound(verdict.sentence))
    yield ""
    head = ["variant", *(code(check.bound) for check in verdict.variants[0].checks), "ships"]
    rows = [
        [
            text(judged.variant),
            *(f"{check.state}: {text(check.found)}" for check in judged.checks),
            ("yes" if judged.ships else "no") if judged.candidate else "not a candidate",
        ]
        for judged in verdict.variants
    ]
    yield from table(head, rows, left=len(head))


def _unit(summary: Summary) -> str:
    """What one input is called: an utterance, a line, a sentence."""
    return TASKS[summary.run.task].unit


def comparison(summary: Summary) -> Iterator[str]:
    """Paired differences with p-values, and what changed utterance by utterance."""
    compared = [v for v in summary.variants if v.pooled.differences]
    if not compared:
        return
    yield f"## Comparison with {text(summary.run.baseline)}"
    yield ""
    head = ("variant", "metric", "value (95 % interval)", "difference in points (95 % interval)", "p", "p (Holm)")
    yield from table(head, [row for variant in compared for row in _differences(summary, variant)], left=2)
    yield (
        "p: paired permutation test, two-sided; Holm's correction covers the variants of the report without those for "
        "comparison. Points are percentage points."
    )
    yield ""
    changes = ("variant", "better", "same", "worse", "not worse % (95 % interval)", "S", "D", "I")
    yield from table(changes, [_changes(v.info.name, v.comparison) for v in compared if v.comparison is not None])
    yield (
        f"{_unit(summary).capitalize()}s with a lower, the same or a higher cost in {summary.primary.short} than with "
        "the baseline. S, D, I: change of substituted, deleted and inserted words, in points of the reference words."
    )
    yield ""


def _differences(summary: Summary, variant: VariantSummary) -> Iterator[tuple[str, ...]]:
    for metric in summary.metrics:
        difference = variant.pooled.differences.get(metric.name)
        if difference is not None:
            yield (
                text(variant.info.name),
                metric.short,
                rate(variant.pooled.metrics[metric.name]),
                moved(difference.estimate),
                words.p_value(difference.p_value),
                words.p_value(difference.p_adjusted),
            )


def _changes(name: str, found: Comparison) -> tuple[str, ...]:
    return (
        text(name),
        *(words.count(count) for count in (found.better, found.same, found.worse)),
        rate(found.not_worse),
        *(words.points(found.shift.get(kind)) for kind in ("substitutions", "deletions", "insertions")),
    )


def accuracy(summary: Summary) -> Iterator[str]:
    """Every metric with counts, over all test sets and on each."""
    several = len(summary.run.manifests) > 1
    if several:
        yield "## Accuracy on all test sets"
        yield ""
        yield from _accuracy_table(summary, [v.pooled for v in summary.variants])
    for manifest in summary.run.manifests:
        yield f"## Accuracy on {text(manifest.name)}"
        yield ""
        yield f"{words.plural(manifest.utterances, _unit(summary))} of {code(manifest.path)}"
        yield ""
        yield from _accuracy_table(summary, [v.manifests[manifest.name] for v in summary.variants])


def _accuracy_table(summary: Summary, found: Sequence[Accuracy]) -> Iterator[str]:
    lines = TASKS[summary.run.task].counts_characters
    head = (
        "variant",
        *(f"{m.short} {m.unit} (95 % interval)".replace("  ", " ") for m in summary.metrics),
        f"{summary.primary.short}, points to the baseline",
        f"S / D / I of {'characters' if lines else 'words'}",
        "failed",
        "of those timed out",
        "empty",
    )
    rows = []
    for variant, one in zip(summary.variants, found, strict=True):
        counts, difference = one.characters if lines else one.words, one.differences.get(summary.primary.name)
        rows.append(
            (
                text(variant.info.name),
                *(rate(one.metrics[m.name]) for m in summary.metrics),
                "baseline" if difference is None else moved(difference.estimate),
                f"{counts.substitutions:,} / {counts.deletions:,} / {counts.insertions:,} of {counts.reference:,}",
                *(words.count(count) for count in (one.failures, one.timeouts, one.empty)),
            )
        )
    yield from table(head, rows)


def slices(summary: Summary, focus: str) -> Iterator[str]:
    """The variant that the report is about and the baseline, slice by slice; the others are in ``report.csv``."""
    if not summary.slices:
        return
    baseline = summary.run.baseline
    names = [baseline] if focus == baseline else [focus, baseline]
    yield "## Slices"
    yield ""
    yield f"{' '.join(filter(None, (summary.primary.short, summary.primary.unit)))}; every variant is in report.csv."
    yield ""
    for field, parts in groupby(summary.slices, key=lambda part: part.field):
        head = (text(field), f"{_unit(summary)}s", *(text(name) for name in names), "difference in points")
        yield from table(head, [_slice(part, names) for part in parts])


def _slice(part: Slice, names: Sequence[str]) -> tuple[str, ...]:
    """Rates of the variants, and how the first of them differs from the baseline."""
    found = [part.rates.get(name) for name in names]
    missing = "baseline" if len(names) == 1 else words.MISSING
    return (
        text(part.value),
        words.count(part.utterances),
        *(words.MISSING if one is None else rate(one.estimate) for one in found),
        moved(None if found[0] is None else found[0].difference, missing),
    )


def utterances(summary: Summary, focus: str) -> Iterator[str]:
    """The worst utterances of the variant that the report is about, and those that changed most."""
    kinds = (
        (f"Worst {_unit(summary)}s of {{}}", summary.worst.get(focus, ()), False),
        ("Worse than with the baseline: {}", summary.regressions.get(focus, ()), True),
        ("Better than with the baseline: {}", summary.improvements.get(focus, ()), True),
    )
    explained = False
    task = TASKS[summary.run.task]
    align = diff_of(task.name, NORMALISERS[summary.run.normaliser])
    for title, items, changed in kinds:
        if not items:
            continue
        yield f"## {title.format(text(focus))}"
        yield ""
        if not explained:
            what = "Characters" if task.counts_characters else "Words"
            yield f"{what} that were left out are struck out, {what.lower()} that were put in are bold."
            yield ""
            explained = True
        for item in items[:_SHOWN]:
            yield f"- {_about(summary, item)}: {diff(item.diff, task.between) or '(nothing)'}"
            yield from _source(task, item)
            if changed and item.baseline_hypothesis is not None:
                theirs = align(item.reference, item.baseline_hypothesis)
                yield f"  - baseline: {diff(theirs, task.between) or '(nothing)'}"
        yield ""


def _source(task: Task, item: WorstUtterance) -> Iterator[str]:
    """The source sentence, or the path of an image; recordings are found by their id."""
    if not task.chunked:
        yield f"  - {'source' if task.input_kind == TEXT else task.medium}: {text(item.input)}"


def _about(summary: Summary, item: WorstUtterance) -> str:
    """Which utterance, and how bad."""
    task, who = summary.run.task, f", {text(item.speaker)}" if item.speaker else ""
    theirs, ours = item.baseline_errors, words.utterance_errors(item.errors, task)
    before = "" if theirs is None else f", baseline {words.utterance_errors(theirs, task)}"
    return f"{text(item.id)} ({text(item.manifest)}{who}), {ours} {words.error_unit(item.words, task)}{before}"


def failures(summary: Summary) -> Iterator[str]:
    """Utterances and variants that broke."""
    if not summary.failures and not summary.broken:
        return
    yield "## Failures"
    yield ""
    for broken in summary.broken:
        yield f"- variant {text(broken.name)} was not evaluated to the end: {text(broken.reason)}"
    if summary.broken:
        yield ""
    if summary.failures:
        more = len(summary.failures)
        first = "" if summary.failure_count <= more else f" Only the first {more} are listed."
        verb = "counts" if summary.failure_count == 1 else "count"
        yield f"{words.plural(summary.failure_count, _unit(summary))} failed and {verb} as all wrong.{first}"
        yield ""
    for failure in summary.failures:
        who = "all variants" if len(failure.variants) == len(summary.variants) else ", ".join(failure.variants)
        yield (
            f"- {text(failure.id)} ({text(failure.manifest)}), {text(who)}, {text(failure.kind)}: {text(failure.error)}"
        )
    if summary.failures:
        yield ""
