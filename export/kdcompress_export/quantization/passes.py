"""Rewrites around onnxruntime's static quantizer, so that int8 is not left between two layers; each in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from kdcompress_export.graphs import arrays, consumers, producers, set_array
from kdcompress_runtime.model import LOG_PROBS

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

RESHAPES = ("Squeeze", "Unsqueeze")
"""Operators that leave every value as it is."""


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
    set_array(graph, name, np.ascontiguousarray(weight[:, :, 0].T))
    nodes = [
        helper.make_node("Transpose", [head.input[0]], ["head_input"], "head_transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["head_input", name], ["head_product"], "head_matmul"),
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
