"""float32 graph -> static int8 graph: QDQ, 8-bit activations, int8 weights per channel, frontend in float32.

Everything after the feature normalisation is quantized, the glue between convolutions too: onnxruntime would
otherwise leave int8 for every residual and every cache. Tensors that are only copied (a cache and the frames
behind it) share one scale, so a value is rounded once and a cache comes back bit for bit.

A layer is named by the initializer that holds its weight. A graph whose weights carry neither the mark of a
frontend nor that of a feature normalisation (an imported one) has nothing exempt: its caller says what stays float32.
Where the input is integers (pixels, tokens), the frontend has no weights to be known by, and nothing to lose.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import (
    FEATURE_NORM_MARK,
    FRONTEND_MARK,
    downstream,
    producers,
    store_in_16_bits,
    strip,
)
from kdcompress_export.quantization.calibration import METHODS, Calibration, CalibrationName, StepReader
from kdcompress_export.quantization.embeddings import store_embeddings
from kdcompress_export.quantization.passes import derive_bias_scales, head_to_matmul, share_scales
from kdcompress_export.quantization.qdq import IntegerName, insert_qdq

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from onnx import ModelProto, NodeProto

    from kdcompress_export.inputs import Units
    from kdcompress_runtime.model import CtcModel

__all__ = [
    "METHODS",
    "CalibrationName",
    "QuantizeOptions",
    "QuantizedModel",
    "StepReader",
    "check_quantized",
    "layers",
    "plan_nodes",
    "prepare",
    "quantize",
]

WEIGHTED = ("Conv", "MatMul", "Gemm")
"""Operators that hold the weights; each of them behind the frontend must end up in int8 or be kept in float32."""
GLUE = ("Add", "Concat", "Relu", "Slice")
"""Operators between them that int8 passes through."""
FORBIDDEN = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
"""Dynamic quantization; ConvInteger runs five times slower than float32."""


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize."""

    method: CalibrationName = "minmax"
    """How ranges follow from what calibration saw; all but minmax keep every activation in memory."""
    reduce_range: bool = False
    """7-bit weights, for x86 without VNNI, where 8 bits can saturate."""
    activations: IntegerName = "u8"
    """Type of what flows: unsigned for x86, signed for ARM."""
    weights: IntegerName = "s8"
    """Type of what is stored."""
    glue: bool = True
    """Whether what lies between the layers passes through int8, too. It serves stacks of convolutions; around
    attention and layer norm, which are computed in float32, it costs more than it saves."""


@dataclass(frozen=True)
class QuantizedModel:
    """An int8 file."""

    content: bytes
    """ONNX."""
    nodes: int
    """Layers that compute in int8."""
    calibration_frames: int
    """Output frames that calibration ran."""


