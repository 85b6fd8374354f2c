"""Torch student -> proven ONNX bundle. ``verify_bundle`` and ``bench_bundle`` need neither torch nor onnx."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcompress_export.bench import BenchReport, bench_bundle
    from kdcompress_export.decoder_tuning import TuneOptions, TuneReport, tune_decoder
    from kdcompress_export.errors import BudgetNotMetError, ExportError, GraphError, ParityError, QuantizationError
    from kdcompress_export.export import ExportOptions, export_bundle, export_hugging_face, export_onnx, export_run
    from kdcompress_export.importers.description import OnnxDescription
    from kdcompress_export.quantization.options import SearchOptions
    from kdcompress_export.targets.table import verify_output
    from kdcompress_export.verify import Check, VerifyReport, verify_bundle

__all__ = [
    "BenchReport",
    "BudgetNotMetError",
    "Check",
    "ExportError",
    "ExportOptions",
    "GraphError",
    "OnnxDescription",
    "ParityError",
    "QuantizationError",
    "SearchOptions",
    "TuneOptions",
    "TuneReport",
    "VerifyReport",
    "bench_bundle",
    "export_bundle",
    "export_hugging_face",
    "export_onnx",
    "export_run",
    "tune_decoder",
    "verify_bundle",
    "verify_output",
]
_HOME = {
    "bench": ("BenchReport", "bench_bundle"),
    "decoder_tuning": ("TuneOptions", "TuneReport", "tune_decoder"),
    "errors": ("BudgetNotMetError", "ExportError", "GraphError", "ParityError", "QuantizationError"),
    "export": ("ExportOptions", "export_bundle", "export_hugging_face", "export_onnx", "export_run"),
    "importers.description": ("OnnxDescription",),
    "quantization.options": ("SearchOptions",),
    "targets.table": ("verify_output",),
    "verify": ("Check", "VerifyReport", "verify_bundle"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute may be anything
    """Import a public name when it is first used, so that verifying does not load torch."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
