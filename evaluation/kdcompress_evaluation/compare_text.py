"""Two variants side by side as plain text, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.extremes import diff_of
from kdcompress_evaluation.pareto import is_paced, latency
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.tasks import TASKS
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcompress_evaluation.metrics import MetricInfo
    from kdcompress_evaluation.scoring import DiffPiece
    from kdcompress_evaluation.summary import Comparison, Difference, Summary, VariantSummary, WorstUtterance

WIDTH = 80
"""Columns."""
_SHOWN = 5
"""Utterances of a kind."""
_FRONT = "{:<18}{:>10}{:>10}  {}"


def render_comparison(summary: Summary, a: str, b: str) -> str:
    """Return how variant ``b`` differs from variant ``a``, the baseline of the report.

    Raises:
        OptionsError: the report has no such variants, or was derived against another baseline than ``a``.
    """
    known = [variant.info.name for variant in summary.variants]
    for name in (a, b):
        if name not in known:
            raise OptionsError(f"the report has no variant {name!r}; choose among {', '.join(known)}")
    if a != summary.run.baseline or a == b:
        raise OptionsError(
            f"{b} cannot be compared with {a}: the report compares with {summary.run.baseline}; "
            "name another variant, or derive it with --baseline"
        )
    first, second = summary.variant(a), summary.variant(b)
    parts = (
        _head(summary, first, second),
        _metrics(summary, first, second),
        _costs(summary, first, second),
        _changes(summary, second),
        _broken(summary, (a, b)),
        _verdict(summary),
        _utterances(summary, "Worse with B", summary.regressions.get(b, ())),
        _utterances(summary, "Better with B", summary.improvements.get(b, ())),
    )
    return "\n".join(line.rstrip() for part in parts for line in part).rstrip("\n") + "\n"


def _head(summary: Summary, first: VariantSummary, second: VariantSummary) -> Iterator[str]:
    pooled = first.pooled
    yield from _wrap(first.info.name, "A  ")
    yield from _wrap(second.info.name, "B  ")
    audio = f", {words.duration(pooled.audio_seconds)} of audio" if pooled.audio_seconds else ""
    sets = ", ".join(manifest.name for manifest in summary.run.manifests)
    yield from _wrap(f"{words.plural(pooled.utterances, TASKS[summary.run.task].unit)}{audio}: {sets}")
    yield ""


def _metrics(summary: Summary, first: VariantSummary, second: VariantSummary) -> Iterator[str]:
    yield _FRONT.format("", "A", "B", "B minus A, points (95 % interval)")
    for metric in summary.metrics:
        ours, theirs = (v.pooled.metrics[metric.name].value for v in (second, first))
        found = second.pooled.differences.get(metric.name)
        label = f"{metric.short} {metric.unit}".strip()
        told = words.MISSING if found is None else _difference(found)
        yield _FRONT.format(label, words.percent(theirs), words.percent(ours), told)
        if found is not None and found.p_value is not None:
            yield _FRONT.format("", "", "", f"{_judge(metric, found)}, p {words.p_value(found.p_value)}")
    yield ""


def _difference(found: Difference) -> str:
    estimate = found.estimate
    value = words.points(estimate.value)
    return value if estimate.low is None else f"{value} ({words.points_interval(estimate)})"


def _judge(metric: MetricInfo, found: Difference) -> str:
    """Better, worse, or not to be told."""
    low, high = found.estimate.low, found.estimate.high
    if low is None or high is None:
        return "too few units for an interval"
    if low <= 0 <= high:
        return "within noise"
    return "worse" if (low > 0) == metric.lower_is_better else "better"


def _costs(summary: Summary, first: VariantSummary, second: VariantSummary) -> Iterator[str]:
    """Size, time and memory, and what B's are of A's."""
    paced, step = is_paced(summary.variants), TASKS[summary.run.task].step
    cost: list[tuple[str, float, int, Sequence[float | None]]] = [
        ("MB to ship", 1e6, 2, [v.footprint.size_bytes for v in (first, second)]),
        ("M parameters", 1e6, 2, [v.info.parameters for v in (first, second)]),
        (f"{'paced' if paced else step} p95 ms", 1, 2, [latency(v, paced=paced) for v in (first, second)]),
        ("RTF", 1, 5, [None if v.speed is None else v.speed.rtf_median for v in (first, second)]),
        (f"{TASKS[summary.run.task].unit}s a second", 1, 1, [_rate(v, summary) for v in (first, second)]),
        ("end to result ms", 1, 2, [_final(v) for v in (first, second)]),
        ("peak memory MB", 1e6, 0, [_peak(v) for v in (first, second)]),
        ("cold start ms", 1, 0, [_cold(v) for v in (first, second)]),
    ]
    for label, scale, digits, (theirs, ours) in cost:
        if theirs or ours:
            shown = [words.number(value / scale if value else None, digits) for value in (theirs, ours)]
            share = words.ratio(ours, theirs) + " A" if ours and theirs else words.MISSING
            yield _FRONT.format(label, *shown, share)
    speedup = None if second.speed is None else second.speed.speedup
    if speedup is not None and speedup.value is not None:
        ends = "" if speedup.low is None or speedup.high is None else f" ({speedup.low:.2f} to {speedup.high:.2f})"
        yield _FRONT.format("times as fast", "", "", f"{speedup.value:.2f}{ends}")
    noise = None if summary.speed_run is None else summary.speed_run.noise
    if speedup is not None and noise is not None and noise.low is not None and noise.high is not None:
        yield _FRONT.format("", "", "", f"A against itself: {noise.low:.2f} to {noise.high:.2f}")
    yield ""


def _rate(variant: VariantSummary, summary: Summary) -> float | None:
    """Lines or sentences a second; audio has its real-time factor."""
    if variant.speed is None or TASKS[summary.run.task].chunked:
        return None
    return variant.speed.per_second


def _final(variant: VariantSummary) -> float | None:
    return None if variant.speed is None or variant.speed.final is None else variant.speed.final.p95


def _peak(variant: VariantSummary) -> float | None:
    return None if variant.footprint.memory is None else float(variant.footprint.memory.peak)


def _cold(variant: VariantSummary) -> float | None:
    return None if variant.footprint.cold_start is None else variant.footprint.cold_start.total


def _changes(summary: Summary, second: VariantSummary) -> Iterator[str]:
    found = second.comparison
    if found is None:
        return
    yield from _wrap(_counted(summary, found))
    if TASKS[summary.run.task].counts_words:
        shift = ", ".join(f"{words.points(value)} {kind}" for kind, value in found.shift.items())
        yield from _wrap(f"Of 100 reference words: {shift}.")
    yield ""


def _counted(summary: Summary, found: Comparison) -> str:
    share = found.not_worse
    ends = "" if share.low is None else f" ({words.interval(share, 1)})"
    return (
        f"{TASKS[summary.run.task].unit.capitalize()}s by {summary.primary.short}: {found.better:,} better with B, "
        f"{found.same:,} the same, {found.worse:,} worse; not worse: {words.percent(share.value, 1)} %{ends}."
    )


def _broken(summary: Summary, names: Sequence[str]) -> Iterator[str]:
    """What is not whole."""
    found = [broken for broken in summary.broken if broken.name in names]
    for broken in found:
        yield from _wrap(f"{broken.name} was not evaluated to the end: {broken.reason}")
    failed = [(name, summary.variant(name).pooled.failures) for name in names]
    if any(count for _, count in failed):
        told = ", ".join(f"{words.count(count)} with {'AB'[place]}" for place, (_, count) in enumerate(failed))
        yield from _wrap(f"{TASKS[summary.run.task].unit.capitalize()}s that failed and count as all wrong: {told}.")
    if found or any(count for _, count in failed):
        yield ""


def _verdict(summary: Summary) -> Iterator[str]:
    if summary.verdict is not None:
        yield from _wrap(words.bound(summary.verdict.sentence))
        yield ""


def _utterances(summary: Summary, title: str, items: Sequence[WorstUtterance]) -> Iterator[str]:
    """Each with what A and B made of it, against the reference."""
    if not items:
        return
    task = summary.run.task
    yield f"{title} ([-left out-] {{+put in+}})"
    align, between = diff_of(task, NORMALISERS[summary.run.normaliser]), TASKS[task].between
    for item in items[:_SHOWN]:
        before = words.MISSING if item.baseline_errors is None else words.utterance_errors(item.baseline_errors, task)
        unit = words.error_unit(item.words, task)
        about = f"{item.id} ({item.manifest}): A {before}, B {words.utterance_errors(item.errors, task)} {unit}"
        yield from _wrap(about, "  ")
        theirs = align(item.reference, item.baseline_hypothesis or "")
        yield from _wrap(plain_diff(theirs, between), "    A  ")
        yield from _wrap(plain_diff(item.diff, between), "    B  ")
    yield ""


def plain_diff(pieces: Sequence[DiffPiece], between: str = " ") -> str:
    """Words as ``git diff --word-diff`` marks them: ``[-left out-]``, ``{+put in+}``."""
    shown = []
    for piece in pieces:
        if piece.kind == "equal":
            shown.append(piece.reference)
            continue
        left_out = f"[-{piece.reference}-]" if piece.reference else ""
        put_in = f"{{+{piece.hypothesis}+}}" if piece.hypothesis else ""
        shown.append(left_out + put_in)
    return between.join(shown) or "(nothing)"


def _wrap(content: str, begin: str = "") -> list[str]:
    """Lines of at most ``WIDTH`` columns; control characters of a transcript do nothing to the terminal."""
    safe = "".join(c if c.isprintable() else " " for c in content)
    indent = " " * len(begin)
    return textwrap.wrap(safe, WIDTH, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False) or [begin]
