"""Bundles x manifests -> rows -> summary -> report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.derive import ROWS, rows_path, summarise
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.footprint import measure_footprint
from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.recognise import load_recognizers, plan_manifest, recognise_manifest
from kdcompress_evaluation.records import dumps, load, to_json, write_text
from kdcompress_evaluation.report import write_report
from kdcompress_evaluation.rows import read_rows
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.speed import SpeedRecord, TimedUtterance, measure_speed, pick_utterances
from kdcompress_evaluation.summary import SCHEMA, RunInfo, Summary
from kdcompress_evaluation.variants import find_baseline, plan_variants
from kdcompress_runtime.errors import KdcompressError, OptionsError
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress_runtime.recognizer import Recognizer

    Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvalOptions:
    """How to evaluate.

    Raises:
        OptionsError: a value is outside its range.
    """

    baseline: str | None = None
    """Variant or bundle that others are compared with; the first bundle (its float32) when left out."""
    precisions: str = "default"
    """``default`` (what each bundle loads by itself), ``all``, or one precision by name."""
    decoding: Decoding = field(default_factory=Decoding)
    """Decoder of every variant; left out, each bundle's own."""
    normaliser: str = "plain"
    """Key of ``scoring.NORMALISERS``."""
    resamples: int = 2000
    """Bootstrap draws, at least 1000."""
    seed: int = 0
    """Of the bootstrap."""
    tolerance: float = 0.005
    """Rise of the word error rate, as a fraction, that the headline accepts for a smaller bundle."""
    speed_utterances: int = 20
    """Utterances that are timed, spread over the manifests; 0 measures no speed and no memory."""
    speed_rounds: int = 3
    """Repeats of each timed utterance."""
    command: str = ""
    """The command line, for the report."""

    def __post_init__(self) -> None:
        lowest = {"resamples": 1000, "seed": 0, "speed_utterances": 0, "speed_rounds": 1}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise OptionsError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if not 0 <= self.tolerance < 1:
            raise OptionsError(f"tolerance is a fraction (0.005 is half a point), found {self.tolerance}")
        if self.normaliser not in NORMALISERS:
            raise OptionsError(f"normaliser {self.normaliser!r} is unknown; choose one of {', '.join(NORMALISERS)}")


