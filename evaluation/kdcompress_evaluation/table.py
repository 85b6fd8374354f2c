"""One pass over the rows: numbers are kept, texts only of the few utterances that are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.errors import PairingError, RowsError
from kdcompress_evaluation.extremes import Extremes, diff_of
from kdcompress_evaluation.failures import Failures
from kdcompress_evaluation.fields import Fields
from kdcompress_evaluation.metrics import character_error_rate, figures_beside, metrics_for, word_error_rate
from kdcompress_evaluation.rows import FAILURES, iterate_rows
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.streaming_summary import StreamNumbers
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_evaluation.metrics import Metric
    from kdcompress_evaluation.rows import Row
    from kdcompress_evaluation.summary import ManifestInfo, RunInfo

_BATCH = 256
"""Utterances scored at once."""
_NEVER = len(FAILURES) + 1
"""State of an utterance without a row."""
_COUNTS = ("wer", "cer")
"""Metrics whose last column is the length of the reference."""


@dataclass
class Scored:
    """One variant over one manifest, in the order of the manifest."""

    statistics: dict[str, NDArray[np.float64]]
    """By metric, (N, K)."""
    states: NDArray[np.uint8]
    """(N,): 0 recognised, else 1 + the number of the kind of failure in ``rows.FAILURES``."""
    streams: StreamNumbers
    """What was noted of streams."""

    @property
    def recognised(self) -> NDArray[np.bool_]:
        """(N,): utterances without a failure."""
        return np.asarray(self.states == 0)

    def failed(self, kind: str) -> int:
        """Utterances that failed in this way."""
        return int((self.states == FAILURES.index(kind) + 1).sum())


@dataclass
class Table:
    """Everything that the summary is derived from, in numbers; and the texts that it shows."""

    run: RunInfo
    """What was asked for."""
    metrics: tuple[Metric, ...]
    """Of the task, the first one decides."""
    words: Metric
    """Counts words, whatever the task: substitutions, deletions, insertions, reference."""
    characters: Metric
    """Counts characters."""
    fields: Fields
    """What the manifests say about the utterances."""
    extremes: Extremes
    """Utterances with most errors, and with most errors more or fewer than the baseline."""
    failures: Failures
    """Utterances that could not be recognised."""
    scored: dict[str, list[Scored]] = field(default_factory=dict)
    """By variant, then by manifest, in order."""

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.metrics[0]

    def everything(self) -> dict[str, Metric]:
        """Every metric that is counted, by name."""
        return {metric.info.name: metric for metric in (*self.metrics, self.words, self.characters)}


def read_table(output: Path, run: RunInfo) -> Table:
    """Read and score every row; the texts of one batch are in memory at a time.

    Raises:
        RowsError: rows are missing, or of a variant or manifest that is not in ``run.json``.
        PairingError: variants did not recognise the same utterances.
    """
    normaliser = NORMALISERS[run.normaliser]
    table = Table(
        run=run,
        metrics=(*metrics_for(run.task, normaliser), *figures_beside(run.task, normaliser)),
        words=word_error_rate(normaliser),
        characters=character_error_rate(normaliser),
        fields=Fields([m.utterances for m in run.manifests], run.slices, run.resample_by),
        extremes=Extremes(run.baseline, diff_of(run.task, normaliser)),
        failures=Failures(),
    )
    # The baseline comes first: the others are compared with it as they are read.
    names = [run.baseline, *(v.name for v in run.variants if v.name != run.baseline)]
    for number, manifest in enumerate(run.manifests):
        keys: NDArray[np.uint64] | None = None
        for name in names:
            scored, own = _read(output, table, number, name)
            if keys is None:
                keys = own
            _check_pairs(name, run.baseline, manifest, keys, own)
            table.scored.setdefault(name, []).append(scored)
    return table


def _read(output: Path, table: Table, number: int, variant: str) -> tuple[Scored, NDArray[np.uint64]]:
    """Rows of one variant over one manifest; and a key of every utterance's id and reference."""
    run = table.run
    manifest = run.manifests[number]
    size = manifest.utterances
    metrics = table.everything()
    scored = Scored({}, np.full(size, _NEVER, dtype=np.uint8), StreamNumbers(table.primary, size))
    keys = np.zeros(size, dtype=np.uint64)
    worst = metrics[TASKS[run.task].worst_by]
    for batch in _batches(iterate_rows(output, variant, manifest.name), _BATCH):
        index = _indices(batch, manifest)
        found = {name: metric.of_rows(batch) for name, metric in metrics.items()}
        for name, statistics in found.items():
            whole = scored.statistics.setdefault(name, np.zeros((size, statistics.shape[1])))
            whole[index] = statistics
        scored.states[index] = [_state(row) for row in batch]
        keys[index] = [_key(row) for row in batch]
        scored.streams.add(batch)
        costs = worst.costs(found[worst.info.name])
        counted = worst if worst.info.name in _COUNTS else table.words
        lengths = found[counted.info.name][:, -1]
        table.extremes.add(number, variant, batch, costs, lengths)
        for row in batch:
            if variant == run.baseline:
                table.fields.add(number, row.index, row.speaker, row.extra)
                table.fields.add_facts(number, row.index, _of_reference(run.task, row))
            table.fields.add_facts(number, row.index, row.facts)
            if row.duration is not None and np.isnan(table.fields.durations[number][row.index]):
                table.fields.durations[number][row.index] = row.duration
            table.failures.add(number, manifest.name, variant, row)
    _check_complete(output, scored, variant, manifest)
    return scored, keys


def _of_reference(task: str, row: Row) -> dict[str, Any]:
    """What the reference of a text line says about itself, to slice by."""
    if not TASKS[task].counts_characters:
        return {}
    return {"characters": len(row.reference), "digits in it": any(map(str.isdigit, row.reference))}


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def _indices(batch: list[Row], manifest: ManifestInfo) -> NDArray[np.int64]:
    index = np.array([row.index for row in batch])
    if index.max() >= manifest.utterances:
        raise RowsError(
            f"a row of {manifest.name} is number {index.max() + 1} of {manifest.utterances}; remove the rows of this "
            "manifest and run the same `kdcompress eval` again"
        )
    return index


def _state(row: Row) -> int:
    if row.error is None:
        return 0
    return FAILURES.index(row.error_kind) + 1 if row.error_kind in FAILURES else FAILURES.index("model") + 1


def _key(row: Row) -> int:
    text = f"{row.id}\0{row.reference}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _check_complete(output: Path, scored: Scored, variant: str, manifest: ManifestInfo) -> None:
    missing = np.flatnonzero(scored.states == _NEVER)
    if len(missing):
        raise RowsError(
            f"{output}: {variant} on {manifest.name}: {len(missing)} rows of {manifest.utterances} are missing, the "
            f"first of utterance {missing[0] + 1}; run the same `kdcompress eval` again to complete them, or add the "
            "shards that are missing"
        )


def _check_pairs(
    variant: str, baseline: str, manifest: ManifestInfo, keys: NDArray[np.uint64], own: NDArray[np.uint64]
) -> None:
    other = np.flatnonzero(keys != own)
    if len(other):
        raise PairingError(
            f"{variant} and {baseline} did not recognise the same utterances of {manifest.name}: {len(other)} have "
            f"another id or reference, the first is number {other[0] + 1}; run both over the same manifest"
        )
