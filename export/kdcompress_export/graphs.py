"""Small tools for ONNX graphs. Each takes a model, changes it in place only where its name says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

FRONTEND_MARK = ".frontend."
"""In the name of every weight of the frontend, which stays float32."""
FEATURE_NORM_MARK = ".feature_norm."
"""In the name of the statistics at which the frontend ends and the encoder begins."""
FRONTEND_NODE = "frontend/"
"""Begins the names of the frontend's nodes, so that onnxruntime's profile tells them from the encoder's."""
_FRONTEND_STATE = "next_frontend"
"""Begins the names of outputs that the frontend keeps for the next chunk."""


def arrays(graph: GraphProto) -> dict[str, NDArray[np.generic]]:
    """Return the initializers as arrays, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each tensor."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """Return the node that writes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def downstream(graph: GraphProto, sources: Iterable[str]) -> set[str]:
    """Return the names of all nodes that depend on one of the tensors ``sources``; nodes must be sorted."""
    live, found = set(sources), set()
    for node in graph.node:
        if not live.isdisjoint(node.input):
            found.add(node.name)
            live.update(node.output)
    return found


def upstream(graph: GraphProto, targets: Iterable[str]) -> set[str]:
    """Return the outputs of all nodes that one of the tensors ``targets`` depends on; nodes must be sorted."""
    live, found = set(targets), set[str]()
    for node in reversed(graph.node):
        if not live.isdisjoint(node.output):
            found.update(node.output)
            live.update(node.input)
    return found - {""}


def before_feature_norm(graph: GraphProto) -> set[str]:
    """Return the tensors that statistics of features are applied to: one, the features, where the graph is marked."""
    constants = {tensor.name for tensor in graph.initializer}
    statistics = {name for name in constants if FEATURE_NORM_MARK in name}
    norms = []
    for node in graph.node:
        if not statistics.isdisjoint(node.input):
            if constants.issuperset(node.input):  # unpacks a statistic
                statistics.update(node.output)
                constants.update(node.output)
            else:
                norms.append(node)
    inside = {name for node in norms for name in node.output}
    return {name for node in norms for name in node.input if name and name not in inside | statistics}


def set_array(graph: GraphProto, name: str, value: NDArray[np.generic]) -> None:
    """Add an initializer, or replace the one of that name, in place."""
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    graph.initializer.append(numpy_helper.from_array(value, name))


def fold_batch_norm(model: ModelProto) -> int:
    """Fold each BatchNormalization that alone follows a Conv into its weights, in place; return how many."""
    graph = model.graph
    values, written, read = arrays(graph), producers(graph), consumers(graph)
    folded = 0
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = written.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or len(read[conv.output[0]]) != 1:
            continue
        if any(name not in values for name in [conv.input[1], *norm.input[1:5]]):
            continue
        gain, shift, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        weight = values[conv.input[1]].astype(np.float64)
        bias = values[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(weight))
        scale = gain / np.sqrt(variance + epsilon)
        names = [f"{norm.output[0]}_weight", f"{norm.output[0]}_bias"]
        set_array(graph, names[0], (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32))
        set_array(graph, names[1], ((bias - mean) * scale + shift).astype(np.float32))
        conv.input[:] = [conv.input[0], *names]
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)
        folded += 1
    return folded


def strip(model: ModelProto) -> None:
    """Remove in place what only bloats the file: traces, shapes in between, unread and repeated initializers.

    Tensors in between, nodes and vectors get short names, those of the frontend's nodes behind ``FRONTEND_NODE``;
    inputs, outputs, the student's matrices and whatever belongs to the frontend or the feature norm (the quantizer
    looks for them) keep theirs.
    """
    graph = model.graph
    frontend = _frontend_outputs(graph)
    _merge_initializers(graph)
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    del graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    fixed = {value.name for value in [*graph.input, *graph.output]}
    short: dict[str, str] = {}
    for tensor in graph.initializer:
        tensor.doc_string = ""
        is_matrix = len(tensor.dims) > 1 and "." in tensor.name
        if not is_matrix and not _is_marked(tensor.name):
            short[tensor.name] = f"c{len(short)}"
            tensor.name = short[tensor.name]
    for index, node in enumerate(graph.node):
        mark = FRONTEND_NODE if not frontend.isdisjoint(node.output) else ""
        node.name, node.doc_string = f"{mark}n{index}", ""
        del node.metadata_props[:]
        for name in node.output:
            if name and name not in fixed and not _is_marked(name):
                short[name] = f"t{len(short)}"
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]


