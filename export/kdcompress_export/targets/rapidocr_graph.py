"""A bundle's graph -> the graph that RapidOCR's text recogniser feeds and reads.

RapidOCR hands over ``x (N, 3, height, width)`` float32: blue, green and red, ``(value / 255 - 0.5) / 0.5``, with zeros
behind the shorter lines. No pixel of a picture is zero then (that would be the value 127.5), so a column of zeros is
padding, and is cut off: each line goes through the bundle's own graph alone, in a ``Loop``, as wide as it is. So it is
read as our own runtime reads it, whatever the others beside it are, and whatever kind of network it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from kdcompress_export.convert import OPSET
from kdcompress_export.targets.onnx_writer import Writer
from kdcompress_runtime.model import LOG_PROBS

if TYPE_CHECKING:
    from onnx import ModelProto

    from kdcompress_runtime.bundle import BundleMetadata

INPUT, OUTPUT = "x", "probabilities"
COLOURS = 3
_LUMA = np.array([114, 587, 299], dtype=np.float32) / np.float32(1000)
"""Of blue, green and red, as the runtime weighs them."""


def recogniser_graph(model: ModelProto, metadata: BundleMetadata, order: list[int]) -> ModelProto:
    """Build the graph.

    Args:
        model: of a bundle that takes images; not changed.
        metadata: of that bundle.
        order: id in the bundle of each class of the answer.

    Returns:
        A graph from ``x (N, 3, height, width)`` to ``probabilities (N, T, classes)``, T as for a line of that width.
    """
    height, channels = metadata.input.height or 0, metadata.input.channels or 1
    outer = Writer()
    columns = _columns(outer, height, channels)
    widths = _widths(outer)
    frames = _frames(outer, metadata.input.units_per_frame)
    body = _line(Writer(outer), model, metadata.input.name, (columns, widths, frames), order)
    lines = outer.op("Squeeze", outer.size(INPUT, 0), outer.constant([0]))
    outer.ops("Loop", [lines, ""], [OUTPUT], body=body)
    real = TensorProto.FLOAT
    graph = helper.make_graph(
        outer.nodes,
        "rapidocr",
        [helper.make_tensor_value_info(INPUT, real, ["N", COLOURS, height, "width"])],
        [helper.make_tensor_value_info(OUTPUT, real, ["N", "frames", len(order)])],
        list(outer.constants.values()),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=model.ir_version)
    onnx.checker.check_model(made)
    return made


def _columns(graph: Writer, height: int, channels: int) -> str:
    """Pixels as the bundle takes them, ``(N, width, height * channels)`` uint8."""
    pixels = graph.op("Mul", INPUT, graph.constant(np.float32(127.5)))
    pixels = graph.op("Round", graph.op("Add", pixels, graph.constant(np.float32(127.5))))
    if channels == 1:
        weights = graph.constant(_LUMA.reshape(1, COLOURS, 1, 1))
        grey = graph.op("Conv", pixels, weights)
        pixels = graph.op("Floor", graph.op("Add", grey, graph.constant(np.float32(0.5))))
    else:
        pixels = graph.op("Gather", pixels, graph.constant([2, 1, 0]), axis=1)
    columns = graph.op("Transpose", graph.op("Cast", pixels, to=TensorProto.UINT8), perm=[0, 3, 2, 1])
    return graph.op("Reshape", columns, graph.constant([0, 0, height * channels]))


def _widths(graph: Writer) -> str:
    """Columns of each line before its padding, ``(N,)``, at least one."""
    largest = graph.op("ReduceMax", graph.op("Abs", INPUT), graph.constant([1, 2]), keepdims=0)
    drawn = graph.op("Cast", graph.op("Greater", largest, graph.constant(np.float32(0))), to=TensorProto.INT64)
    count = graph.op("ReduceSum", drawn, graph.constant([1]), keepdims=0)
    return graph.op("Max", count, graph.constant([1]))


def _frames(graph: Writer, units: int) -> str:
    """Frames of a line that is as wide as the batch, ``(1,)``."""
    whole = graph.op("Add", graph.size(INPUT, 3), graph.constant([units - 1]))
    return graph.op("Div", whole, graph.constant([units]))


def _line(
    graph: Writer, model: ModelProto, source: str, seen: tuple[str, str, str], order: list[int]
) -> onnx.GraphProto:
    """Body of the loop: one line, without its padding, through the bundle's graph; blanks up to the batch's length."""
    columns, widths, frames = seen
    number, go, on = graph.name(), graph.name(), graph.name()
    place = graph.op("Unsqueeze", number, graph.constant([0]))
    line = graph.op("Gather", columns, place, axis=0)
    line = graph.slice(line, 0, graph.op("Gather", widths, place, axis=0))
    for node in model.graph.node:
        copied = onnx.NodeProto.FromString(node.SerializeToString())
        copied.input[:] = [line if name == source else name for name in node.input]
        graph.nodes.append(copied)
    said = graph.op("Gather", graph.op("Exp", LOG_PROBS), graph.constant(order), axis=2)
    blank = np.eye(1, len(order), dtype=np.float32)[None]
    missing = graph.op("Concat", *_ends(graph, graph.op("Sub", frames, graph.size(said, 1))), axis=0)
    padding = graph.op("Expand", graph.constant(blank), missing)
    answer = graph.op("Squeeze", graph.op("Concat", said, padding, axis=1), graph.constant([0]))
    graph.nodes.append(helper.make_node("Identity", [go], [on], graph.name()))
    value = helper.make_tensor_value_info
    return helper.make_graph(
        graph.nodes,
        "line",
        [value(number, TensorProto.INT64, []), value(go, TensorProto.BOOL, [])],
        [value(on, TensorProto.BOOL, []), value(answer, TensorProto.FLOAT, ["frames", len(order)])],
        list(model.graph.initializer),
    )


def _ends(graph: Writer, length: str) -> tuple[str, str, str]:
    one = graph.constant([1])
    return one, length, one
