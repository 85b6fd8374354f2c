"""float32 graph -> static int8 graph: QDQ, uint8 activations, int8 weights per channel, frontend in float32.

Everything after the feature normalisation is quantized, the glue between convolutions too: onnxruntime would
otherwise leave int8 for every residual and every cache. Tensors that are only copied (a cache and the frames
behind it) share one scale, so a value is rounded once and a cache comes back bit for bit.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import (
    FEATURE_NORM_MARK,
    FRONTEND_MARK,
    arrays,
    consumers,
    downstream,
    producers,
    set_array,
    store_in_16_bits,
    strip,
)
from kdcompress_runtime.model import LOG_PROBS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from kdcompress_export.streams import Samples
    from kdcompress_runtime.model import CtcModel

CalibrationName = Literal["minmax", "entropy", "percentile"]
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
WEIGHTED = ("Conv", "MatMul")
"""Operators that hold the weights; each of them behind the frontend must end up in int8."""
GLUE = ("Add", "Concat", "Relu", "Slice")
"""Operators between them that int8 passes through."""
RESHAPES = ("Squeeze", "Unsqueeze")
"""Operators that leave every value as it is."""
FORBIDDEN = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
"""Dynamic quantization; ConvInteger runs five times slower than float32."""
_CALIBRATION_FRAMES = 25
"""Frames of a calibration step, unless the student streams in longer chunks."""


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize."""

    method: CalibrationName = "minmax"
    """How ranges follow from what calibration saw; all but minmax keep every activation in memory."""
    reduce_range: bool = False
    """7-bit weights, for x86 without VNNI, where 8 bits can saturate."""


@dataclass(frozen=True)
class QuantizedModel:
    """An int8 file."""

    content: bytes
    """ONNX."""
    nodes: int
    """Conv and MatMul that compute in int8."""
    calibration_frames: int
    """Output frames that calibration ran."""


