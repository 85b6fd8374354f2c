"""Senones: states of phones in context, tied by a phonetic decision tree (Young, Odell and Woodland, 1994)."""

from __future__ import annotations

from kdcompress.units.senones.growing import Growth, grow
from kdcompress.units.senones.inventory import SenoneInventory
from kdcompress.units.senones.moments import SILENCE, Statistics
from kdcompress.units.senones.tree import Tree

__all__ = ["SILENCE", "Growth", "SenoneInventory", "Statistics", "Tree", "grow"]
