"""``report.csv``: every number of the report, one a line, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.bootstrap import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kdcompress_evaluation.summary import Accuracy, Summary, VariantSummary

COLUMNS = ("section", "variant", "manifest", "slice", "metric", "value", "low", "high", "unit")
"""Of the file. ``low`` and ``high`` are ends of the 95 % interval where there is one."""
ALL = "(all)"
"""Stands for all manifests together; no manifest can be called so."""
UNITS: Mapping[str, str] = {
    "Accuracy": "count",
    "Accuracy.audio_seconds": "s",
    "Accuracy.metrics": "fraction",
    "ColdStart": "ms",
    "ColdStart.repeats": "count",
    "Comparison": "count",
    "Comparison.not_worse": "fraction",
    "Comparison.shift": "fraction",
    "Difference.estimate": "fraction",
    "Difference.p_adjusted": "probability",
    "Difference.p_value": "probability",
    "Endpointing": "count",
    "Endpointing.wait": "s",
    "ErrorCounts": "count",
    "Footprint": "bytes",
    "Machine": "count",
    "Machine.cache_bytes": "bytes",
    "Machine.load_average": "processes",
    "Machine.memory_bytes": "bytes",
    "Machine.turbo": "yes",
    "Machine.virtual": "yes",
    "ManifestInfo": "count",
    "Memory": "bytes",
    "MetricInfo": "yes",
    "Overlap": "count",
    "Parts": "ms",
    "Peaks": "MAC/s",
    "Peaks.memory": "bytes/s",
    "Percentiles.count": "count",
    "RunInfo": "count",
    "RunInfo.decoder": "setting",
    "RunInfo.schema": "version",
    "RunInfo.seed": "setting",
    "RunInfo.streaming": "setting",
    "RunInfo.tolerance": "fraction",
    "Slice": "count",
    "SliceRate": "fraction",
    "Speed": "count",
    "Speed.audio_seconds": "s",
    "Speed.chunk": "ms",
    "Speed.final": "ms",
    "Speed.paced": "ms",
    "Speed.paced_cpu": "fraction",
    "Speed.per_second": "per second",
    "Speed.rtf_median": "ratio",
    "Speed.rtf_total": "ratio",
    "Speed.speedup": "ratio",
    "Speed.whole": "ms",
    "SpeedRun.load_after": "processes",
    "SpeedRun.noise": "ratio",
    "SpeedRun.paced_seconds": "s",
    "SpeedRun.pinned": "number of a CPU",
    "SpeedRun.threads": "count",
    "Streaming": "count",
    "Streaming.difference": "fraction",
    "Streaming.emission": "s",
    "Streaming.final": "ms",
    "Streaming.first_partial": "s",
    "Streaming.revised": "words per word",
    "Summary": "count",
    "Summary.schema": "version",
    "VariantInfo.anchor": "yes",
    "VariantInfo.chunk_ms": "ms",
    "VariantInfo.format_version": "version",
    "VariantInfo.lookahead_ms": "ms",
    "VariantInfo.parameters": "count",
    "VariantInfo.sample_rate": "Hz",
    "VariantInfo.size_bytes": "bytes",
    "VariantSummary.fronts": "yes",
    "VariantVerdict": "yes",
    "Work.macs": "MAC per second of audio, or of a line or sentence",
    "Work.share_of_compute": "fraction",
    "Work.share_of_memory": "fraction",
    "WorstUtterance": "count",
    "WorstUtterance.duration": "s",
}
"""Units by class and field, else by class; a part without one has that of the whole (percentiles, counts)."""
_APART = frozenset(
    {
        "Accuracy.differences",
        "Accuracy.metrics",
        "RunInfo.manifests",
        "RunInfo.variants",
        "Slice.rates",
        "VariantInfo.measured",
        "VariantInfo.options",
        "VariantInfo.provenance",
    }
)
"""Not lines of the record that they stand in: they have their own, or are what export measured."""
_RISKY = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_HOLDS = {"holds": 1, "fails": 0}


@dataclass(frozen=True)
class _Line:
    """One line of the file; the first fields say what the number belongs to."""

    section: str
    variant: str = ""
    manifest: str = ""
    slice: str = ""
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""


def render_csv(summary: Summary) -> str:
    """Return the numbers of the report as CSV, one a line, under ``COLUMNS``.

    Values are those of ``report.json``, in full: rates are fractions, differences of rates too, yes is 1 and no is 0;
    what was not measured has no line. Text that a spreadsheet would run as a formula begins with an apostrophe. Where
    there are letters beyond ASCII, a byte order mark comes first: some spreadsheets know UTF-8 by nothing else.
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in _lines(summary):
        writer.writerow([_cell(getattr(line, column)) for column in COLUMNS])
    text = target.getvalue()
    return text if text.isascii() else f"\ufeff{text}"


def render_csv_of(summaries: Sequence[Summary]) -> str:
    """Return the numbers of several tasks: a column ``task`` comes first."""
    found: list[str] = []
    for summary in summaries:
        head, *lines = render_csv(summary).removeprefix("\ufeff").rstrip("\n").split("\n")
        found += [*([] if found else [f"task,{head}"]), *(f"{summary.run.task},{line}" for line in lines)]
    text = "\n".join(found) + "\n"
    return text if text.isascii() else f"\ufeff{text}"


