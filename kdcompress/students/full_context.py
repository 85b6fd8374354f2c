"""The student of whole inputs: lines of text, sentences, short recordings. It has no states and does not stream."""

from __future__ import annotations

from kdcompress.full_context import FullContextNetwork


class FullContextStudent(FullContextNetwork):
    """Full-context encoder and a linear head; small, where a teacher is large."""
