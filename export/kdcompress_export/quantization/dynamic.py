"""Float32 graph -> dynamic int8: weights stored in eight bits, activations rounded at run time. No calibration.

MatMul alone. Its twin for convolutions, ConvInteger, runs five times slower than float32 and never ships; so
convolutions over one frame, which are matrix products, are written as such first.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from kdcompress_export.quantization.matrices import matrix_nodes

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import ModelProto


def quantize_matrices(prepared: ModelProto, keep_float: Collection[str] = ()) -> tuple[ModelProto, int]:
    """Quantize every MatMul with a stored weight behind the frontend, per channel, signed.

    Args:
        prepared: float32, as ``matrices.prepare_matrices`` leaves it; not changed.
        keep_float: initializer names of weights that stay float32.

    Returns:
        The graph, and how many layers were to be quantized.

    Raises:
        QuantizationError: there is no such MatMul.
    """
    nodes = matrix_nodes(prepared, keep_float)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(prepared, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=nodes,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(target), len(nodes)
