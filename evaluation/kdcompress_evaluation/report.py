"""``report.html``, one self-contained page, from a summary."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from kdcompress_evaluation import words
from kdcompress_evaluation.answer import answer, focus_of, missed, overlap_state, standing
from kdcompress_evaluation.csv_file import render_csv, render_csv_of
from kdcompress_evaluation.forest import Scale, forest, ruler, stack
from kdcompress_evaluation.frontier import charts, key
from kdcompress_evaluation.markdown import render_markdown, render_markdown_of
from kdcompress_evaluation.media import Media
from kdcompress_evaluation.pareto import is_paced, latency
from kdcompress_evaluation.records import write_text
from kdcompress_evaluation.sampling import UTTERANCE
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.several import Report, line_of, outcome, title_of
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.machine import Machine
    from kdcompress_evaluation.scoring import ErrorCounts
    from kdcompress_evaluation.summary import Accuracy, Slice, Summary

_MARKS = {"holds": "✓", "fails": "✕", "unclear": "?"}


def write_report(summary: Summary, output: Path) -> None:
    """Write the files of a report of one task into ``output``, each moved into place when complete."""
    write_text(output / "report.json", summary.dumps())
    write_text(output / "report.csv", render_csv(summary))
    write_text(output / "report.md", render_markdown(summary))
    write_text(output / "report.html", render_html(summary))


def write_reports(report: Report, output: Path) -> None:
    """Write the files of a report of several tasks, as ``write_report`` does; of one it is that one's."""
    if len(report.tasks) == 1:
        write_report(report.tasks[0], output)
        return
    for summary in report.tasks:
        write_text(output / summary.run.task / "report.json", summary.dumps())
    write_text(output / "report.json", report.dumps())
    write_text(output / "report.csv", render_csv_of(report.tasks))
    write_text(output / "report.md", render_markdown_of(report))
    write_text(output / "report.html", render_html_of(report))


def render_html(summary: Summary) -> str:
    """Return the page: one file without a link to anything outside.

    Recordings and images of the utterances shown are read from where the rows say they lie, and put into the page.
    """
    return render_html_of(Report.of(summary))


def render_html_of(report: Report) -> str:
    """Return the page of several tasks: what came out of each at the top, then one after the other."""
    parts = [_part(summary, f"{summary.run.task}-" if len(report.tasks) > 1 else "") for summary in report.tasks]
    page = {
        "parts": parts,
        "title": parts[0]["title"] if len(parts) == 1 else ", ".join(part["task"].title for part in parts),
        "numbered": len(parts) == 1 and parts[0]["numbered"],
        "headline": title_of(report.tasks),
        "created": report.tasks[0].run.created,
        "judged": any(summary.verdict is not None for summary in report.tasks),
    }
    environment = _environment()
    environment.filters["day"] = words.day
    return environment.get_template("report.html.j2").render(page)


def _part(summary: Summary, prefix: str) -> dict[str, Any]:
    """What the page shows of one task; ids begin with ``prefix``."""
    environment = _environment()
    environment.filters.update(_filters(summary))
    context = _context(summary, prefix)
    found = context["answer"]
    return {
        "prefix": prefix,
        "task": context["task"],
        "numbered": context["numbered"],
        "title": found.title[:60] if found.state else found.focus,
        "line": line_of(summary, found),
        "outcome": outcome(summary),
        # What the templates wrote is escaped already.
        "content": Markup(environment.get_template("task.html.j2").render(context)),  # noqa: S704
    }


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kdcompress_evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _filters(summary: Summary) -> dict[str, Any]:
    """How values are written."""
    paced = is_paced(summary.variants)
    plain = (
        words.percent, words.points, words.interval, words.points_interval, words.megabytes, words.milliseconds,
        words.millions, words.number, words.times, words.plural, words.decoder, words.p_value, words.count,
        words.duration, words.day, words.times_interval, words.rate,
    )  # fmt: skip
    return {
        **{function.__name__: function for function in plain},
        "capitalise": lambda text: text[:1].upper() + text[1:],
        "latency": lambda variant: latency(variant, paced=paced),
        "counts": lambda accuracy: _counts(summary, accuracy),
        "standing": lambda found: standing(found, summary.verdict.ships if summary.verdict else None),
        "missed": missed,
        "bound": words.bound,
        "unit_of": lambda unit: TASKS[summary.run.task].unit if unit == UTTERANCE else unit,
        "solid": lambda text: text if TASKS[summary.run.task].between else text.replace(" ", "␣"),
        "errors": lambda errors: words.utterance_errors(errors, summary.run.task),
        "error_unit": lambda length: words.error_unit(length, summary.run.task),
        "overlap_state": overlap_state,
    }


