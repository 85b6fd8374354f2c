"""Repair: bias correction. Rounded weights shift the mean of what a layer computes; its bias takes that back.

Nagel et al., arXiv 1906.04721, section 4.2, measured on recordings: layer by layer in the order of the graph, each with
those before it corrected, the mean of ``float32 - int8`` of every output channel goes into the layer's bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import arrays, consumers, producers, set_array
from kdcompress_export.quantization.repairs import Repair
from kdcompress_export.quantization.static import WEIGHTED, prepare
from kdcompress_export.streams import padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from kdcompress_export.inputs import Units
    from kdcompress_export.quantization.calibration import Calibration
    from kdcompress_runtime.model import CtcModel

_QUANTIZED = "_quantized"
_RECORDINGS = 16
"""Recordings of a calibration that are used: the session is run once for each layer."""

Feed = dict[str, "NDArray[np.generic]"]
Means = dict[str, "NDArray[np.float64]"]


@dataclass(frozen=True)
class BiasCorrected:
    """An int8 file with other biases."""

    content: bytes
    """ONNX."""
    shifts: dict[str, float]
    """Mean absolute change of each layer's bias, by the name of its weight."""
    skipped: tuple[str, ...]
    """Weights of layers that add no bias of their own."""


@dataclass(frozen=True)
class _Layer:
    """A quantized layer and where its bias is."""

    weight: str
    """Name in the float32 file."""
    node: str
    output: str
    axis: int
    """Of the channels in the output."""
    bias: str | None
    """Initializer."""
    reader: str | None
    """Node that reads it."""
    scale: NDArray[np.float64] | None
    """Step of an int32 bias for each channel; none where it is float32."""


def correct_biases(content: bytes, small: bytes, model: CtcModel, recordings: Iterable[Units]) -> BiasCorrected:
    """Correct the biases of a static int8 file.

    Args:
        content: the float32 file that was quantized.
        small: the int8 file.
        model: the float32 model, loaded; gives geometry and initial states.
        recordings: training inputs, ``(units, ...)`` each.

    Raises:
        QuantizationError: there is no recording, or no layer is in both files.
    """
    feeds: list[Feed] = [
        {model.metadata.input.name: padded(samples, model.metadata), **model.init_states()} for samples in recordings
    ]
    if not feeds:
        raise QuantizationError("nothing to correct biases on; give a manifest with at least one item")
    quantized, floating = onnx.load_from_string(small), prepare(content)
    outputs = {_weight(node, arrays(floating.graph)): node.output[0] for node in _weighted(floating.graph)}
    layers = [layer for layer in _layers(quantized.graph) if layer.weight in outputs]
    if not layers:
        raise QuantizationError("no quantized layer is known by its weight in the float32 file")
    expected = channel_means(floating, {outputs[layer.weight]: layer.axis for layer in layers}, feeds)
    shifts: dict[str, float] = {}
    for layer in (layer for layer in layers if layer.bias is not None):
        found = channel_means(quantized, {layer.output: layer.axis}, feeds)[layer.output]
        shift = _shifted(quantized.graph, layer, expected[outputs[layer.weight]] - found)
        shifts[layer.weight] = float(np.abs(shift).mean())
    return BiasCorrected(
        quantized.SerializeToString(), shifts, tuple(layer.weight for layer in layers if layer.bias is None)
    )


def _after(content: bytes, quantized: bytes, calibration: Calibration) -> bytes:
    recordings = calibration.recordings[:_RECORDINGS]
    return correct_biases(content, quantized, calibration.model, recordings).content


BIAS_CORRECTION = Repair("bias correction", after=_after, kinds=("static",))
"""For static int8."""


def channel_means(model: ModelProto, outputs: dict[str, int], feeds: Sequence[Feed]) -> Means:
    """Mean of each channel of some tensors over everything that flows; tensors by name with the axis of channels."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    known = {value.name for value in exposed.graph.output}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: Means = {}
    count: dict[str, int] = dict.fromkeys(outputs, 0)
    for feed in feeds:
        for (name, axis), value in zip(outputs.items(), session.run(list(outputs), feed), strict=True):
            rows = np.moveaxis(np.asarray(value, dtype=np.float64), axis, -1).reshape(-1, value.shape[axis])
            sums[name] = sums.get(name, np.zeros(rows.shape[1])) + rows.sum(axis=0)
            count[name] += len(rows)
    return {name: total / max(1, count[name]) for name, total in sums.items()}


def _weighted(graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type in WEIGHTED]


def _weight(node: NodeProto, values: dict[str, NDArray[np.generic]]) -> str | None:
    return node.input[1] if node.input[1] in values else None


def _layers(graph: GraphProto) -> list[_Layer]:
    """Layers whose weight is stored in int8, in the order of the graph."""
    written, values = producers(graph), arrays(graph)
    found = []
    for node in _weighted(graph):
        weight = written.get(node.input[1])
        while weight is not None and weight.op_type == "Transpose":
            weight = written.get(weight.input[0])
        if weight is None or weight.op_type != "DequantizeLinear" or not weight.input[0].endswith(_QUANTIZED):
            continue
        name = weight.input[0].removesuffix(_QUANTIZED)
        axis = 1 if node.op_type == "Conv" else -1
        bias, reader, scale = _bias(graph, node, written, values)
        found.append(_Layer(name, node.name, node.output[0], axis, bias, reader, scale))
    return found


def _bias(
    graph: GraphProto, node: NodeProto, written: dict[str, NodeProto], values: dict[str, NDArray[np.generic]]
) -> tuple[str | None, str | None, NDArray[np.float64] | None]:
    """Initializer of a layer's bias, the node that reads it, and the step of each entry if it is int32."""
    if len(node.input) > 2 and node.input[2]:
        stored = written.get(node.input[2])
        if stored is None:
            return (node.input[2], node.name, None) if node.input[2] in values else (None, None, None)
        if stored.op_type != "DequantizeLinear" or stored.input[0] not in values:
            return None, None, None
        steps = [values.get(written[name].input[1]) for name in node.input[:2] if name in written]
        if len(steps) != 2 or any(step is None for step in steps):
            return None, None, None
        scale = np.multiply(*(np.asarray(step, dtype=np.float64) for step in steps))
        return stored.input[0], stored.name, np.broadcast_to(scale, values[stored.input[0]].shape)
    readers = consumers(graph).get(node.output[0], [])
    if len(readers) == 1 and readers[0].op_type in {"Add", "Sum"}:
        for name in readers[0].input:
            if name in values and values[name].ndim == 1 and values[name].dtype == np.float32:
                return name, readers[0].name, None
    return None, None, None


def _shifted(graph: GraphProto, layer: _Layer, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add ``shift`` to the bias of a layer, in place, as exactly as it can be stored; return what was added."""
    bias = arrays(graph)[layer.bias or ""].astype(np.float64)
    # A new name: the same numbers may serve elsewhere, too.
    name = f"{layer.weight}_corrected_bias"
    if layer.scale is not None:
        steps = np.rint(shift / np.where(layer.scale > 0, layer.scale, np.inf))
        limit = np.iinfo(np.int32)
        set_array(graph, name, (bias + steps).clip(limit.min, limit.max).astype(np.int32))
        shift = np.asarray(steps * layer.scale)
    else:
        set_array(graph, name, (bias + shift).astype(np.float32))
    reader = next(node for node in graph.node if node.name == layer.reader)
    reader.input[:] = [name if entry == layer.bias else entry for entry in reader.input]
    if not any(layer.bias in node.input for node in graph.node):
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == layer.bias))
    return shift
