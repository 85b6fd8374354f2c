"""What variants cost: measured by one process of its own, kept raw, summed up for the report."""

from __future__ import annotations

from kdcompress_evaluation.speed.record import SpeedRecord
from kdcompress_evaluation.speed.summary import summarise_footprint, summarise_run, summarise_speed

__all__ = ["SpeedRecord", "summarise_footprint", "summarise_run", "summarise_speed"]
