"""Which variants are on the front of two costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


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
