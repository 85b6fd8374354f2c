"""A distribution in five numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of measured values, in the unit of the values."""

    count: int
    """Values."""
    p50: float
    """Median."""
    p95: float
    """95th percentile."""
    p99: float
    """99th percentile; under 100 values little more than the highest."""
    highest: float
    """Highest value."""

    @classmethod
    def of(cls, values: Sequence[float], scale: float = 1.0) -> Percentiles | None:
        """Sum up ``values`` times ``scale``; ``None`` when there are none."""
        if not len(values):
            return None
        p50, p95, p99, highest = np.percentile(np.asarray(values, float) * scale, [50, 95, 99, 100])
        return cls(len(values), float(p50), float(p95), float(p99), float(highest))
