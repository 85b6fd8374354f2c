"""Losses: pure functions of (log_probs, lengths, targets); one file a family.

Every loss is a sum over valid frames divided by the number of valid frames, so that weights mean the same
whatever the lengths and whichever frames a method selects.
"""

from __future__ import annotations

from kdcompress.losses.ctc import ctc
from kdcompress.losses.frame_kl import FRAME_SELECTIONS, frame_kl

__all__ = ["FRAME_SELECTIONS", "ctc", "frame_kl"]
