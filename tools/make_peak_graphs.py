#!/usr/bin/env python3
"""Write the two tiny graphs with which ``kdcompress eval`` measures what a machine can reach.

``python tools/make_peak_graphs.py`` writes them where they belong; a test says whether they are current.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kdcompress_evaluation.speed.roofline import GRAPHS, SIZE

KINDS = {
    "float32": ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT, 0.5),
    "int8": ("MatMulInteger", TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, 3),
}
"""Operator, types of input, weight and output, and the value of every weight."""


def make(kind: str) -> bytes:
    """Return a product with a constant matrix that is filled in when the graph is loaded."""
    operator, given, weight, returned, value = KINDS[kind]
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["w"], value=helper.make_tensor("value", weight, [1], [value])),
        helper.make_node(operator, ["x", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("x", given, ["rows", SIZE])],
        [helper.make_tensor_value_info("y", returned, ["rows", SIZE])],
        [numpy_helper.from_array(np.array([SIZE, SIZE], np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def main(folder: Path) -> int:
    """Write both; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / f"{kind}.onnx").write_bytes(make(kind))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else GRAPHS))