class StepReader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime is not typed
    """Feeds recordings through the float32 model in chunks, so that caches are seen with real content.

    Raises:
        QuantizationError: there is no recording.
    """

    def __init__(self, model: CtcModel, recordings: Iterable[Samples]) -> None:
        self.frames = 0
        feeds = self._run(model, recordings)
        first = next(feeds, None)
        if first is None:
            raise QuantizationError("no audio to calibrate on; give a manifest with at least one recording")
        self._feeds = itertools.chain([first], feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the feed of the next step, or None at the end."""
        return next(self._feeds, None)

    def _run(self, model: CtcModel, recordings: Iterable[Samples]) -> Iterator[dict[str, NDArray[np.float32]]]:
        source, lag = model.metadata.input, model.metadata.lookahead_frames
        step = source.units_per_frame * max(_CALIBRATION_FRAMES, model.metadata.chunk_frames)
        for samples in recordings:
            # Silence to whole steps: histograms need all steps alike.
            needed = len(samples) + lag * source.units_per_frame
            padded = np.pad(samples, (0, needed - len(samples) + -needed % step))
            states = model.init_states()
            for start in range(0, len(padded), step):
                inputs = padded[None, start : start + step]
                self.frames += inputs.shape[1] // source.units_per_frame
                yield {source.name: inputs, **states}
                _, states = model.step(inputs, states)


def quantize(
    content: bytes,
    model: CtcModel,
    recordings: Iterable[Samples],
    options: QuantizeOptions | None = None,
    properties: Mapping[str, str] | None = None,
) -> QuantizedModel:
    """Quantize an exported student.

    Args:
        content: the float32 file.
        model: the same, loaded.
        recordings: training audio at the model's rate, float32, ``(n,)`` each; read one after the other.
        options: see there.
        properties: go into the file as ``metadata_props``.

    Raises:
        QuantizationError: the frontend cannot be told from the encoder, no audio was given, or a weighted
            operator was not quantized.
    """
    options = options or QuantizeOptions()
    reader = StepReader(model, recordings)
    prepared = onnx.load_from_string(content)
    head_to_matmul(prepared)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        onnx.save(prepared, source)
        quant_pre_process(str(source), str(source), skip_symbolic_shape=True)
        plan = plan_nodes(onnx.load(source))
        with contextlib.redirect_stdout(io.StringIO()):  # histograms report every step
            quantize_static(
                str(source),
                str(target),
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*WEIGHTED, *GLUE],
                nodes_to_quantize=sorted(plan),
                per_channel=True,
                reduce_range=options.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[options.method],
                # The head's output feeds the log-softmax in float32.
                extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
            )
        quantized = onnx.load(target)
    share_scales(quantized.graph)
    derive_bias_scales(quantized.graph)
    store_in_16_bits(quantized, [name for name in arrays(quantized.graph) if FRONTEND_MARK in name])
    strip(quantized)
    del quantized.metadata_props[:]
    helper.set_model_props(quantized, dict(properties or {}))
    nodes = check_quantized(quantized)
    return QuantizedModel(quantized.SerializeToString(), nodes, reader.frames)


def plan_nodes(model: ModelProto) -> list[str]:
    """Names of the nodes to quantize: all of the known kinds behind the feature normalisation.

    Raises:
        QuantizationError: the frontend or the feature normalisation is not found by the names of its weights,
            or a node of the frontend would be quantized.
    """
    graph = model.graph
    statistics = [name for name in arrays(graph) if FEATURE_NORM_MARK in name]
    frontend = [node.name for node in graph.node if any(FRONTEND_MARK in name for name in node.input)]
    if not statistics or not frontend:
        raise QuantizationError(
            f"the graph names no weight with {FRONTEND_MARK!r} or none with {FEATURE_NORM_MARK!r}, so the frontend, "
            "which must stay float32, cannot be told from the encoder; keep these names in the student"
        )
    encoder = downstream(graph, statistics)
    caught = encoder.intersection(frontend)
    if caught:
        raise QuantizationError(f"nodes of the frontend ({sorted(caught)}) lie behind the feature normalisation")
    return [node.name for node in graph.node if node.name in encoder and node.op_type in (*WEIGHTED, *GLUE)]


def check_quantized(model: ModelProto) -> int:
    """Count the Conv and MatMul that compute in int8.

    Raises:
        QuantizationError: one behind the frontend does not, one of the frontend does, or an operator of
            dynamic quantization is there.
    """
    graph = model.graph
    written = producers(graph)
    forbidden = sorted({node.op_type for node in graph.node if node.op_type in FORBIDDEN})
    if forbidden:
        raise QuantizationError(f"the graph holds {', '.join(forbidden)}: dynamic quantization is slow here")
    quantized, floating, frontend = [], [], []
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            continue
        sources = [written[name].op_type if name in written else "" for name in node.input[:2]]
        in_frontend = any(FRONTEND_MARK in name for name in node.input)
        if in_frontend:
            frontend.append(node.name)
            if "DequantizeLinear" in sources:
                raise QuantizationError(f"{node.name} of the frontend is quantized; it must stay float32")
        elif all(_is_dequantized(written, name) for name in node.input[:2]):
            quantized.append(node.name)
        else:
            floating.append(node.name)
    if not frontend:
        raise QuantizationError(f"no operator reads a weight named {FRONTEND_MARK!r}; where is the frontend?")
    if floating or not quantized:
        raise QuantizationError(f"{len(quantized)} nodes are quantized, but {floating or 'all'} stayed float32")
    return len(quantized)


def _is_dequantized(written: dict[str, NodeProto], name: str) -> bool:
    node = written.get(name)
    while node is not None and node.op_type == "Transpose":
        node = written.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def head_to_matmul(model: ModelProto) -> bool:
    """Turn ``Conv(k=1), Transpose, LogSoftmax`` into ``Transpose, MatMul, Add, LogSoftmax``, in place.

    onnxruntime multiplies int8 matrices to a float32 result, but not int8 convolutions; so the logits need not
    be squeezed into eight bits. Returns whether the pattern was there.
    """
    graph = model.graph
    written, read, values = producers(graph), consumers(graph), arrays(graph)
    softmax = written.get(LOG_PROBS)
    swap = written.get(softmax.input[0]) if softmax is not None and softmax.op_type == "LogSoftmax" else None
    head = written.get(swap.input[0]) if swap is not None and swap.op_type == "Transpose" else None
    if swap is None or head is None or head.op_type != "Conv" or len(read[head.output[0]]) != 1:
        return False
    weight = values.get(head.input[1])
    if weight is None or weight.ndim != 3 or weight.shape[2] != 1 or len(head.input) != 3:
        return False
    name = head.input[1]
    set_array(graph, f"{name}_transposed", np.ascontiguousarray(weight[:, :, 0].T))
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
    nodes = [
        helper.make_node("Transpose", [head.input[0]], ["head_input"], "head_transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["head_input", f"{name}_transposed"], ["head_product"], "head_matmul"),
        # No Add: the quantizer would take it for glue. Sum is the same and stays float32.
        helper.make_node("Sum", ["head_product", head.input[2]], [swap.output[0]], "head_bias"),
    ]
    place = next(index for index, node in enumerate(graph.node) if node is head or node.name == head.name)
    graph.node.remove(head)
    graph.node.remove(swap)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
    return True


def share_scales(graph: GraphProto) -> None:
    """Give the inputs of every quantized Concat the scale of its output, in place: they hold the same values.

    So does what was only reshaped on its way there; another last digit of its scale would cost a rounding.
    """
    written, read = producers(graph), consumers(graph)
    for concat in [node for node in graph.node if node.op_type == "Concat"]:
        after = [node for node in read.get(concat.output[0], []) if node.op_type == "QuantizeLinear"]
        if not after:
            continue
        for name in concat.input:
            dequantize = written.get(name)
            while dequantize is not None and dequantize.op_type == "DequantizeLinear":
                quantize_node = written[dequantize.input[0]]
                for node in (quantize_node, *read[quantize_node.output[0]]):
                    node.input[1:] = after[0].input[1:]
                before = written.get(quantize_node.input[0])
                reshaped = before is not None and before.op_type in RESHAPES
                dequantize = written.get(before.input[0]) if before is not None and reshaped else None


def derive_bias_scales(graph: GraphProto) -> None:
    """Replace stored scales of int32 biases by ``input scale * weight scale``, which they are, in place.

    onnxruntime multiplies once at load; the file gets smaller by four bytes a channel.
    """
    written, read, values = producers(graph), consumers(graph), arrays(graph)
    products: list[NodeProto] = []
    for bias in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        stored = values.get(bias.input[0])
        users = read.get(bias.output[0], [])
        if stored is None or stored.dtype != np.int32 or len(users) != 1:
            continue
        scales = [written[name].input[1] for name in users[0].input[:2] if name in written]
        if len(scales) != 2 or any(name not in values for name in scales):
            continue
        product = np.multiply(values[scales[0]], values[scales[1]], dtype=np.float32)
        if not np.allclose(product, values[bias.input[1]], rtol=1e-5, atol=0):
            continue
        output = f"{bias.input[0]}_scale_product"
        products.append(helper.make_node("Mul", scales, [output], output))
        bias.input[1] = output
    for node in products:
        graph.node.insert(0, node)
