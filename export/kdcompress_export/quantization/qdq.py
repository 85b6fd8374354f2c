"""Float32 graph and ranges -> graph with QuantizeLinear and DequantizeLinear around what was asked for."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto
    from onnxruntime.quantization.calibrate import TensorsData

IntegerName = Literal["u8", "s8"]
"""Unsigned or signed, eight bits."""
TYPES = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}


def insert_qdq(
    graph: Path,
    ranges: TensorsData,
    nodes: Sequence[str],
    operators: Sequence[str],
    *,
    activations: IntegerName = "u8",
    weights: IntegerName = "s8",
    reduce_range: bool = False,
    extra_options: Mapping[str, Any] | None = None,
) -> ModelProto:
    """Quantize ``nodes`` of a graph, weights per channel.

    Args:
        graph: file of the float32 graph.
        ranges: of every tensor that these nodes read and write.
        nodes: names.
        operators: their types.
        activations: type of what flows.
        weights: type of what is stored.
        reduce_range: 7-bit weights.
        extra_options: as for onnxruntime's ``quantize_static``.
    """
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(graph),
        True,  # per channel
        reduce_range,
        TYPES[weights],
        TYPES[activations],
        copy.deepcopy(ranges),  # it adjusts them
        list(nodes),
        [],
        list(operators),
        dict(extra_options or {}),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    found: ModelProto = quantizer.model.model
    return found
