"""Sections of ``report.md`` about what was evaluated: disjointness, files, machine, method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.markdown_text import block, code, table, text
from kdcompress_evaluation.overlap import CLEAN, LEAK, UNKNOWN, WEAK, WHY, severity, undeclared
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kdcompress_evaluation.machine import Machine
    from kdcompress_evaluation.summary import Overlap, Summary
    from kdcompress_evaluation.variants import VariantInfo

_SHARED = {LEAK: "**yes**", WEAK: "no, but speakers or texts", CLEAN: "no", UNKNOWN: "**not known**"}


def identity(summary: Summary) -> Iterator[str]:
    """What exactly was compared, on what, and whether the test sets are unseen."""
    yield from _disjointness(summary)
    yield "## Identity"
    yield ""
    for info in summary.run.variants:
        yield from _variant(info)
    for manifest in summary.run.manifests:
        yield (
            f"- test set {text(manifest.name)}: {code(manifest.path)}, {words.plural(manifest.utterances, 'line')}, "
            f"fingerprint {code(manifest.fingerprint)}"
        )
    run = summary.run
    if run.command:
        yield ""
        yield "Made by"
        yield ""
        yield from block(run.command)
    yield ""


def _disjointness(summary: Summary) -> Iterator[str]:
    silent = undeclared(summary.run.variants)
    if not summary.overlaps and not silent:
        return
    yield "## Are the test sets unseen?"
    yield ""
    if summary.overlaps:
        inputs = TASKS[summary.run.task].inputs
        head = ("bundles", "their set", "test set", f"shared {inputs}", inputs, "speakers", "texts", "compared")
        yield from table(head, [_overlap(group) for group in _alike(summary.overlaps)], left=4)
        yield WHY
        yield ""
    if silent:
        names = ", ".join(map(text, silent))
        yield f"Nothing is known about the training sets of {names}: they are not named."
        yield ""


def _alike(overlaps: Sequence[Overlap]) -> list[list[Overlap]]:
    """Findings that say the same of several sets and bundles, together."""
    groups: dict[tuple[object, ...], list[Overlap]] = {}
    for one in overlaps:
        same = (one.manifest, one.evidence, one.detail, one.inputs, one.speakers, one.texts)
        groups.setdefault(same, []).append(one)
    return list(groups.values())


def _overlap(group: Sequence[Overlap]) -> tuple[str, ...]:
    one = group[0]
    how = "by fingerprint" if one.evidence == "fingerprint" else ""
    counts = (words.MISSING if n is None else words.count(n) for n in (one.inputs, one.speakers, one.texts))
    return (
        text(", ".join(dict.fromkeys(o.bundle for o in group))),
        text(", ".join(dict.fromkeys(o.role for o in group))),
        text(one.manifest),
        _SHARED[severity(one)],
        *counts,
        text(": ".join(filter(None, (how, one.detail)))),
    )


def _variant(info: VariantInfo) -> Iterator[str]:
    form = "" if info.format_version is None else f", format {info.format_version}"
    about = ", ".join(filter(None, (info.precision, info.engine)))
    yield f"- {text(info.name)}: {info.kind}{form}, {text(about) or 'nothing known'}, {code(info.bundle_path)}"
    yield f"  - made: {text(info.method)}" + "".join(f"; {text(fact)}" for fact in _facts(info.provenance))
    for name, digest in info.files.items():
        yield f"  - {code(name)}: SHA-256 {code(digest)}"


def _facts(provenance: Mapping[str, object]) -> Iterator[str]:
    """Plain entries of a provenance, fingerprints of its sets, versions."""
    for name, value in provenance.items():
        if name == "data" and isinstance(value, dict):
            for role, row in value.items():
                if isinstance(row, dict) and "fingerprint" in row:
                    yield f"{role} set {row.get('manifest', '')} {str(row['fingerprint'])[:16]}"
        elif name == "versions" and isinstance(value, dict):
            yield "with " + ", ".join(f"{package} {version}" for package, version in value.items())
        elif isinstance(value, (str, int, float)) and value != "" and name != "method":
            yield f"{name} {value}"
        elif isinstance(value, list) and value:
            yield f"{name} {', '.join(map(str, value))}"


def method(summary: Summary) -> Iterator[str]:
    """How the numbers were made, and what weakens them."""
    run, normaliser = summary.run, NORMALISERS[summary.run.normaliser]
    yield "## Method"
    yield ""
    for note in (*summary.notes, *(() if summary.speed_run is None else summary.speed_run.notes)):
        yield f"- {text(note)}"
    yield "- scored by: " + "; ".join(f"{m.short}: {text(m.scorer)}" for m in summary.metrics)
    yield (
        f"- intervals: 95 %, bootstrap over {summary.resampled_by}s, {run.resamples:,} draws, seed {run.seed}; "
        "rates are of summed counts; differences take every draw for both variants"
    )
    yield f"- texts compared as {text(normaliser.name)} {normaliser.version}: {text(normaliser.description)}"
    yield f"- decoder: {text(words.decoder(run.decoder))}"
    yield (
        f"- best trade-off: of the variants whose paired interval ends within {words.points(run.tolerance, 1)} points "
        "of the baseline, the smallest; those for comparison are never chosen"
    )
    timed = None if summary.speed_run is None else summary.speed_run.machine
    yield f"- machine: {_machine(run.machine)}"
    if timed is not None and timed.cpu != run.machine.cpu:
        yield f"- timed on: {_machine(timed)}"
    if run.device_note:
        yield f"- note on the machine: {text(run.device_note)}"


def _machine(machine: Machine) -> str:
    facts = [
        f"{machine.cpu}, {words.plural(machine.cores, 'core')}, {machine.memory_bytes / 1e9:.0f} GB",
        " ".join(machine.isa),
        machine.system,
        f"governor {machine.governor}" if machine.governor else "",
        "" if machine.turbo is None else f"turbo {'on' if machine.turbo else 'off'}",
        "a virtual machine" if machine.virtual else "",
        "" if machine.load_average is None else f"load {machine.load_average:.2f}",
        f"Python {machine.python}",
        ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
    ]
    return text("; ".join(filter(None, facts)))
