"""Float32 graph -> float16 behind the frontend; inputs, outputs, states and the frontend stay float32."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import FEATURE_NORM_MARK, arrays, consumers, downstream, producers
from kdcompress_export.quantization.static import plan_nodes

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import GraphProto, ModelProto, NodeProto


def halve(prepared: ModelProto, keep_float: Collection[str] = ()) -> tuple[ModelProto, int]:
    """Store and compute in 16 bits what lies behind the feature normalisation.

    Args:
        prepared: float32, constants folded; not changed.
        keep_float: initializer names of weights whose layer stays float32.

    Returns:
        The graph, and how many layers were to be halved.

    Raises:
        QuantizationError: nothing is left to halve, or a weight is too large for float16.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    graph = prepared.graph
    layers = set(plan_nodes(prepared, keep_float, glue=False))
    kept = set(plan_nodes(prepared, glue=False)) - layers
    statistics = [tensor.name for tensor in graph.initializer if FEATURE_NORM_MARK in tensor.name]
    encoder = downstream(graph, statistics) if statistics else {node.name for node in graph.node}
    blocked = [node.name for node in graph.node if node.name not in encoder or node.name in kept]
    # The normalisation reads values that only float32 holds, and log-probabilities are the answer.
    blocked += [node.name for node in graph.node if not set(statistics).isdisjoint(node.input)]
    # Casts make floats of lengths, for positions: those are counted in float32.
    blocked += [node.name for node in graph.node if node.op_type in {"LogSoftmax", "Cast", "Range"}]
    if not layers:
        raise QuantizationError("the graph holds no layer behind the frontend")
    found = convert_float_to_float16(
        copy.deepcopy(prepared),
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST],
        node_block_list=blocked,
    )
    _undo_round_trips(found.graph)
    _sort(found.graph)
    for name, value in arrays(found.graph).items():
        if value.dtype == np.float16 and (np.abs(value) >= np.finfo(np.float16).max).any():
            raise QuantizationError(f"weight {name} holds values beyond float16")
    return found, len(layers)


def _undo_round_trips(graph: GraphProto) -> None:
    """Let nodes that stayed float32 read float32 tensors directly, in place: the way through float16 costs bits."""
    written = producers(graph)
    direct: dict[str, str] = {}
    for node in graph.node:
        before = written.get(node.input[0]) if node.op_type == "Cast" else None
        if before is not None and before.op_type == "Cast" and _target(node) == TensorProto.FLOAT != _target(before):
            direct[node.output[0]] = before.input[0]
    fixed = {value.name for value in graph.output}
    for node in graph.node:
        node.input[:] = [_follow(name, direct) for name in node.input]
    while True:
        read = consumers(graph)
        dead = [
            node
            for node in graph.node
            if node.op_type == "Cast" and node.output[0] not in read and node.output[0] not in fixed
        ]
        if not dead:
            return
        for node in dead:
            graph.node.remove(node)


def _follow(name: str, direct: dict[str, str]) -> str:
    while name in direct:
        name = direct[name]
    return name


def _target(node: NodeProto) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")


def _sort(graph: GraphProto) -> None:
    """Put nodes behind what they read, in place; the converter appends its casts at the end."""
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    waiting = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise QuantizationError("the float16 graph holds a cycle")
        graph.node.extend(ready)
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not known.issuperset(node.output)]
