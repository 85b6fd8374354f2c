"""Candidates measured side by side: agreement, speed with turns, errors on the dev manifest. Cheap things first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdcompress_export.agreement import compare_models
from kdcompress_export.error_rates import combine, count_errors
from kdcompress_export.inputs import inputs_of
from kdcompress_export.prove import FLOAT
from kdcompress_export.timing import time_steps, time_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kdcompress_export.error_rates import ErrorRates, ItemErrors, References
    from kdcompress_export.inputs import Units
    from kdcompress_export.quantization.rows import Row
    from kdcompress_export.quantization.schemes import Scheme
    from kdcompress_export.quantization.sensitivity import Sensitivity
    from kdcompress_export.quantization.workspace import Workspace
    from kdcompress_runtime.model import CtcModel


@dataclass(frozen=True)
class Rounds:
    """How often each candidate is timed."""

    whole: int = 15
    """Steps over a long input."""
    chunk: int = 150
    """Steps over a chunk."""


@dataclass(frozen=True)
class Candidate:
    """A file, loaded, and what is known of it."""

    row: Row
    """What was measured."""
    content: bytes
    """ONNX."""
    model: CtcModel
    """The same, loaded."""
    scheme: Scheme | None = None
    """None for float32."""

    @property
    def name(self) -> str:
        """As in the table."""
        return self.row.name


@dataclass(frozen=True)
class Table:
    """All candidates so far."""

    baseline: Candidate
    """float32."""
    candidates: list[Candidate]
    """Files that were made."""
    refused: list[Row]
    """Schemes without a file."""
    sensitivity: Sensitivity | None = None
    """Of the candidate that was mended."""

    @property
    def rows(self) -> list[Row]:
        """float32 first, then what was made, then what was refused."""
        return [self.baseline.row, *(one.row for one in self.candidates), *self.refused]


def add_agreement(baseline: Candidate, candidates: Sequence[Candidate], recordings: Sequence[Units]) -> list[Candidate]:
    """Compare each candidate's log-probabilities with those of float32."""
    return [
        replace(one, row=replace(one.row, agreement=compare_models(baseline.model, one.model, recordings)))
        for one in candidates
    ]


def add_speed(
    baseline: Candidate, candidates: Sequence[Candidate], rounds: Rounds
) -> tuple[Candidate, list[Candidate]]:
    """Time float32 and all candidates, taking turns; ratios are to float32 in the same run.

    A model that takes whole inputs has no chunks.
    """
    models = {one.name: one.model for one in (baseline, *candidates)}
    whole = time_whole(models, rounds.whole)
    metadata, long = baseline.model.metadata, inputs_of(baseline.model).long_words
    chunk = time_steps(models, metadata.chunk_frames, rounds.chunk) if metadata.streaming else {}

    def timed(one: Candidate) -> Candidate:
        row = replace(
            one.row,
            long=long,
            whole=whole[one.name],
            chunk=chunk.get(one.name),
            whole_ratio=whole[FLOAT].cpu / whole[one.name].cpu,
            chunk_ratio=chunk[FLOAT].cpu / chunk[one.name].cpu if chunk else None,
        )
        return replace(one, row=row)

    return timed(baseline), [timed(one) for one in candidates]


class ErrorCounter:
    """Recognises the dev manifest: every recording once for all candidates of a call, every candidate once at all."""

    def __init__(
        self, manifest: Path, limit: int | None, workspace: Workspace, on_item: Callable[[int, int], None]
    ) -> None:
        """Prepare to recognise the first ``limit`` items of a manifest."""
        self._manifest, self._limit, self._workspace, self._on_item = manifest, limit, workspace, on_item
        self._references: References | None = None
        self._errors: dict[str, ItemErrors] = {}

    def add_errors(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Count the errors of each candidate; float32 is counted before any other.

        Raises:
            ManifestError, AudioError: the manifest or a recording cannot be read.
        """
        unknown: dict[str, CtcModel] = {}
        for one in candidates:
            known = self._workspace.errors(one.content)
            if known is not None:
                self._errors[one.name] = known
            elif one.name not in self._errors:
                unknown[one.name] = one.model
        if unknown or self._references is None:
            counted = inputs_of(candidates[0].model).counted
            self._references, found = count_errors(unknown, self._manifest, self._limit, self._on_item, counted)
            self._errors.update(found)
        for one in candidates:
            self._workspace.keep_errors(one.content, self._errors[one.name])
        rates = self.rates()
        return [replace(one, row=_with_errors(one.row, rates)) for one in candidates]

    def rates(self, names: Mapping[str, str] | None = None) -> ErrorRates:
        """Rates of everything counted, or of some under other names (``{new: old}``)."""
        if self._references is None:
            raise ValueError("nothing was counted yet")
        chosen = names or {name: name for name in self._errors}
        return combine(self._references, {new: self._errors[old] for new, old in chosen.items()})


def _with_errors(row: Row, rates: ErrorRates) -> Row:
    rate, baseline = rates.rates[row.name], rates.rates[FLOAT]
    row = replace(row, rate=rate, words=rates.words, total=rates.total)
    if row.name == FLOAT:
        return row
    kinds = ("substitutions", "deletions", "insertions")
    shift = {kind: getattr(rate, kind) - getattr(baseline, kind) for kind in kinds}
    return replace(row, difference=rates.paired(row.name, FLOAT), error_shift=shift)


def dominated(row: Row, others: Sequence[Row]) -> str:
    """Name of a candidate that is smaller and clearly faster; empty when there is none."""
    for other in others:
        if other.name == row.name or other.size_ratio is None or row.size_ratio is None:
            continue
        pairs = [(other.whole_ratio, row.whole_ratio), (other.chunk_ratio, row.chunk_ratio)]
        timed = [one / two for one, two in pairs if one is not None and two is not None]
        faster = bool(timed) and min(timed) > _CLEARLY
        smaller = other.size_ratio < row.size_ratio
        if faster and smaller:
            return other.name
    return ""


_CLEARLY = 1.1
"""Timings of the same file differ by less."""
