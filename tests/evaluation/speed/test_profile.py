"""Multiply-accumulates against counts by hand, on graphs that onnxruntime really ran."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from kdcompress_evaluation.speed.profile import (
    _COUNTING,
    Node,
    frontend_share,
    profile_model,
    read_events,
    run_profiled,
)
from kdcompress_runtime.bundle import Bundle

FRAMES, GENERATOR = 20, np.random.default_rng(0)


def weight(name, *shape):
    return numpy_helper.from_array(GENERATOR.normal(size=shape).astype(np.float32), name)


def build(nodes, weights, given, returned):
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, returned)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def matmul():
    return build([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight("w", 24, 40)], [1, FRAMES, 24], None)


def gemm():
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=1, transB=1)
    return build([node], [weight("w", 40, 24), weight("b", 40)], [24, FRAMES], None)


def convolution(group=1, kernel=5):
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=group, pads=[2, 2])
    return build([node], [weight("w", 32, 24 // group, kernel), weight("b", 32)], [1, 24, FRAMES], None)


def attention():
    nodes = [
        helper.make_node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "k"], ["s"]),
        helper.make_node("MatMul", ["s", "x"], ["y"]),
    ]
    return build(nodes, [], [2, FRAMES, 24], None)


CASES = {
    "matmul": (matmul(), (1, FRAMES, 24), FRAMES * 24 * 40),
    "gemm": (gemm(), (24, FRAMES), FRAMES * 24 * 40),
    "convolution": (convolution(), (1, 24, FRAMES), FRAMES * 32 * 24 * 5),
    "depthwise": (convolution(group=8), (1, 24, FRAMES), FRAMES * 32 * 3 * 5),
    "attention": (attention(), (2, FRAMES, 24), 2 * 2 * FRAMES * FRAMES * 24),
}


def nodes_of(content, shape):
    feed = {"x": GENERATOR.normal(size=shape).astype(np.float32)}
    return run_profiled(content, feed, _COUNTING.build(), steps=1)[0]


@pytest.mark.parametrize("name", CASES)
def test_macs_of_one_operator(name):
    model, shape, expected = CASES[name]
    assert sum(node.macs for node in nodes_of(model.SerializeToString(), shape)) == expected


def test_quantized_products_count_as_many_and_are_known_for_integers(tmp_path):
    model, shape, expected = CASES["matmul"]
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    nodes = nodes_of((tmp_path / "int8.onnx").read_bytes(), shape)
    assert sum(node.macs for node in nodes) == expected
    assert [node.operator for node in nodes if node.macs] == ["DynamicQuantizeMatMul"]


def test_an_event_of_a_quantized_convolution():
    """As onnxruntime 1.31 writes it: scales and zero points are inputs, too."""
    scale, point = {"float": []}, {"uint8": []}
    arguments = {
        "op_name": "QLinearConv",
        "parameter_size": "207690",
        "input_type_shape": [
            *({"uint8": [1, 36, 80]}, scale, point),
            *({"int8": [320, 80, 8]}, {"float": [320]}, {"int8": [320]}),
            *(scale, point, {"int32": [320]}),
        ],
        "output_type_shape": [{"uint8": [1, 8, 320]}],
    }
    events = [
        {"cat": "Session", "name": "model_run", "dur": 100},
        {"cat": "Node", "name": "n151_token_25_kernel_time", "dur": 24, "args": arguments},
        {"cat": "Node", "name": "n151_token_25_fence_before", "dur": 1, "args": {"op_name": "QLinearConv"}},
    ]
    (found,) = read_events(events)
    assert (found.name, found.micros, found.constants) == ("n151_token_25", 24.0, 207690)
    assert found.macs == 8 * 320 * 80 * 8


def node(name, micros):
    return Node(name, "Add", micros, (), (), 0)


def test_the_share_of_the_frontend_leaves_out_what_the_profiler_takes():
    """Three nodes of 12 microseconds in a step of 24 without the profiler: 4 of each are the profiler's."""
    steps = [[node("frontend/n0", 12.0), node("n1", 12.0), node("n2", 12.0)]] * 5
    assert frontend_share(steps, 24e-6) == pytest.approx(1 / 3)
    steps = [[node("frontend/n0", 6.0), node("n1_token_3", 12.0), node("n2", 18.0)]] * 5
    assert frontend_share(steps, 24e-6) == pytest.approx(2 / 24)
    assert frontend_share(steps, 36e-6) == pytest.approx(6 / 36)
    assert frontend_share(steps, 1.0) == pytest.approx(6 / 36)  # a step that was slower than its nodes
    assert frontend_share([[node("n0", 6.0)]], 6e-6) is None


def test_a_bundle_is_profiled_chunk_by_chunk(bundle):
    """The speller's graph multiplies four frames by a matrix of classes; its audio is 160 ms."""
    opened = Bundle.open(bundle)
    classes = len(opened.vocabulary)
    found = profile_model(opened, "float32", np.zeros(4 * 320 + 100, np.float32))
    assert found.float_macs == 4 * classes * classes
    assert found.int8_macs == 0
    assert found.audio_seconds == pytest.approx(0.16)
    assert found.weight_bytes >= 4 * classes * classes
    assert found.frontend_share is None
    assert found.uncounted == ()
    assert 0 < found.seconds < 1


def test_a_model_that_takes_whole_recordings_is_profiled_on_all_of_one(make_bundle, tmp_path):
    opened = Bundle.open(make_bundle(tmp_path / "b", "b", streaming=False))
    found = profile_model(opened, "float32", np.zeros(10 * 320, np.float32))
    assert found.audio_seconds == pytest.approx(0.4)
    assert found.float_macs == 10 * len(opened.vocabulary) ** 2
