"""The search: make candidates, measure them side by side, mend the best, decide, and write down why.

Cheap measures come first. Every candidate is made, compared with float32 on a few recordings and timed; errors on
the dev manifest are counted only for candidates that no other beats in both size and speed, unless that other fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import onnxruntime

from kdcompress_export.entries import check_disjoint, choose_entries
from kdcompress_export.errors import QuantizationError
from kdcompress_export.prove import FLOAT, MAX_WORSE_POINTS, MIN_AGREEMENT
from kdcompress_export.quantization.calibration import Calibration
from kdcompress_export.quantization.decide import Rules, cheapest, choose, objections, runner_up
from kdcompress_export.quantization.measure import Candidate, ErrorCounter, Table, add_agreement, add_speed, dominated
from kdcompress_export.quantization.mixed import mix
from kdcompress_export.quantization.options import AUTO, NONE, SearchOptions
from kdcompress_export.quantization.presets import find_preset
from kdcompress_export.quantization.repairs import Repair, apply_repaired
from kdcompress_export.quantization.report import build_result
from kdcompress_export.quantization.rows import Row
from kdcompress_export.quantization.schemes import find_scheme
from kdcompress_export.quantization.sensitivity import Sensitivity, measure_sensitivity
from kdcompress_export.quantization.workspace import Workspace
from kdcompress_export.signature import METADATA_KEY, geometry
from kdcompress_runtime.bundle import sha256
from kdcompress_runtime.errors import ModelError
from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress_export.inputs import Units
    from kdcompress_export.quantization.options import SearchResult
    from kdcompress_export.quantization.schemes import Scheme
    from kdcompress_export.source import Source

_PROOF_RECORDINGS = 8
_SENSITIVITY_RECORDINGS = 4
_CURABLE = {"wer", "wer_high", "cer", "cer_high", "agreement"}
"""Figures of a budget that more layers in float32 can mend."""
_MENDABLE = {"agreement", "errors"}
"""What more layers in float32 can cure; more items are needed where too few were to tell."""


def search(
    source: Source,
    options: SearchOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> SearchResult:
    """Find the smallest, fastest file that is still the same model.

    Args:
        source: the float32 model, its calibration manifest and its dev manifest.
        options: what to try and what to demand.
        say: called with one line at every stage.
        on_progress: called with what is being done, how much of it is done and how much there is.

    Returns:
        Files, choice, and the whole table. A budget that is not met is in ``verdict``; ``require_budget`` raises.

    Raises:
        ExportError: dev and calibration share items.
        QuantizationError: the scheme that was asked for by name cannot be applied.
        ManifestError, AudioError, ImageError, SourceTextError: data cannot be read.
        ModelError: the float32 graph cannot be run.
    """
    task = _Search(source, options or SearchOptions(), say, on_progress)
    if source.calibration is not None and source.dev is not None:
        check_disjoint(source.calibration, source.dev)
    table = task.measure(Table(task.baseline(), [], []), task.schemes())
    table = task.repair(table)
    table = task.mend(table)
    table = task.complete(table)
    return build_result(source, task.options, task.rules, table, recordings=task.proof, errors=task.errors)


@dataclass(frozen=True)
class _Search:
    """One search; what it needs again and again is computed once."""

    source: Source
    options: SearchOptions
    say: Callable[[str], None]
    on_progress: Callable[[str, int, int], None]

    @cached_property
    def rules(self) -> Rules:
        """What a candidate must hold."""
        usual, asked = MAX_WORSE_POINTS[self.source.inputs.counted], self.options.allowed_points
        return Rules(usual if asked is None else asked, MIN_AGREEMENT, self.options.parsed_budget())

    @cached_property
    def calibration(self) -> Calibration | None:
        """Training recordings; None where the source names no manifest."""
        if self.source.calibration is None:
            return None
        return Calibration(self.source.load(), self._read(self.source.calibration, self.options.subset_size))

    @cached_property
    def proof(self) -> list[Units]:
        """Recordings on which candidates are compared with float32: of dev where there is one."""
        manifest = self.source.dev or self.source.calibration
        return self._read(manifest, _PROOF_RECORDINGS) if manifest is not None else []

    @cached_property
    def workspace(self) -> Workspace:
        """Work that an interrupted search had done."""
        manifests = {"calibration": self.source.calibration, "dev": self.source.dev}
        prints = {name: manifest_fingerprint(path) for name, path in manifests.items() if path is not None}
        origin = {
            "source": sha256(self.source.content),
            "subset": self.options.subset_size,
            "dev_limit": self.options.dev_limit,
            "onnxruntime": onnxruntime.__version__,
            **prints,
        }
        return Workspace(self.options.work, origin)

    @cached_property
    def errors(self) -> ErrorCounter | None:
        """Counts errors; None without a dev manifest."""
        if self.source.dev is None:
            return None
        label = f"Recognising {self.source.dev.name}"
        return ErrorCounter(
            self.source.dev,
            self.options.dev_limit,
            self.workspace,
            lambda done, count: self.on_progress(label, done, count),
        )

    def schemes(self) -> tuple[Scheme, ...]:
        """What to try."""
        if self.options.quantize == NONE:
            return ()
        if self.options.quantize != AUTO:
            return (find_scheme(self.options.quantize),)
        return find_preset(self.options.cpu).schemes

    def baseline(self) -> Candidate:
        """float32, measured."""
        size = len(self.source.content)
        row = Row(FLOAT, FLOAT, size_bytes=size, size_ratio=1.0, whole_ratio=1.0, chunk_ratio=1.0)
        found = Candidate(row, self.source.content, self.source.load())
        if self.errors is None:
            self.say("Error rates are not measured: there is no dev manifest")
            return found
        self.say(f"Measuring the error rate of float32 on {self.source.dev}")
        return self.errors.add_errors([found])[0]

    def measure(self, table: Table, schemes: Sequence[Scheme], repair: Repair | None = None) -> Table:
        """Make and measure schemes, errors included where they can decide."""
        made, refused = self._make(schemes, repair)
        if not made:
            baseline = table.baseline
            if baseline.row.whole is None:  # a budget may bound what float32 takes
                baseline, _ = add_speed(baseline, [], self.options.rounds)
            return replace(table, baseline=baseline, refused=[*table.refused, *refused])
        names = ", ".join(one.name for one in made)
        self.say(f"Comparing with float32: {names}")
        made = add_agreement(table.baseline, made, self.proof or self._noise())
        baseline, made = add_speed(table.baseline, made, self.options.rounds)
        return self._count_errors(
            replace(
                table,
                baseline=baseline,
                candidates=[*table.candidates, *made],
                refused=[*table.refused, *refused],
            )
        )

    def repair(self, table: Table) -> Table:
        """Try each repair on the cheapest candidate that it suits."""
        for repair in self.options.repairs:
            suited = [one for one in table.candidates if one.scheme is not None and one.scheme.kind in repair.kinds]
            if not suited or self.calibration is None:
                continue
            best = _cheapest_of(suited)
            if best.scheme is not None:
                table = self.measure(table, [best.scheme], repair)
        return table

    def mend(self, table: Table) -> Table:
        """Keep the guilty layers of the cheapest candidate that only makes too many errors in float32."""
        mendable = self._mendable(table) if self.options.mixed else None
        scheme = mendable or (self._cheapest(table) if self.options.sensitivity else None)
        if scheme is None:
            return table
        self.say(f"Measuring which layers of {scheme.name} cost the most")
        key = self.workspace.key("sensitivity", scheme.to_json())
        found = self.workspace.sensitivity(key, lambda: self._sensitivity(scheme))
        table = replace(table, sensitivity=found)
        if mendable is None:
            return table
        box = [table]

        def attempt(mixed: Scheme) -> Row:
            box[0] = self.measure(box[0], [mixed])
            return next(row for row in box[0].rows if row.name == mixed.name)

        limit = choose(table.rows, self.rules)[0]
        most = limit.cost if limit is not None else float("inf")

        def hopeless(row: Row) -> bool:
            kinds = {one.kind for one in objections(row, self.rules)}
            budget = self.rules.budget
            missed = {bound.figure for bound in budget.bounds if bound.miss(row.figures())} if budget else set()
            return bool(kinds & {"slow", "made"}) or bool(missed - _CURABLE) or row.cost >= most

        for _ in mix(scheme, found, attempt, lambda row: not objections(row, self.rules), hopeless):
            pass
        return box[0]

    def complete(self, table: Table) -> Table:
        """Count the errors of the file that is kept although float32 wins, if that was left out."""
        while self.errors is not None:
            row = runner_up(table.rows, self.rules)
            winner, _ = choose(table.rows, self.rules)
            if row is None or row.rate is not None or (winner is not None and winner.precision != FLOAT):
                break
            counted = [self.errors.add_errors([one])[0] if one.name == row.name else one for one in table.candidates]
            table = replace(table, candidates=[replace(one, row=_uncalled(one.row)) for one in counted])
        return table

    def _mendable(self, table: Table) -> Scheme | None:
        """The cheapest scheme that fails by its errors alone and would win without them."""
        winner, _ = choose(table.rows, self.rules)
        most = winner.cost if winner is not None else float("inf")
        fit = []
        for one in table.candidates:
            kinds = {found.kind for found in objections(one.row, self.rules)}
            if one.scheme is not None and "+" not in one.name and one.row.cost < most and self._is_curable(one, kinds):
                fit.append(one)
        return _cheapest_of(fit).scheme if fit else None

    def _is_curable(self, one: Candidate, kinds: set[str]) -> bool:
        """Whether all that speaks against a candidate is what layers in float32 can cure."""
        budget = self.rules.budget
        missed = {bound.figure for bound in budget.bounds if bound.miss(one.row.figures())} if budget else set()
        return bool(kinds) and kinds <= {*_MENDABLE, "budget"} and missed <= _CURABLE

    def _cheapest(self, table: Table) -> Scheme | None:
        plain = [one for one in table.candidates if one.scheme is not None and "+" not in one.name]
        return _cheapest_of(plain).scheme if plain else None

    def _sensitivity(self, scheme: Scheme) -> Sensitivity:
        recordings = list(self.calibration.recordings)[:_SENSITIVITY_RECORDINGS] if self.calibration else self._noise()
        label = f"Layers of {scheme.name}"
        return measure_sensitivity(
            scheme,
            self.source.plain,
            self.source.load,
            recordings,
            calibration=self.calibration,
            on_layer=lambda done, count: self.on_progress(label, done, count),
        )

    def _make(self, schemes: Sequence[Scheme], repair: Repair | None) -> tuple[list[Candidate], list[Row]]:
        made: list[Candidate] = []
        refused: list[Row] = []
        for index, scheme in enumerate(schemes):
            name = scheme.name + (f" + {repair.name}" if repair else "")
            self.on_progress("Quantizing", index, len(schemes))
            self.say(f"Quantizing: {name}")
            row = Row(name, scheme.precision, scheme.to_json())
            try:
                made.append(self._load(row, scheme, repair))
            except (QuantizationError, ModelError) as error:
                if self.options.quantize not in {AUTO, NONE} and repair is None and not scheme.keep_float:
                    raise
                refused.append(replace(row, refused=str(error)))
        return made, refused

    def _load(self, row: Row, scheme: Scheme, repair: Repair | None) -> Candidate:
        properties = {METADATA_KEY: json.dumps(geometry(self.source.metadata, scheme.precision))}
        key = self.workspace.key("model", scheme.to_json(), repair.name if repair else "", properties)
        small = self.workspace.model(
            key,
            lambda: apply_repaired(
                scheme,
                self.source.plain,
                self.calibration if scheme.needs_calibration or repair else None,
                properties,
                repair,
            ),
        )
        row = replace(
            row,
            size_bytes=len(small.content),
            size_ratio=len(small.content) / len(self.source.content),
            quantized=small.counts.small,
            floating=small.counts.floating,
            calibration_frames=small.calibration_frames,
        )
        return Candidate(row, small.content, self.source.load(small.content, scheme.precision), scheme)

    def _count_errors(self, table: Table) -> Table:
        """Count the errors of what can still win, and of what another beats only when that other fails."""
        if self.errors is None:
            return table
        while True:
            open_now, notes = self._undecided(table)
            candidates = [
                replace(one, row=replace(one.row, note=notes.get(one.name, one.row.note))) for one in table.candidates
            ]
            table = replace(table, candidates=candidates)
            if not open_now:
                return table
            chosen = [one for one in candidates if one.name in open_now]
            self.say(f"Measuring error rates on {self.source.dev}: {', '.join(one.name for one in chosen)}")
            counted = {one.name: one for one in self.errors.add_errors(chosen)}
            table = replace(table, candidates=[counted.get(one.name, one) for one in candidates])

    def _undecided(self, table: Table) -> tuple[set[str], dict[str, str]]:
        """Names of candidates whose errors must be counted now, and notes for those whose need not."""
        failed = {one.name for one in table.candidates if objections(one.row, self.rules) and one.row.rate is not None}
        rivals = [one.row for one in table.candidates if one.name not in failed]
        needed: set[str] = set()
        notes: dict[str, str] = {}
        for one in table.candidates:
            if one.row.rate is not None:
                continue
            against = [found for found in objections(one.row, self.rules) if found.kind in {"slow", "agreement"}]
            better = dominated(one.row, rivals)
            named = self.options.quantize == one.name
            if against and self.rules.budget is None and not named:
                notes[one.name] = f"errors not counted: it {against[0].text}"
            elif better:
                notes[one.name] = f"errors not counted: {better} is smaller and faster"
            else:
                needed.add(one.name)
                notes[one.name] = ""
        return needed, notes

    def _read(self, manifest: Path, count: int) -> list[Units]:
        return list(self.source.inputs.read_all(choose_entries(manifest, count)))

    def _noise(self) -> list[Units]:
        return self.source.inputs.probe()


def _uncalled(row: Row) -> Row:
    """Drop the note that errors were not counted where they were."""
    return replace(row, note="") if row.rate is not None else row


def _cheapest_of(candidates: Sequence[Candidate]) -> Candidate:
    """Least cost; within the noise of timing, closest to float32."""
    best = cheapest([one.row for one in candidates])
    return next(one for one in candidates if one.row is best)
