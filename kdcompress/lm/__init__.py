"""Small n-gram language models: estimated from texts, packed, evaluated. numpy only; no torch."""

from __future__ import annotations

from kdcompress.lm.language_model import FALLBACK, LmOptions, LmReport, convert, estimate, evaluate

__all__ = ["FALLBACK", "LmOptions", "LmReport", "convert", "estimate", "evaluate"]