def quantize(
    content: bytes,
    model: CtcModel,
    recordings: Iterable[Units] | Calibration,
    options: QuantizeOptions | None = None,
    properties: Mapping[str, str] | None = None,
    *,
    keep_float: Collection[str] = (),
) -> QuantizedModel:
    """Quantize an exported student or an imported model.

    Args:
        content: the float32 file.
        model: the same, loaded.
        recordings: training inputs, ``(units, ...)`` each; or a calibration, whose ranges are
            reused.
        options: see there.
        properties: go into the file as ``metadata_props``.
        keep_float: weights, by initializer name as ``layers`` lists them, whose operator stays float32.

    Raises:
        QuantizationError: the frontend cannot be told from the encoder, there is nothing to calibrate on,
            ``keep_float`` names what is no layer, or a layer was not quantized.
    """
    options = options or QuantizeOptions()
    calibration = recordings if isinstance(recordings, Calibration) else Calibration(model, recordings)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "prepared.onnx")
        onnx.save(prepare(content), source)
        plan = plan_nodes(onnx.load(source), keep_float, glue=options.glue)
        operators = [*WEIGHTED, *GLUE]
        quantized = insert_qdq(
            source,
            calibration.ranges(source, operators, options.method),
            sorted(plan),
            operators,
            activations=options.activations,
            weights=options.weights,
            reduce_range=options.reduce_range,
            # onnxruntime multiplies int8 matrices to a float32 result: the head's feeds the log-softmax.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
    share_scales(quantized.graph)
    derive_bias_scales(quantized.graph)
    store_in_16_bits(quantized, _frontend_weights(quantized))
    store_embeddings(quantized)
    nodes = check_quantized(quantized, keep_float)
    strip(quantized)
    del quantized.metadata_props[:]
    helper.set_model_props(quantized, dict(properties or {}))
    return QuantizedModel(quantized.SerializeToString(), nodes, calibration.frames)


def _frontend_weights(model: ModelProto) -> list[str]:
    floating = (tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)
    return [tensor.name for tensor in floating if FRONTEND_MARK in tensor.name]


def layers(content: bytes) -> dict[str, tuple[int, ...]]:
    """Return what can be quantized in a float32 file: the shape of each layer's weight by initializer name, in order.

    Raises:
        QuantizationError: as for ``plan_nodes``.
    """
    model = prepare(content)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    planned = set(plan_nodes(model, glue=False))
    weights = [_weight(node, shapes) for node in model.graph.node if node.name in planned]
    return {name: shapes[name] for name in weights if name is not None}


def prepare(content: bytes) -> ModelProto:
    """Bring a float32 graph into the form that is quantized: constants folded, logits computed by a MatMul."""
    model = onnx.load_from_string(content)
    head_to_matmul(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "float.onnx")
        onnx.save(model, path)
        quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
        return onnx.load(path)


def plan_nodes(model: ModelProto, keep_float: Collection[str] = (), *, glue: bool = True) -> list[str]:
    """Names of the nodes to quantize: all of the known kinds behind the feature normalisation, if there is one.

    Raises:
        QuantizationError: sound comes in, and only one of frontend and feature normalisation is found by the names
            of its weights; a node of the frontend would be quantized, or ``keep_float`` names what is no layer.
    """
    graph = model.graph
    values = {tensor.name for tensor in graph.initializer}
    statistics = [name for name in values if FEATURE_NORM_MARK in name]
    frontend = [node.name for node in graph.node if any(FRONTEND_MARK in name for name in node.input)]
    sound = graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    if sound and bool(statistics) != bool(frontend):
        raise QuantizationError(
            f"the graph names no weight with {FRONTEND_MARK!r} or none with {FEATURE_NORM_MARK!r}, so the frontend, "
            "which must stay float32, cannot be told from the encoder; keep these names in the student"
        )
    encoder = downstream(graph, statistics) if statistics else {node.name for node in graph.node}
    caught = encoder.intersection(frontend)
    if caught:
        raise QuantizationError(f"nodes of the frontend ({sorted(caught)}) lie behind the feature normalisation")
    nodes = [node for node in graph.node if node.name in encoder]
    weights = {node.name: _weight(node, values) for node in nodes if node.op_type in WEIGHTED}
    unknown = sorted(set(keep_float).difference(name for name in weights.values() if name))
    if unknown:
        raise QuantizationError(f"keep_float names what is no layer's weight: {', '.join(unknown)}")
    planned = {name for name, weight in weights.items() if weight is not None and weight not in keep_float}
    return [node.name for node in nodes if node.name in planned or (glue and node.op_type in GLUE)]


def check_quantized(model: ModelProto, keep_float: Collection[str] = ()) -> int:
    """Count the layers that compute in int8.

    Raises:
        QuantizationError: one behind the frontend does not, though ``keep_float`` does not name its weight; one of
            the frontend does; or an operator of dynamic quantization is there.
    """
    graph = model.graph
    written, values = producers(graph), {tensor.name for tensor in graph.initializer}
    forbidden = sorted({node.op_type for node in graph.node if node.op_type in FORBIDDEN})
    if forbidden:
        raise QuantizationError(f"the graph holds {', '.join(forbidden)}: dynamic quantization is slow here")
    quantized, floating = [], []
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            continue
        dequantized = [_is_dequantized(written, name) for name in node.input[:2]]
        if any(FRONTEND_MARK in name for name in node.input):
            if any(dequantized):
                raise QuantizationError(f"{node.name} of the frontend is quantized; it must stay float32")
        elif all(dequantized):
            quantized.append(node.name)
        elif (weight := _weight(node, values)) is not None and weight not in keep_float:
            floating.append(node.name)
    if floating or not quantized:
        raise QuantizationError(f"{len(quantized)} nodes are quantized, but {floating or 'all'} stayed float32")
    return len(quantized)


def _weight(node: NodeProto, values: Collection[str]) -> str | None:
    """Return the initializer that a layer multiplies with; None for a product of two activations."""
    return next((name for name in reversed(node.input[:2]) if name in values), None)


def _is_dequantized(written: dict[str, NodeProto], name: str) -> bool:
    node = written.get(name)
    while node is not None and node.op_type == "Transpose":
        node = written.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"
