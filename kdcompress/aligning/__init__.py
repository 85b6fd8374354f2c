"""Forced alignment: where in an input the units of its reference are."""

from __future__ import annotations

from kdcompress.aligning.aligned import Aligned, Alignments, Segment, read_alignments, write_alignments

__all__ = ["Aligned", "Alignments", "Segment", "read_alignments", "write_alignments"]
