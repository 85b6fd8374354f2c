"""Language models as teachers: what comes next, or what stands here, in any unit."""

from __future__ import annotations

from kdcompress.text_models.text_model import Scores, TextModel

__all__ = ["Scores", "TextModel"]
