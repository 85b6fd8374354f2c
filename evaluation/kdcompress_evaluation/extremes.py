"""The utterances that a report shows: most errors, and most errors more or fewer than the baseline."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.rows import iterate_rows
from kdcompress_evaluation.scoring import character_diff, word_diff
from kdcompress_evaluation.summary import WorstUtterance
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_evaluation.rows import Row
    from kdcompress_evaluation.scoring import DiffPiece, Normaliser
    from kdcompress_evaluation.summary import ManifestInfo

    Diff = Callable[[str, str], tuple[DiffPiece, ...]]

_WORST = 20
_CHANGED = 10


def diff_of(task: str, normaliser: Normaliser) -> Diff:
    """How a reference and a hypothesis of a task are laid side by side: by characters where those are counted."""
    align = character_diff if TASKS[task].counts_characters else word_diff
    return lambda reference, hypothesis: align(reference, hypothesis, normaliser)


@dataclass(frozen=True)
class _Shown:
    """One utterance with its errors."""

    row: Row
    errors: float
    baseline_errors: float | None
    words: int


class _Top:
    """The items with the highest rank, of any number offered in any order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[float, ...], _Shown]] = []

    def offer(self, rank: tuple[float, ...], shown: _Shown) -> None:
        """``rank`` is unique, so that what is kept does not depend on the order."""
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (rank, shown))
        elif rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (rank, shown))

    def sorted(self) -> list[tuple[int, _Shown]]:
        """Manifest and utterance, the highest rank first."""
        return [(-int(rank[-2]), shown) for rank, shown in sorted(self._heap, key=lambda item: item[0], reverse=True)]


class Extremes:
    """Collect while rows are read; the baseline's rows of a manifest must come first."""

    def __init__(self, baseline: str, diff: Diff) -> None:
        self._baseline = baseline
        self._diff = diff
        self._errors: dict[int, NDArray[np.float64]] = {}
        self._worst: dict[str, _Top] = defaultdict(lambda: _Top(_WORST))
        self._regressions: dict[str, _Top] = defaultdict(lambda: _Top(_CHANGED))
        self._improvements: dict[str, _Top] = defaultdict(lambda: _Top(_CHANGED))

    def add(
        self, manifest: int, variant: str, rows: Sequence[Row], errors: NDArray[np.float64], words: NDArray[np.float64]
    ) -> None:
        """Offer rows of one variant with their errors and reference words, both (N,)."""
        index = np.array([row.index for row in rows])
        before = None if variant == self._baseline else self._before(manifest, index)
        if before is None:
            self._remember(manifest, index, errors)
        for place, row in enumerate(rows):
            if row.error is not None:
                continue
            was = None if before is None else float(before[place])
            shown = _Shown(row, float(errors[place]), was, int(words[place]))
            # Among equals: the higher rate, then the order of the manifests.
            last = (-float(shown.words), -float(manifest), -float(row.index))
            if shown.errors > 0:
                self._worst[variant].offer((shown.errors, *last), shown)
            if was is not None and not np.isnan(was):
                if shown.errors > was:
                    self._regressions[variant].offer((shown.errors - was, *last), shown)
                elif shown.errors < was:
                    self._improvements[variant].offer((was - shown.errors, *last), shown)

    def _remember(self, manifest: int, index: NDArray[np.int64], errors: NDArray[np.float64]) -> None:
        known = self._errors.get(manifest, np.zeros(0))
        if index.max() >= len(known):
            grown = np.full(max(2 * len(known), int(index.max()) + 1), np.nan)
            grown[: len(known)] = known
            known = grown
        known[index] = errors
        self._errors[manifest] = known

    def _before(self, manifest: int, index: NDArray[np.int64]) -> NDArray[np.float64]:
        known = self._errors.get(manifest, np.zeros(0))
        inside = index < len(known)
        found = np.full(len(index), np.nan)
        found[inside] = known[index[inside]]
        return found

    def resolve(
        self, output: Path, manifests: Sequence[ManifestInfo], variants: Sequence[str]
    ) -> tuple[dict[str, tuple[WorstUtterance, ...]], ...]:
        """Worst, regressions and improvements by variant, with the texts of the baseline and the diffs."""
        kinds = (self._worst, self._regressions, self._improvements)
        wanted: dict[int, set[int]] = defaultdict(set)
        for tops in kinds:
            for name in variants:
                for number, shown in tops[name].sorted():
                    wanted[number].add(shown.row.index)
        theirs = {
            (number, row.index): row.hypothesis
            for number, manifest in enumerate(manifests)
            if wanted[number]
            for row in iterate_rows(output, self._baseline, manifest.name)
            if row.index in wanted[number]
        }
        return tuple(
            {
                name: tuple(
                    self._tell(manifests[number].name, shown, theirs[number, shown.row.index])
                    for number, shown in tops[name].sorted()
                )
                for name in variants
            }
            for tops in kinds
        )

    def _tell(self, manifest: str, shown: _Shown, baseline: str) -> WorstUtterance:
        row = shown.row
        return WorstUtterance(
            manifest=manifest,
            id=row.id,
            input=row.input,
            speaker=row.speaker,
            duration=row.duration,
            errors=shown.errors,
            baseline_errors=shown.baseline_errors,
            words=shown.words,
            reference=row.reference,
            hypothesis=row.hypothesis,
            baseline_hypothesis=None if shown.baseline_errors is None else baseline,
            diff=self._diff(row.reference, row.hypothesis),
        )
