"""From a teacher's frames, tokens and spelling to the student's: worked out from both sides' metadata."""

from __future__ import annotations

from kdcompress.bridge.bridge import Bridge, StudentSide, build_bridge

__all__ = ["Bridge", "StudentSide", "build_bridge"]
