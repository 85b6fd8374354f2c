"""``report.md``: the same answer for terminals, pull requests and mails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.scoring import NORMALISERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcompress_evaluation.summary import Accuracy, Summary, VariantSummary, WorstUtterance

_WORST = 5


def render_markdown(summary: Summary) -> str:
    """Return the report as Markdown."""
    parts = [
        *_top(summary),
        *_main_table(summary),
        *_manifests(summary),
        *_worst(summary),
        *_failures(summary),
        *_identity(summary),
    ]
    return "\n".join(parts) + "\n"


def _top(summary: Summary) -> Iterator[str]:
    yield "# Evaluation report"
    yield ""
    yield f"**{_text(summary.headline)}** {_text(summary.reason)}".strip()
    yield ""
    for note in summary.notes:
        yield f"- {_text(note)}"
    if summary.notes:
        yield ""


def _main_table(summary: Summary) -> Iterator[str]:
    yield "## Variants"
    yield ""
    head = (
        "variant", "how it was trained", "WER %", "95 % interval", f"points to {summary.run.baseline}",
        "95 % interval", "CER %", "S / D / I", "MB", "M parameters", "RTF", "chunk p50 ms", "p95 ms",
        "peak MB",
    )  # fmt: skip
    yield from _table(head, [_row(variant) for variant in summary.variants], left=2)
    yield ""


def _row(variant: VariantSummary) -> tuple[str, ...]:
    speed, memory, pooled = variant.speed, variant.memory, variant.pooled
    return (
        _text(variant.info.name),
        _text(variant.info.method),
        words.percent(pooled.wer.value),
        words.interval(pooled.wer),
        "baseline" if pooled.difference is None else words.points(pooled.difference.value),
        "" if pooled.difference is None else words.points_interval(pooled.difference),
        words.percent(pooled.cer.value),
        f"{pooled.words.substitutions} / {pooled.words.deletions} / {pooled.words.insertions}",
        words.megabytes(variant.info.size_bytes),
        words.millions(variant.info.parameters),
        words.number(None if speed is None else speed.rtf_median, 5),
        words.chunk_time(None if speed is None else speed.chunk_p50_ms, streaming=variant.info.streaming),
        words.chunk_time(None if speed is None else speed.chunk_p95_ms, streaming=variant.info.streaming),
        words.megabytes(None if memory is None else memory.peak, 0),
    )


def _manifests(summary: Summary) -> Iterator[str]:
    for manifest in summary.run.manifests:
        yield f"## {_text(manifest.name)}"
        yield ""
        yield (
            f"{words.plural(manifest.utterances, 'utterance')}, fingerprint `{manifest.fingerprint[:16]}`, "
            f"`{manifest.path}`"
        )
        yield ""
        head = ("variant", "WER %", "95 % interval", "points", "95 % interval", "CER %", "S / D / I", "failed")
        rows = [_accuracy_row(v.info.name, v.manifests[manifest.name]) for v in summary.variants]
        yield from _table(head, rows, left=1)
        yield ""


def _accuracy_row(name: str, accuracy: Accuracy) -> tuple[str, ...]:
    counts, difference = accuracy.words, accuracy.difference
    return (
        _text(name),
        words.percent(accuracy.wer.value),
        words.interval(accuracy.wer),
        "baseline" if difference is None else words.points(difference.value),
        "" if difference is None else words.points_interval(difference),
        words.percent(accuracy.cer.value),
        f"{counts.substitutions} / {counts.deletions} / {counts.insertions}",
        str(accuracy.failures),
    )


def _worst(summary: Summary) -> Iterator[str]:
    chosen = summary.chosen
    if not summary.worst[chosen]:
        return
    yield f"## Worst utterances of {_text(chosen)}"
    yield ""
    yield "Deleted words are struck out, inserted ones bold, substitutions both."
    yield ""
    for item in summary.worst[chosen][:_WORST]:
        yield f"- {_text(item.id)} ({_text(item.manifest)}), {item.errors} of {item.words}: {_diff(item)}"
    yield ""


def _diff(item: WorstUtterance) -> str:
    shown = []
    for piece in item.diff:
        if piece.kind == "equal":
            shown.append(_text(piece.reference))
            continue
        shown += [f"~~{_text(piece.reference)}~~"] if piece.reference else []
        shown += [f"**{_text(piece.hypothesis)}**"] if piece.hypothesis else []
    return " ".join(shown)


def _failures(summary: Summary) -> Iterator[str]:
    if not summary.failures:
        return
    yield f"## Failures ({summary.failure_count})"
    yield ""
    for failure in summary.failures:
        who = "all variants" if len(failure.variants) == len(summary.variants) else ", ".join(failure.variants)
        yield f"- {_text(failure.id)} ({_text(failure.manifest)}), {_text(who)}: {_text(failure.error)}"
    yield ""


def _identity(summary: Summary) -> Iterator[str]:
    run, normaliser = summary.run, NORMALISERS[summary.run.normaliser]
    machine = summary.speed_machine or run.machine
    yield "## Identity and method"
    yield ""
    for variant in run.variants:
        yield f"- {_text(variant.name)}: model SHA-256 `{variant.model_sha256}`, tokens `{variant.tokens_sha256}`"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield f"- machine: {_text(machine.cpu)}, {machine.cores} cores, {' '.join(machine.isa)}; {_text(machine.system)}"
    yield f"- versions: Python {machine.python}, {versions}"
    yield f"- decoder: {_text(words.decoder(run.decoder))}"
    yield f"- normaliser: {normaliser.name} {normaliser.version}: {normaliser.description}"
    yield (
        f"- intervals: percentile bootstrap over {summary.resampled_by}s, {run.resamples} draws, seed {run.seed}; "
        "differences are paired; one thread, variants interleaved"
    )
    if run.command:
        yield f"- command: `{run.command.replace('`', '')}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """A Markdown table; the first ``left`` columns aligned left, the others right."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if i < left else "---:" for i in range(len(head))) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _text(text: str) -> str:
    """Escape what Markdown or HTML in it would read as markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", " ".join(text.split()))
