"""Which variants are on the front of two costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdcompress_evaluation.tasks import AUDIO

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.metrics import MetricInfo
    from kdcompress_evaluation.summary import VariantSummary

ANY = "any"
"""Input of systems that take whatever comes: texts of other systems."""
SIZE, LATENCY, MEMORY = "size", "latency", "memory"
"""Costs that a front is drawn for: bytes to ship; 95th percentile of computing a chunk; peak resident memory."""


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[bool | None]:
    """Return for each point (two costs, both to be small) whether no other one dominates it.

    A point dominates another when it is at most as costly in both and less in one. Points with a missing
    cost get ``None`` and dominate nothing.
    """
    known = [(a, b) for a, b in points if a is not None and b is not None]
    flags: list[bool | None] = []
    for a, b in points:
        if a is None or b is None:
            flags.append(None)
        else:
            flags.append(not any(x <= a and y <= b and (x < a or y < b) for x, y in known))
    return flags


def metric_cost(info: MetricInfo, value: float | None) -> float | None:
    """What a value of the metric costs, to be small: an error rate itself, what a score lacks to 1."""
    if value is None or info.lower_is_better:
        return value
    return 1 - value


def rise(info: MetricInfo, change: Estimate) -> tuple[float | None, float | None, float | None]:
    """A difference of the metric as a rise of its cost: value, low and high end."""
    if info.lower_is_better:
        return change.value, change.low, change.high
    return tuple(None if end is None else -end for end in (change.value, change.high, change.low))  # type: ignore[return-value]


def cost_of(info: MetricInfo, variant: VariantSummary) -> float:
    """What the variant costs in the metric, all manifests together; infinite where there is no value."""
    cost = metric_cost(info, variant.pooled.metrics[info.name].value)
    return math.inf if cost is None else cost


def size_of(variant: VariantSummary) -> float:
    """Bytes to ship; infinite where they are not known."""
    size = variant.footprint.size_bytes
    return math.inf if size is None else float(size)


def is_paced(variants: Sequence[VariantSummary]) -> bool:
    """Whether latency was measured with chunks that come in real time."""
    return any(variant.speed is not None and variant.speed.paced is not None for variant in variants)


def latency(variant: VariantSummary, *, paced: bool) -> float | None:
    """95th percentile of a chunk in milliseconds; of a whole line or sentence where inputs are not cut."""
    if variant.speed is None:
        return None
    chosen = variant.speed.paced if paced else variant.speed.chunk
    if variant.info.input_kind not in {AUDIO, ANY}:
        chosen = variant.speed.whole
    return None if chosen is None else chosen.p95


def measured_costs(variants: Sequence[VariantSummary]) -> dict[str, list[float | None]]:
    """What every variant costs, by kind of cost; latencies are all paced, or all back-to-back where none was paced."""
    paced = is_paced(variants)
    return {
        SIZE: [variant.footprint.size_bytes for variant in variants],
        LATENCY: [latency(variant, paced=paced) for variant in variants],
        MEMORY: [None if v.footprint.memory is None else float(v.footprint.memory.peak) for v in variants],
    }


def fronts(
    info: MetricInfo, variants: Sequence[VariantSummary], broken: Collection[str]
) -> list[dict[str, bool | None]]:
    """By variant, then by cost; broken variants are on no front, and dominate nobody."""
    rates = [None if v.info.name in broken else metric_cost(info, v.pooled.metrics[info.name].value) for v in variants]
    flags = {name: pareto_front(list(zip(rates, one, strict=True))) for name, one in measured_costs(variants).items()}
    return [{name: one[place] for name, one in flags.items()} for place in range(len(variants))]