def _frontend_outputs(graph: GraphProto) -> set[str]:
    """Tensors that the frontend writes; none where it cannot be told from the encoder."""
    features = before_feature_norm(graph)
    if len(features) != 1:
        return set()
    kept = [value.name for value in graph.output if value.name.startswith(_FRONTEND_STATE)]
    return upstream(graph, [*features, *kept])


def _is_marked(name: str) -> bool:
    return FRONTEND_MARK in name or FEATURE_NORM_MARK in name


def _merge_initializers(graph: GraphProto) -> None:
    read = consumers(graph)
    kept: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    tensors = []
    for tensor in graph.initializer:
        if tensor.name not in read:
            continue
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        if key in kept:
            renamed[tensor.name] = kept[key]
            continue
        kept[key] = tensor.name
        tensors.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def store_in_16_bits(model: ModelProto, names: Iterable[str]) -> None:
    """Store float32 weights as int16 with one scale an output row, in place; they are unpacked at load.

    The rounding is 96 dB below the largest weight of a row, the step of 16-bit audio. onnxruntime computes the
    Cast and the Mul once, when it loads the graph, so the arithmetic stays float32 and as fast as before.
    """
    graph = model.graph
    values = arrays(graph)
    for name in names:
        weight = values[name].astype(np.float64)
        scale = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True) / np.iinfo(np.int16).max
        scale[scale == 0] = 1.0
        set_array(graph, f"{name}_int16", np.rint(weight / scale).astype(np.int16))
        set_array(graph, f"{name}_step", scale.astype(np.float32))
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
        cast = helper.make_node("Cast", [f"{name}_int16"], [f"{name}_float"], f"{name}_cast", to=TensorProto.FLOAT)
        unpack = helper.make_node("Mul", [f"{name}_float", f"{name}_step"], [name], f"{name}_unpack")
        graph.node.insert(0, cast)
        graph.node.insert(1, unpack)


def fix_reshapes(model: ModelProto) -> int:
    """Replace computed shapes of Reshape by constants where inferred shapes allow it, in place; return how many.

    An exporter computes ``[batch, length / hop, hop]`` with a handful of nodes; ``[0, -1, hop]`` says the same:
    0 is the axis of the input, -1 what is left. What only served such shapes is removed.
    """
    graph = model.graph
    shapes = {value.name: _dims(value) for value in [*graph.value_info, *graph.input, *graph.output]}
    known, fixed = arrays(graph), 0
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] in known:
            continue
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        if before is None or after is None:
            continue
        target = [_fixed_size(axis, size, before) for axis, size in enumerate(after)]
        if target.count(-1) > 1:
            continue
        name = f"{node.output[0]}_shape"
        set_array(graph, name, np.array(target, dtype=np.int64))
        node.input[1] = name
        node.ClearField("attribute")  # allowzero: 0 would be a length
        fixed += 1
    remove_unread(graph)
    return fixed


def _dims(value: ValueInfoProto) -> list[int | str]:
    return [
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in value.type.tensor_type.shape.dim
    ]


def _fixed_size(axis: int, size: int | str, before: list[int | str]) -> int:
    if isinstance(size, int):
        return size
    return 0 if size and axis < len(before) and before[axis] == size else -1


def remove_unread(graph: GraphProto) -> None:
    """Remove nodes whose outputs nobody reads, in place."""
    read = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
