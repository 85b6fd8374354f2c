"""ONNX -> ONNX Runtime format (``.ort``), and the list of what a reduced build of onnxruntime needs to run it."""

from __future__ import annotations

import importlib
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_export.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

ORT_IDENTIFIER = b"ORTM"
"""Bytes 4 to 8 of every file in this format."""
_DISABLED = ["NchwcTransformer"]
"""Its layout is for x86 with the vector width of this machine; every other layout is chosen by the graph alone."""
_PORTABLE_DOMAINS = frozenset({"ai.onnx", "com.microsoft"})
_ERRORS = (RuntimeError, ValueError, OSError)
_QUIET = 4


def convert(content: bytes, source: str) -> bytes:
    """Return an ONNX model in ONNX Runtime format: fused and laid out once, here, and not on the phone.

    The settings are those of ``onnxruntime.tools.convert_onnx_models_to_ort --optimization_style Fixed
    --target_platform arm``, called directly because that program prints.

    Raises:
        TargetError: onnxruntime cannot convert it.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.save_model_format", "ORT")
    # ARM has signed dot products; x86 would rewrite signed activations to unsigned ones here.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ort"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED
            )
            converted = path.read_bytes()
        except Exception as error:  # onnxruntime's own errors have no common base
            raise TargetError(f"{source}: onnxruntime {onnxruntime.__version__} cannot convert it ({error})") from error
    if converted[4:8] != ORT_IDENTIFIER:
        raise TargetError(f"{source}: what onnxruntime {onnxruntime.__version__} wrote is not in ONNX Runtime format")
    return converted


def required_operators(models: Mapping[str, bytes]) -> str:
    """Return the configuration for onnxruntime's ``build.py --include_ops_by_config``, with types.

    Args:
        models: file names and contents in ONNX Runtime format.

    Raises:
        TargetError: a file is in another format, or needs kernels that not every CPU has.
    """
    found: dict[str, dict[int, set[str]]] = {}
    tools = _ort_tools()
    types = tools.OperatorTypeUsageManager()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in models.items():
            path = Path(folder) / "model.ort"
            path.write_bytes(content)
            try:
                tools.OrtFormatModelProcessor(str(path), found, types).process()
            except _ERRORS as error:
                raise TargetError(f"{name}: not in ONNX Runtime format; export the bundle again") from error
    foreign = sorted(found.keys() - _PORTABLE_DOMAINS)
    if foreign:
        raise TargetError(f"{', '.join(models)}: operators of {', '.join(foreign)} run on some CPUs only")
    lines = [f"# What {', '.join(models)} need of onnxruntime, for its build.py --include_ops_by_config"]
    for domain in sorted(found):
        for opset in sorted(found[domain]):
            names = [f"{op}{types.get_config_entry(domain, op) or ''}" for op in sorted(found[domain][opset])]
            lines.append(f"{domain};{opset};{','.join(names)}")
    return "\n".join(lines) + "\n"


def _ort_tools() -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Import the reader of the format without the handler that it hangs on the root logger."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    module = importlib.import_module("onnxruntime.tools.ort_format_model")
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    return module
