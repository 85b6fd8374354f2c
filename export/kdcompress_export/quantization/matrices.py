"""Which layers are matrix products, and how to write a convolution over one frame as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import arrays, set_array
from kdcompress_export.quantization.static import plan_nodes, prepare

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto


def prepare_matrices(content: bytes) -> ModelProto:
    """Bring a float32 file into the form in which matrices are quantized: constants folded, pointwise layers MatMul."""
    model = prepare(content)
    pointwise_to_matmul(model)
    return model


def matrix_nodes(prepared: ModelProto, keep_float: Collection[str] = ()) -> list[str]:
    """Names of the MatMul nodes behind the frontend that hold a weight and are not kept.

    Raises:
        QuantizationError: there is none, or ``keep_float`` names what is no layer.
    """
    planned = set(plan_nodes(prepared, keep_float, glue=False))
    weights = {tensor.name for tensor in prepared.graph.initializer if len(tensor.dims) == 2}
    nodes = [node for node in prepared.graph.node if node.name in planned and node.op_type == "MatMul"]
    names = [node.name for node in nodes if node.input[1] in weights]
    if not names:
        raise QuantizationError("the graph holds no matrix product with a weight behind the frontend")
    return names


def pointwise_to_matmul(model: ModelProto) -> int:
    """Write ``Conv`` over one frame behind the frontend as ``Transpose, MatMul, Add, Transpose``, in place.

    The weight keeps its name. onnxruntime takes out the transpositions between two such layers when it loads the
    graph. Returns how many there were.
    """
    graph = model.graph
    planned, values = set(plan_nodes(model, glue=False)), arrays(graph)
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    found: list[NodeProto] = []
    changed = 0
    for node in graph.node:
        weight = values.get(node.input[1]) if len(node.input) > 1 else None
        if node.name in planned and weight is not None and readers[node.input[1]] == 1 and _is_pointwise(node, weight):
            found += _as_matmul(node)
            set_array(graph, node.input[1], np.ascontiguousarray(weight[:, :, 0].T))
            changed += 1
        else:
            found.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in found]
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _is_pointwise(node: NodeProto, weight: NDArray[np.generic]) -> bool:
    if node.op_type != "Conv" or weight.ndim != 3 or weight.shape[2] != 1:
        return False
    given = {attribute.name: attribute for attribute in node.attribute}
    plain = all(set(given[name].ints) <= {1} for name in ("strides", "dilations") if name in given)
    unpadded = "pads" not in given or set(given["pads"].ints) <= {0}
    return plain and unpadded and ("group" not in given or given["group"].i == 1)


def _as_matmul(node: NodeProto) -> list[NodeProto]:
    name, data, weight = node.name, node.input[0], node.input[1]
    product = f"{name}_product"
    nodes = [
        helper.make_node("Transpose", [data], [f"{name}_frames"], f"{name}_in", perm=[0, 2, 1]),
        helper.make_node("MatMul", [f"{name}_frames", weight], [product], f"{name}_matmul"),
    ]
    if len(node.input) > 2:
        nodes.append(helper.make_node("Add", [product, node.input[2]], [f"{name}_sum"], f"{name}_bias"))
        product = f"{name}_sum"
    nodes.append(helper.make_node("Transpose", [product], [node.output[0]], f"{name}_out", perm=[0, 2, 1]))
    return nodes
