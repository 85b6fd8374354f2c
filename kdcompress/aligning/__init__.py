"""Forced alignment: where in an input the units of its reference are."""

from __future__ import annotations

from kdcompress.aligning.aligned import Aligned, Segment

__all__ = ["Aligned", "Segment"]