def _context(summary: Summary, prefix: str) -> dict[str, Any]:
    """Everything that the templates of one task read."""
    run, variants = summary.run, summary.variants
    focus, baseline = summary.variant(focus_of(summary)), summary.variant(run.baseline)
    timed = next((v for v in variants if v.speed is not None), None)
    slices = [(field, list(parts)) for field, parts in groupby(summary.slices, key=lambda part: part.field)]
    plots = charts(summary, focus.info.name, prefix)
    return {
        "summary": summary,
        "run": run,
        "primary": summary.primary,
        "answer": answer(summary),
        "focus": focus,
        "baseline": baseline,
        "several": len(variants) > 1,
        "many": len(run.manifests) > 1,
        "numbers": {v.info.name: number for number, v in enumerate(variants, 1)},
        "numbered": bool(key(summary, focus.info.name)),
        "chart_key": key(summary, focus.info.name),
        "charts": plots,
        "verdicts": {} if summary.verdict is None else {v.variant: v for v in summary.verdict.variants},
        "marks": _MARKS,
        "task": TASKS[run.task],
        "prefix": prefix,
        "top": "h2" if prefix else "h1",
        "scale": Scale.around(
            _differences(summary), mark=run.tolerance * (1 if summary.primary.lower_is_better else -1)
        ),
        "slice_scale": Scale.around(_slice_differences(summary.slices, focus.info.name)),
        "speed_scale": _speed_scale(summary),
        "forest": forest,
        "ruler": ruler,
        "stack": stack,
        "paced": is_paced(summary.variants),
        "timed": timed,
        "memory": next((v.footprint.memory for v in variants if v.footprint.memory is not None), None),
        "whole": [v.info.name for v in variants if not v.info.streaming],
        "word_times": _word_times(summary),
        "slices": slices,
        "broken": {item.name for item in summary.broken},
        "media": Media(TASKS[run.task].input_kind, prefix),
        "machines": _machines(summary),
        "normaliser": NORMALISERS[run.normaliser],
        "provenance": _provenance,
        "sections": _sections(summary, drawn=bool(plots)),
    }


def _sections(summary: Summary, *, drawn: bool) -> list[tuple[str, str]]:
    """Ids and names of the sections that this report has, in order; ``drawn``: there are plots."""
    variants = summary.variants
    wanted = (
        ("frontier", "Trade-offs", drawn),
        ("variants", "All variants", True),
        ("testsets", "Test sets", len(summary.run.manifests) > 1),
        ("comparison", "Comparison", any(v.comparison for v in variants)),
        ("streaming", "Streaming", any(v.streaming for v in variants)),
        ("speed", "Speed", any(v.speed for v in variants)),
        ("footprint", "Footprint", any(v.footprint.size_bytes is not None for v in variants)),
        ("slices", "Slices", bool(summary.slices)),
        ("utterances", "Single utterances", True),
        ("failures", "Failures", bool(summary.failures or summary.broken)),
        ("identity", "Identity", True),
        ("method", "Method", True),
    )
    return [(name, title) for name, title, present in wanted if present]


def _counts(summary: Summary, accuracy: Accuracy) -> ErrorCounts:
    """Errors of the units that the task counts."""
    return accuracy.characters if TASKS[summary.run.task].counts_characters else accuracy.words


def _differences(summary: Summary) -> Iterable[Estimate]:
    """Differences in the first metric, of everything that is drawn to one scale."""
    for variant in summary.variants:
        for accuracy in (variant.pooled, *variant.manifests.values()):
            difference = accuracy.differences.get(summary.primary.name)
            if difference is not None:
                yield difference.estimate


def _tolerance(summary: Summary) -> float:
    """The tolerance as a difference of the first metric, whose sign is the metric's own."""
    return summary.run.tolerance if summary.primary.lower_is_better else -summary.run.tolerance


def _slice_differences(slices: Iterable[Slice], name: str) -> Iterable[Estimate | None]:
    return [part.rates[name].difference for part in slices if name in part.rates]


def _speed_scale(summary: Summary) -> Scale:
    """Ratios to the baseline; the band is the noise of an A/A run, as far as it went in either direction."""
    noise, band = None if summary.speed_run is None else summary.speed_run.noise, None
    if noise is not None and noise.low and noise.high:
        far = max(noise.high, 1 / noise.low)
        band = (1 / far, far)
    speedups = [None if v.speed is None else v.speed.speedup for v in summary.variants]
    return Scale.of_ratios(speedups, band=band)


def _word_times(summary: Summary) -> str:
    """Whose word times the delays rest on, in words."""
    found = {v.streaming.word_times for v in summary.variants if v.streaming is not None}
    said = {"manifest": "the manifests", "recogniser": "the recogniser itself"}
    return " or ".join(said[name] for name in sorted(found) if name in said)


def _machines(summary: Summary) -> list[tuple[str, Machine]]:
    """The machine; two when another one measured speed."""
    run = summary.run.machine
    if summary.speed_run is None or summary.speed_run.machine.cpu == run.cpu:
        return [("Machine", run if summary.speed_run is None else summary.speed_run.machine)]
    return [("Recognised on", run), ("Timed on", summary.speed_run.machine)]


def _provenance(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One short text a field; the run's own measurements are left out."""
    fields = {key: value for key, value in content.items() if key != "run"}
    return [(key, _short(value)) for key, value in fields.items() if value not in (None, "", {}, [])]


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(item) for item in value)
    return str(value)
