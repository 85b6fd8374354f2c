"""What variants cost: measured by processes of their own, kept raw, summed up for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation.speed.record import SpeedRecord
from kdcompress_evaluation.speed.summary import summarise_footprint, summarise_run, summarise_speed

if TYPE_CHECKING:
    from kdcompress_evaluation.speed.run import measure

__all__ = ["SpeedRecord", "measure", "summarise_footprint", "summarise_run", "summarise_speed"]


def __getattr__(name: str) -> object:
    """Import what measures only where something is measured."""
    if name != "measure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kdcompress_evaluation.speed import run

    return run.measure
