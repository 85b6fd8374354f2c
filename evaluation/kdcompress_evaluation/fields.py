"""What manifests say about utterances beside their text: collected in numbers, then cut into slices."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SPEAKER = "speaker"
DURATION = "duration"
_DURATIONS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_MAX_VALUES = 12
"""A field with more different values suggests no slices by itself; of one that was asked for, as many are shown."""
_MAX_LENGTHS = 4
"""Different lengths that are shown one by one."""
_QUARTILES = (25, 50, 75)


@dataclass(frozen=True)
class Group:
    """Utterances that share something."""

    value: str
    """In words."""
    rows: tuple[NDArray[np.bool_], ...]
    """By manifest, (N,): which utterances are meant."""


@dataclass
class _Column:
    """One field: a code for each utterance; numbers are kept as such, too."""

    codes: list[NDArray[np.int32]]
    numbers: list[NDArray[np.float64]] | None
    """``None`` once a value was no number."""
    known: dict[Any, int] = field(default_factory=dict)
    """Code by value."""


class Fields:
    """Collect the fields of rows, manifest by manifest.

    Args:
        sizes: utterances of each manifest.
        wanted: fields to slice by in any case.
        resample_by: field whose values the bootstrap draws as wholes.
    """

    def __init__(self, sizes: Sequence[int], wanted: Sequence[str], resample_by: str = SPEAKER) -> None:
        self.durations: list[NDArray[np.float64]] = [np.full(size, np.nan) for size in sizes]
        """Seconds by manifest, (N,); not a number where nobody knows."""
        self._sizes = tuple(sizes)
        self._wanted = tuple(wanted)
        self._resample_by = resample_by
        self._speakers = self._column()
        self._columns: dict[str, _Column | None] = {}
        self._measured: set[str] = set()

    def add(self, manifest: int, index: int, speaker: str | None, extra: Mapping[str, Any]) -> None:
        """Note what the manifest says about one utterance."""
        if speaker:
            self._put(self._speakers, manifest, index, speaker, wanted=True)
        for name, value in extra.items():
            if isinstance(value, (str, int, float)):
                column = self._columns.setdefault(name, self._column())
                wanted = name in self._wanted or name == self._resample_by
                if column is not None and not self._put(column, manifest, index, value, wanted=wanted):
                    self._columns[name] = None

    def add_facts(self, manifest: int, index: int, facts: Mapping[str, Any]) -> None:
        """Note what was found about the input or reference of one utterance; any variant may know it.

        Lengths among them are cut into quarters sooner than fields of a manifest.
        """
        self._measured.update(facts)
        self.add(manifest, index, None, facts)

    def resampled(self, manifest: int) -> list[str | None]:
        """Of every utterance what ``resample_by`` says; ``None``: nothing."""
        column = self._speakers if self._resample_by == SPEAKER else self._columns.get(self._resample_by)
        if column is None:
            return [None] * self._sizes[manifest]
        names: list[str | None] = [*map(str, column.known), None]
        return [names[code] for code in column.codes[manifest]]

    def by_speaker(self) -> list[Group]:
        """One group a speaker, by name."""
        return self._by_value(self._speakers, sorted(self._speakers.known))

    def by_duration(self) -> list[Group]:
        """Groups by length that hold utterances, doubling."""
        return _binned(self.durations, _DURATIONS, " s")

    def groups(self) -> dict[str, list[Group]]:
        """Groups by every other field that makes at least two, or was asked for; unknown values belong to none."""
        found = {name: self._groups(name, column) for name, column in self._columns.items() if column is not None}
        return {name: groups for name, groups in sorted(found.items()) if len(groups) > 1 or name in self._wanted}

    def unknown(self) -> list[str]:
        """Fields that were asked for and that no utterance has."""
        return [name for name in self._wanted if name not in {SPEAKER, DURATION, *self._columns}]

    def _groups(self, name: str, column: _Column) -> list[Group]:
        if len(column.known) <= (_MAX_LENGTHS if name in self._measured else _MAX_VALUES):
            return self._by_value(column, sorted(column.known, key=_order))
        if column.numbers is not None:
            every = np.concatenate(column.numbers)
            edges = np.unique(np.percentile(every[~np.isnan(every)], _QUARTILES))
            return _binned(column.numbers, edges.tolist(), "")
        if name not in self._wanted:
            return []
        counts = Counter(code for codes in column.codes for code in codes.tolist() if code >= 0)
        often = sorted(column.known, key=lambda value: (-counts[column.known[value]], _order(value)))[:_MAX_VALUES]
        shown = {column.known[value] for value in often}
        others = tuple((codes >= 0) & ~np.isin(codes, list(shown)) for codes in column.codes)
        rest = Group(f"{len(column.known) - len(often)} other values", others)
        return [*self._by_value(column, often), rest]

    def _by_value(self, column: _Column, values: Sequence[Any]) -> list[Group]:
        return [Group(_told(v), tuple(codes == column.known[v] for codes in column.codes)) for v in values]

    def _column(self) -> _Column:
        return _Column(
            [np.full(size, -1, dtype=np.int32) for size in self._sizes], [np.full(size, np.nan) for size in self._sizes]
        )

    def _put(self, column: _Column, manifest: int, index: int, value: Any, *, wanted: bool) -> bool:  # noqa: ANN401
        """Note a value; ``False``: the field has too many values, and not all are numbers, to be sliced by."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            column.numbers = None
        elif not math.isfinite(value):
            return True
        elif column.numbers is not None:
            column.numbers[manifest][index] = value
        # Numbers beyond the first few are told apart by their bins; only fields that were asked for keep every value.
        if wanted or len(column.known) <= _MAX_VALUES:
            column.codes[manifest][index] = column.known.setdefault(_key(value), len(column.known))
        return wanted or column.numbers is not None or len(column.known) <= _MAX_VALUES


def _binned(numbers: Sequence[NDArray[np.float64]], edges: Sequence[float], unit: str) -> list[Group]:
    """Groups of numbers up to and with each edge, and of those over the last; only those that hold any."""
    bins = [np.where(np.isnan(one), -1, np.searchsorted(edges, one)) for one in numbers]
    names = [
        f"up to {edges[0]:.4g}{unit}",
        *(f"{low:.4g} to {high:.4g}{unit}" for low, high in pairwise(edges)),
        f"over {edges[-1]:.4g}{unit}",
    ]
    groups = [Group(name, tuple(one == number for one in bins)) for number, name in enumerate(names)]
    return [group for group in groups if any(rows.any() for rows in group.rows)]


def _key(value: Any) -> Any:  # noqa: ANN401 - JSON is Any
    """A key under which ``True`` and 1 are two things."""
    return ("yes" if value else "no",) if isinstance(value, bool) else value


def _order(value: Any) -> tuple[bool, Any]:  # noqa: ANN401 - JSON is Any
    """Numbers by size, then words."""
    return (True, _told(value)) if isinstance(value, (str, tuple)) else (False, value)


def _told(value: Any) -> str:  # noqa: ANN401 - JSON is Any
    if isinstance(value, tuple):
        return str(value[0])
    return f"{value:.4g}" if isinstance(value, float) else str(value)
