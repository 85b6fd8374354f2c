"""Float32 graph -> weights in 4 or 8 bits with a scale for every block of 32, arithmetic in float32 or int8.

onnxruntime's MatMulNBits. It knows MatMul alone; convolutions over one frame are written as such first, the
others stay as they are.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

from kdcompress_export.quantization.matrices import matrix_nodes

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import ModelProto

BLOCK = 32
"""Weights that share a scale; small, because the students are narrow and a started block is stored whole."""
_INT8_ARITHMETIC = 4
"""onnxruntime's ``accuracy_level``: activations are rounded to eight bits on the way into the product."""


def pack_weights(prepared: ModelProto, bits: int, keep_float: Collection[str] = ()) -> tuple[ModelProto, int]:
    """Pack every MatMul's stored weight behind the frontend.

    Args:
        prepared: float32, as ``matrices.prepare_matrices`` leaves it; not changed.
        bits: 4 or 8.
        keep_float: initializer names of weights that stay float32.

    Returns:
        The graph, and how many layers were to be packed.

    Raises:
        QuantizationError: there is no such MatMul.
    """
    nodes = matrix_nodes(prepared, keep_float)
    others = [node.name for node in prepared.graph.node if node.name not in nodes]
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # the module sets up logging for the whole process where nobody has
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    finally:
        root.removeHandler(silent)
    quantizer = MatMulNBitsQuantizer(
        copy.deepcopy(prepared),
        bits=bits,
        block_size=BLOCK,
        is_symmetric=True,
        accuracy_level=_INT8_ARITHMETIC,
        nodes_to_exclude=others,
    )
    quantizer.process()
    return quantizer.model.model, len(nodes)
