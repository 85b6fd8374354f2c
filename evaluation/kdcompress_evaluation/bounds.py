"""Which bounds of a budget have a meaning for a task."""

from __future__ import annotations

from kdcompress_evaluation.budget import CHUNKED, METRICS, parse_budget
from kdcompress_evaluation.metrics import figures_beside, metrics_for
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.tasks import TASKS


def budget_of(text: str, task: str) -> str:
    """The bounds that count for a task: metrics that it has, times of chunks where inputs come in chunks.

    Raises:
        BudgetError: the budget cannot be read.
    """
    normaliser = NORMALISERS[TASKS[task].normaliser]
    scored = (*metrics_for(task, normaliser), *figures_beside(task, normaliser))
    own = {metric.info.name for metric in scored}
    others = {name for metric in METRICS if metric not in own for name in (metric, f"d{metric}")}
    others |= set() if TASKS[task].chunked else CHUNKED
    return ",".join(bound.text for bound in parse_budget(text) if bound.figure not in others)