def evaluate(
    bundles: Sequence[Path],
    manifests: Mapping[str, Path],
    output: Path,
    options: EvalOptions | None = None,
    on_progress: Progress | None = None,
) -> Summary:
    """Evaluate every bundle on every manifest and write the report.

    Rows that a run before left in ``output`` are kept when they were made by the same model, manifest and decoder,
    so a killed run goes on where it stopped; so are measured times on the same machine.

    Args:
        bundles: folders or ``.zip`` files.
        manifests: by name.
        output: folder of the report: ``report.html``, ``report.md``, ``report.json``, ``rows/``.
        options: see ``EvalOptions``.
        on_progress: called with (stage, done, total).

    Raises:
        OptionsError: no bundle or manifest, an unknown baseline, a manifest name that cannot name a file.
        BundleError, ModelError: a bundle cannot be used.
        ManifestError: a manifest is missing, empty, or has a broken line; raised before anything is recognised.
        RowsError: ``output`` cannot hold a report.
    """
    options = options or EvalOptions()
    report = on_progress or _silent
    run = _plan(bundles, manifests, options)
    recognizers = load_recognizers(run.variants, options.decoding)
    try:
        (output / ROWS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RowsError(f"cannot write the report into {output} ({error.strerror}); name another folder") from error
    write_text(output / ROWS / "run.json", dumps(run))
    for manifest in run.manifests:
        recognise_manifest(
            output,
            manifest,
            run.variants,
            recognizers,
            decoder=run.decoder,
            on_progress=lambda done, total, name=manifest.name: report(f"recognise {name}", done, total),  # type: ignore[misc]
        )
    _measure(output, run, recognizers, options, report)
    report("report", 0, 1)
    summary = summarise(output)
    write_report(summary, output)
    report("report", 1, 1)
    return summary


def _plan(bundles: Sequence[Path], manifests: Mapping[str, Path], options: EvalOptions) -> RunInfo:
    """Check everything that can be checked before the first utterance."""
    if not manifests:
        raise OptionsError("no manifest to evaluate on; give at least one as NAME=FILE")
    for name in manifests:
        if not re.fullmatch(r"[\w-]+", name):
            raise OptionsError(f"the manifest name {name!r} names files; use letters, digits, - and _ only")
    variants = plan_variants([Path(bundle) for bundle in bundles], options.precisions)
    baseline = find_baseline(variants, options.baseline)
    return RunInfo(
        variants=tuple(variants),
        baseline=baseline.name,
        manifests=tuple(plan_manifest(name, Path(path)) for name, path in manifests.items()),
        decoder=options.decoding.describe(),
        normaliser=options.normaliser,
        resamples=options.resamples,
        seed=options.seed,
        tolerance=options.tolerance,
        command=options.command,
        machine=describe_machine(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _measure(
    output: Path,
    run: RunInfo,
    recognizers: Mapping[str, Recognizer],
    options: EvalOptions,
    report: Progress,
) -> None:
    """Measure speed and memory into ``rows/speed.json``, unless it holds the same measurement already."""
    path = output / ROWS / "speed.json"
    identity = _speed_identity(run, options)
    if path.exists() and _same(path, identity):
        return
    path.unlink(missing_ok=True)
    if not options.speed_utterances:
        return
    utterances = pick_utterances(_timeable(output, run), options.speed_utterances)
    machine = describe_machine()
    report("speed", 0, len(utterances))
    raw = measure_speed(recognizers, utterances, options.speed_rounds, lambda done, total: report("speed", done, total))
    footprints, notes = {}, []
    if utterances:
        report("memory", 0, len(run.variants))
    for number, variant in enumerate(run.variants if utterances else ()):
        longest = max(utterances, key=lambda utterance: utterance.duration)
        found, why = measure_footprint(
            Path(variant.bundle_path), variant.precision, Path(longest.path), options.decoding
        )
        if found is not None:
            footprints[variant.name] = found
        else:
            notes.append(f"Memory of {variant.name} could not be measured: {why}.")
        report("memory", number + 1, len(run.variants))
    record = SpeedRecord(identity, machine, tuple(utterances), raw, footprints, tuple(notes))
    write_text(path, dumps(record))


def _timeable(output: Path, run: RunInfo) -> list[TimedUtterance]:
    """Utterances that every variant recognised, in the order of the manifests."""
    found = []
    for manifest in run.manifests:
        rows = [read_rows(rows_path(output, variant.name, manifest.name)) for variant in run.variants]
        for entry in read_manifest(manifest.path):
            same = [one[entry.id] for one in rows]
            if all(row.error is None for row in same) and same[0].duration:
                found.append(TimedUtterance(manifest.name, entry.id, entry.input, same[0].duration))
    return found


def _speed_identity(run: RunInfo, options: EvalOptions) -> dict[str, Any]:
    """What decides the measured times; the load of the moment does not count."""
    identity = {
        "schema": SCHEMA,
        "models": {v.name: [v.model_sha256, v.geometry_sha256] for v in run.variants},
        "manifests": {m.name: m.fingerprint for m in run.manifests},
        "decoder": run.decoder,
        "utterances": options.speed_utterances,
        "rounds": options.speed_rounds,
        "machine": [run.machine.cpu, run.machine.cores, run.machine.system, run.machine.python],
        "versions": run.machine.versions,
    }
    plain: dict[str, Any] = to_json(identity)
    return plain


def _same(path: Path, identity: dict[str, Any]) -> bool:
    try:
        return load(SpeedRecord, path).identity == identity
    except KdcompressError:
        return False


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report to nobody."""
