"""Phones that sound alike, from the bottom up: the two whose union costs least likelihood are joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress.units.senones.moments import log_likelihood

if TYPE_CHECKING:
    from kdcompress.units.senones.moments import Floats, Ints


def clustered(totals: Floats, floor: Floats) -> list[tuple[int, ...]]:
    """Every class of two or more that arises on the way to one class, the last (broadest) first.

    Args:
        totals: moments of each phone, ``(P, 1 + 2 D)``; one without frames joins nothing.
        floor: least variance, ``(D,)``.

    Returns:
        Ids of the members, rising.
    """
    alive = [int(phone) for phone in np.flatnonzero(totals[:, 0] > 0)]
    members: dict[int, tuple[int, ...]] = {phone: (phone,) for phone in alive}
    moments = totals.copy()
    alone = log_likelihood(moments, floor)
    costs = np.full((len(totals), len(totals)), np.inf)
    for phone in alive:
        others, losses = _losses(phone, alive, moments, alone, floor)
        costs[phone, others] = costs[others, phone] = losses
    found = []
    while len(alive) > 1:
        one, other = sorted(map(int, np.unravel_index(np.argmin(costs), costs.shape)))
        members[one] = tuple(sorted(members[one] + members.pop(other)))
        found.append(members[one])
        moments[one] += moments[other]
        alone[one] = log_likelihood(moments[one], floor)
        alive.remove(other)
        costs[[one, other]], costs[:, [one, other]] = np.inf, np.inf
        others, losses = _losses(one, alive, moments, alone, floor)
        costs[one, others] = costs[others, one] = losses
    return found[::-1]


def _losses(phone: int, alive: list[int], moments: Floats, alone: Floats, floor: Floats) -> tuple[Ints, Floats]:
    """All others, and the likelihood lost by joining ``phone`` with each."""
    others = np.array([other for other in alive if other != phone], dtype=np.int64)
    return others, alone[others] + alone[phone] - log_likelihood(moments[others] + moments[phone], floor)
