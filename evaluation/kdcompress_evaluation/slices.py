"""The first metric on parts of the data: by length, by speaker, by every field of the manifests that makes groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.fields import DURATION, SPEAKER
from kdcompress_evaluation.sampling import difference, draw_manifests, estimate
from kdcompress_evaluation.summary import Slice, SliceRate
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.fields import Group
    from kdcompress_evaluation.sampling import Units
    from kdcompress_evaluation.table import Table

_MANY_SPEAKERS = 60
"""Of more speakers only the best and the worst are shown."""
_SHOWN_SPEAKERS = 5


def make_slices(table: Table, units: Units) -> tuple[Slice, ...]:
    """Cut the data of all manifests; every slice is resampled on its own, all variants in the same draws."""
    lengths, speakers = table.fields.by_duration(), table.fields.by_speaker()
    found = {DURATION: lengths} if len(lengths) > 1 else {}
    if len(speakers) > _MANY_SPEAKERS and SPEAKER not in table.run.slices:
        name = f"speaker, the {_SHOWN_SPEAKERS} best and worst of {len(speakers)} for {table.run.baseline}"
        found[name] = _best_and_worst(table, speakers)
    elif len(speakers) > 1:
        found[SPEAKER] = speakers
    found.update({name: groups for name, groups in table.fields.groups().items() if name not in found})
    return tuple(_slice(table, units, field, group) for field, groups in found.items() for group in groups)


def _slice(table: Table, units: Units, field: str, group: Group) -> Slice:
    metric, run = table.primary, table.run
    names = [variant.name for variant in run.variants]
    statistics = [
        np.hstack([table.scored[name][number].statistics[metric.info.name][rows] for name in names])
        for number, rows in enumerate(group.rows)
    ]
    pooled, _ = draw_manifests(statistics, units.some(group.rows), resamples=run.resamples, seed=run.seed)
    width = len(metric.columns)
    sums = {name: pooled.part(slice(k * width, (k + 1) * width)) for k, name in enumerate(names)}
    base = sums[run.baseline]
    count = sum(int(rows.sum()) for rows in group.rows)
    return Slice(
        field=field,
        value=group.value,
        utterances=count,
        # Where words are counted, they are the last column of the first metric.
        reference=int(base.total[-1]) if TASKS[run.task].counts_words else count,
        rates={
            name: SliceRate(
                estimate=estimate(metric, own),
                difference=None if name == run.baseline else difference(metric, own, base),
            )
            for name, own in sums.items()
        },
    )


def _best_and_worst(table: Table, speakers: Sequence[Group]) -> list[Group]:
    """Speakers with the lowest and the highest cost of the baseline."""
    metric = table.primary
    parts = [scored.statistics[metric.info.name] for scored in table.scored[table.run.baseline]]

    def cost(group: Group) -> float:
        sums: NDArray[np.float64] = np.sum(
            [part[rows].sum(axis=0) for part, rows in zip(parts, group.rows, strict=True)], axis=0
        )
        value = float(np.nan_to_num(metric.value(sums)))
        return value if metric.info.lower_is_better else -value

    order = sorted(speakers, key=cost)
    return [*order[:_SHOWN_SPEAKERS], *order[-_SHOWN_SPEAKERS:]]
