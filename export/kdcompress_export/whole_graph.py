"""Graphs of full-context networks: what training needs for items of different lengths goes, and any length comes in.

A graph is given one input, or several that are equally long. The masks that keep padding at zero are then ones, and
between two layers they would keep int8 from passing. All functions work in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from kdcompress_export.graphs import arrays, producers, remove_unread, set_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

    from kdcompress_runtime.bundle import InputSpec

PADDED = "whole_frames"
"""The input, zero-padded to whole frames."""


def drop_masks(graph: GraphProto, source: str) -> int:
    """Take products with masks out: comparisons that depend on the length of ``source`` alone. Return how many."""
    heard, masks, renamed = {source}, set[str](), dict[str, str]()
    for node in list(graph.node):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Mul" and len(masks.intersection(node.input)) == 1 and not heard.isdisjoint(node.input):
            (renamed[node.output[0]],) = set(node.input) - masks
            graph.node.remove(node)
        elif node.op_type != "Shape" and not heard.isdisjoint(node.input):
            heard.update(node.output)
        elif node.op_type == "Less" or not masks.isdisjoint(node.input):
            masks.update(node.output)
    remove_unread(graph)
    return len(renamed)


def embed_ids(graph: GraphProto, source: str) -> int:
    """Let an embedding look up the ids of ``source`` themselves, not floats made from them. Return how many do.

    Training carries ids as features, repeated once for each frame of a token; the way back and forth is gone then.
    """
    heard, tables, found = {source}, {tensor.name for tensor in graph.initializer}, 0
    for node in graph.node:
        if node.op_type == "Shape" or heard.isdisjoint(node.input):
            continue
        if node.op_type == "Gather" and node.input[0] in tables:
            node.input[1] = source
            found += 1
        else:
            heard.update(node.output)
    remove_unread(graph)
    return found


def drop_cut_paddings(graph: GraphProto) -> int:
    """Take out every Pad whose zeros a Slice cuts off again (the residual of a convolution). Return how many."""
    written, values, renamed = producers(graph), arrays(graph), dict[str, str]()
    for node in list(graph.node):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        before = written.get(node.input[0]) if node.op_type == "Slice" else None
        if before is not None and before.op_type == "Pad" and _cancel(before, node, values):
            renamed[node.output[0]] = before.input[0]
            graph.node.remove(node)
    remove_unread(graph)
    return len(renamed)


def _cancel(pad: NodeProto, cut: NodeProto, values: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether the slice takes away what the padding has put on the one axis that it pads."""
    constants = [values.get(name) for name in (*pad.input[1:2], *cut.input[1:])]
    if (len(pad.input) > 3 and pad.input[3]) or len(constants) != 5 or any(value is None for value in constants):
        return False
    pads, starts, ends, axes, steps = ([int(size) for size in value] for value in constants if value is not None)
    if len(starts) != 1 or steps != [1]:
        return False
    rank = len(pads) // 2
    padded = {axis: (pads[axis], pads[axis + rank]) for axis in range(rank) if pads[axis] or pads[axis + rank]}
    kept_end = -ends[0] if ends[0] < 0 else 0
    whole = ends[0] < 0 or ends[0] >= np.iinfo(np.int32).max
    return whole and padded == {axes[0] % rank: (starts[0], kept_end)}


def pad_to_frames(graph: GraphProto, source: InputSpec) -> None:
    """Put zeros behind the input, ``(N, units, ...)``, until it is whole frames."""
    if source.units_per_frame == 1:
        return
    for node in graph.node:
        node.input[:] = [PADDED if name == source.name else name for name in node.input]
    constants = {"frame_units": source.units_per_frame, "pad_before": 0, "pad_axis": 1}
    for name, value in constants.items():
        set_array(graph, name, np.array([value], dtype=np.int64))
    nodes = [
        helper.make_node("Shape", [source.name], ["pad_samples"], "pad_samples", start=1, end=2),
        helper.make_node("Neg", ["pad_samples"], ["pad_negative"], "pad_negative"),
        helper.make_node("Mod", ["pad_negative", "frame_units"], ["pad_missing"], "pad_missing"),
        helper.make_node("Concat", ["pad_before", "pad_missing"], ["pad_sizes"], "pad_sizes", axis=0),
        helper.make_node("Pad", [source.name, "pad_sizes", "", "pad_axis"], [PADDED], PADDED),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
