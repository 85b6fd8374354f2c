"""1-D convolutions -> 2-D ones of height 1, for float32: onnxruntime lays out only those in blocks of channels.

On x86 the float32 file of a separable-convolution student gets a fifth faster on whole recordings and almost half
as fast again on short chunks. int8 has its own layout and gains nothing, so it is quantized from the 1-D graph.
Inputs, outputs and states stay as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import checker, helper

from kdcompress_export.graphs import (
    FEATURE_NORM_MARK,
    FRONTEND_MARK,
    arrays,
    downstream,
    remove_unread,
    set_array,
    strip,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

_AXIS = "planar_axis"
_TIME = "planar_time"
_SUFFIX = "_planar"


def with_2d_convolutions(content: bytes) -> bytes:
    """Return the same float32 graph with 2-D convolutions behind the feature normalisation.

    What lies between them (ReLU, residuals, caches) becomes four-dimensional, too. A graph without 1-D convolutions,
    or one in which frontend and encoder cannot be told apart, comes back as it was.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node{index}"
    region = _region(graph)
    if not region:
        return content
    _rewrite(graph, region)
    remove_unread(graph)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    strip(model)
    helper.set_model_props(model, properties)
    checker.check_model(model, full_check=True)
    found: bytes = model.SerializeToString()
    return found


def _region(graph: GraphProto) -> set[str]:
    """Names of the convolutions of the encoder and of what is only between them."""
    values = arrays(graph)
    marks = [name for name in values if FEATURE_NORM_MARK in name]
    encoder = downstream(graph, marks)
    region: set[str] = set()
    planar: set[str] = set()
    for node in graph.node:
        if node.name in encoder and _belongs(node, values, planar):
            region.add(node.name)
            planar.update(node.output)
    return region


def _belongs(node: NodeProto, values: Mapping[str, NDArray[np.generic]], planar: set[str]) -> bool:
    if node.op_type == "Conv":
        weight = values.get(node.input[1])
        return weight is not None and weight.ndim == 3 and FRONTEND_MARK not in node.input[1]
    if node.op_type in ("Relu", "Add"):
        return all(name in planar for name in node.input)
    if node.op_type == "Concat":
        return not planar.isdisjoint(node.input) and _attributes(node)["axis"] == 2
    if node.op_type == "Slice":
        axes = values.get(node.input[3]) if len(node.input) > 3 else None
        return node.input[0] in planar and axes is not None and axes.tolist() == [2]
    return False


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _rewrite(graph: GraphProto, region: set[str]) -> None:
    values, old = arrays(graph), list(graph.node)
    planar = {name for node in old if node.name in region for name in node.output}
    leaving = {value.name for value in graph.output}
    leaving.update(name for node in old if node.name not in region for name in node.input)
    set_array(graph, _AXIS, np.array([2], dtype=np.int64))
    set_array(graph, _TIME, np.array([3], dtype=np.int64))
    nodes: list[NodeProto] = []
    lifted: set[str] = set()
    for node in old:
        nodes.append(node)
        if node.name not in region:
            continue
        for name in _data(node):
            if name not in planar and name not in lifted:
                lifted.add(name)
                nodes.insert(-1, helper.make_node("Unsqueeze", [name, _AXIS], [name + _SUFFIX], name + _SUFFIX))
        _lift(graph, node, values)
        (name,) = node.output
        node.output[0] = name + _SUFFIX
        if name in leaving:
            nodes.append(helper.make_node("Squeeze", [name + _SUFFIX, _AXIS], [name], name + "_flat"))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]


def _data(node: NodeProto) -> list[str]:
    """Inputs that are activations."""
    return list(node.input) if node.op_type in ("Add", "Concat") else [node.input[0]]


def _lift(graph: GraphProto, node: NodeProto, values: Mapping[str, NDArray[np.generic]]) -> None:
    """Make one node four-dimensional, in place."""
    found = _attributes(node)
    for index in range(len(_data(node))):
        node.input[index] += _SUFFIX
    if node.op_type == "Slice":
        node.input[3] = _TIME
    if node.op_type == "Concat":
        found["axis"] = 3
    if node.op_type == "Conv":
        weight = values[node.input[1]]
        set_array(graph, node.input[1], weight[:, :, None, :])
        found["kernel_shape"] = [1, weight.shape[2]]
        for name, fill in (("strides", 1), ("dilations", 1)):
            found[name] = [fill, *found.get(name, [1])]
        found["pads"] = [0, found.get("pads", [0, 0])[0], 0, found.get("pads", [0, 0])[1]]
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(found.items()))
