"""Systems x manifests -> rows -> report. Imports the runtime, never torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.options import EvalOptions
    from kdcompress_evaluation.pipeline import evaluate, evaluate_tasks, recognise_shard
    from kdcompress_evaluation.reuse import Rederive, rederive, rederive_tasks
    from kdcompress_evaluation.several import Report
    from kdcompress_evaluation.side_by_side import compare
    from kdcompress_evaluation.summary import Summary

__all__ = [
    "Decoding",
    "EvalOptions",
    "Rederive",
    "Report",
    "Summary",
    "compare",
    "evaluate",
    "evaluate_tasks",
    "recognise_shard",
    "rederive",
    "rederive_tasks",
]

_HOMES = {
    "Decoding": "decoding",
    "EvalOptions": "options",
    "Rederive": "reuse",
    "Report": "several",
    "Summary": "summary",
    "compare": "side_by_side",
    "evaluate": "pipeline",
    "evaluate_tasks": "pipeline",
    "recognise_shard": "pipeline",
    "rederive": "reuse",
    "rederive_tasks": "reuse",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import on first use: the process that measures memory must not hold matplotlib and jiwer."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
