"""Embedding tables in eight bits, one scale a row: a lookup multiplies nothing, so only its size is at stake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from kdcompress_export.graphs import arrays, consumers, set_array

if TYPE_CHECKING:
    from onnx import ModelProto

_LEAST_AXES = 2


def store_embeddings(model: ModelProto) -> int:
    """Store every float32 table that is looked up by row, and read by nobody else, as int8, in place; return how many.

    Half a step of a row is at most 0.4 % of its largest value; what is looked up is float32 again.
    """
    graph = model.graph
    values, read, changed = arrays(graph), consumers(graph), 0
    for node in list(graph.node):
        table = values.get(node.input[0]) if node.op_type == "Gather" else None
        by_row = all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
        if table is None or table.dtype != np.float32 or table.ndim < _LEAST_AXES or not by_row:
            continue
        name, ids, found = node.input[0], node.input[1], node.output[0]
        if len(read[name]) != 1:
            continue
        step = np.abs(table).max(axis=tuple(range(1, table.ndim)), keepdims=True) / np.iinfo(np.int8).max
        step[step == 0] = 1.0
        set_array(graph, f"{name}_step", step.astype(np.float32))
        graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
        set_array(graph, name, np.rint(table / step).astype(np.int8))
        node.output[0] = f"{found}_int8"
        place = list(graph.node).index(node)
        after = [
            helper.make_node("Cast", [f"{found}_int8"], [f"{found}_cast"], f"{found}_cast", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_step", ids], [f"{found}_step"], f"{found}_step", axis=0),
            helper.make_node("Mul", [f"{found}_cast", f"{found}_step"], [found], f"{found}_float"),
        ]
        for offset, one in enumerate(after, 1):
            graph.node.insert(place + offset, one)
        changed += 1
    return changed
