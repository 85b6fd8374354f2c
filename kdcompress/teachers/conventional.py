"""A larger full-context CTC network: the ordinary teacher, and the Oracle Teacher's twin."""

from __future__ import annotations

from kdcompress.full_context import FullContextNetwork


class ConventionalTeacher(FullContextNetwork):
    """Full-context encoder and a linear head."""