def _lines(summary: Summary) -> Iterator[_Line]:
    yield from _numbers(summary.run, _Line("run"))
    for manifest in summary.run.manifests:
        yield from _numbers(manifest, _Line("manifest", manifest=manifest.name))
    for metric in summary.metrics:
        yield from _numbers(metric, _Line("metric", slice=metric.name))
    for variant in summary.variants:
        yield from _variant(variant)
    yield from _slices(summary)
    yield from _verdict(summary)
    for section, items in (
        ("worst", summary.worst),
        ("regression", summary.regressions),
        ("improvement", summary.improvements),
    ):
        for name, utterances in items.items():
            for one in utterances:
                yield from _numbers(one, _Line(section, name, one.manifest, one.id))
    yield from _failures(summary)
    for overlap in summary.overlaps:
        yield from _numbers(overlap, _Line("overlap", overlap.bundle, overlap.manifest, overlap.role))
    if summary.speed_run is not None:
        yield from _numbers(summary.speed_run, _Line("speed_run"))


def _variant(variant: VariantSummary) -> Iterator[_Line]:
    name = variant.info.name
    yield from _numbers(variant.info, _Line("variant", name))
    yield from _accuracy(variant.pooled, _Line("accuracy", name, ALL))
    for manifest, accuracy in variant.manifests.items():
        yield from _accuracy(accuracy, _Line("accuracy", name, manifest))
    yield from _numbers(variant.comparison, _Line("comparison", name, ALL))
    yield from _numbers(variant.streaming, _Line("streaming", name, ALL))
    yield from _numbers(variant.speed, _Line("speed", name))
    yield from _numbers(variant.footprint, _Line("footprint", name))
    yield from _numbers(variant.fronts, _Line("front", name), UNITS["VariantSummary.fronts"])


def _accuracy(accuracy: Accuracy, line: _Line) -> Iterator[_Line]:
    yield from _numbers(accuracy, line)
    yield from _numbers(accuracy.metrics, line, UNITS["Accuracy.metrics"])
    for name, difference in accuracy.differences.items():
        beside = replace(line, section="difference", metric=name)
        yield from _numbers(difference.estimate, beside, UNITS["Difference.estimate"])
        yield from _numbers(replace(difference, estimate=Estimate(None)), beside)


def _slices(summary: Summary) -> Iterator[_Line]:
    name = summary.primary.name
    for part in summary.slices:
        line = _Line("slice", manifest=ALL, slice=f"{part.field}: {part.value}")
        yield from _numbers(part, line)
        for variant, rate in part.rates.items():
            own = replace(line, variant=variant, metric=name)
            yield from _numbers(rate.estimate, own, UNITS["SliceRate"])
            yield from _numbers(rate.difference, replace(own, metric=f"{name}_difference"), UNITS["SliceRate"])


def _verdict(summary: Summary) -> Iterator[_Line]:
    """Bounds that hold are 1, those that fail 0; those that nobody can tell have no value."""
    for judged in summary.verdict.variants if summary.verdict is not None else ():
        line = _Line("verdict", judged.variant, ALL)
        yield from _numbers(judged, line)
        for check in judged.checks:
            yield replace(line, metric=check.bound, value=_HOLDS.get(check.state), unit="holds")


def _failures(summary: Summary) -> Iterator[_Line]:
    yield _Line("failure", manifest=ALL, metric="utterances", value=summary.failure_count, unit="count")
    for failure in summary.failures:
        for name in failure.variants:
            yield _Line("failure", name, failure.manifest, failure.id, failure.kind, 1, unit="count")


def _numbers(value: Any, line: _Line, unit: str = "") -> Iterator[_Line]:  # noqa: ANN401 - whatever a summary holds
    """Lines of every number in ``value``; names of fields inside are put behind the metric."""
    if isinstance(value, Estimate):
        if value.value is not None:
            yield replace(line, value=value.value, low=value.low, high=value.high, unit=unit)
    elif isinstance(value, (bool, int, float)):
        yield replace(line, value=float(value) if isinstance(value, float) else int(value), unit=unit)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, _deeper(line, key), unit)
    elif isinstance(value, tuple):
        for number, part in enumerate(value, start=1):
            if isinstance(part, (int, float)):
                yield from _numbers(part, _deeper(line, str(number)), unit)
    elif is_dataclass(value):
        name = type(value).__name__
        for field in fields(value):
            place = f"{name}.{field.name}"
            if place not in _APART:
                own = UNITS.get(place) or UNITS.get(name) or unit
                yield from _numbers(getattr(value, field.name), _deeper(line, field.name), own)


def _deeper(line: _Line, name: str) -> _Line:
    return replace(line, metric=f"{line.metric}_{name}" if line.metric else name)


def _cell(value: str | float | None) -> str:
    """A number in full; a text in one line that no spreadsheet runs."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if not isinstance(value, str):
        return repr(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return f"'{text}" if _RISKY.match(text) and not _NUMBER.fullmatch(text) else text
