"""Rewrites of the float32 graph change how it is computed, not what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdcompress_export.agreement import compare_models, split_differences
from kdcompress_export.graphs import arrays, fix_reshapes
from kdcompress_export.planar import with_2d_convolutions
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.model import CtcModel

AUDIO = speech_like_noise(2.0, 8000, 5)


def operators(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


def test_an_exported_student_computes_no_shapes(floating):
    """Shapes are constants, so that a chunk of few frames is not a matter of bookkeeping."""
    assert not operators(floating[0]).keys() & {"Shape", "Div", "Expand", "Pow"}


def test_2d_convolutions_are_the_same_model(floating, student):
    content, model = floating
    planar = with_2d_convolutions(content)
    values = arrays(onnx.load_from_string(planar).graph)
    before = arrays(onnx.load_from_string(content).graph)
    assert values.keys() >= {name for name in before if name.endswith("weight")}
    layers = [name for name in before if before[name].ndim == 3 and ".frontend." not in name]
    assert len(layers) == 2 + 3 * len(student.network.blocks)
    assert all(values[name].shape == (*before[name].shape[:2], 1, before[name].shape[2]) for name in layers)
    loaded = CtcModel(planar, model.metadata, student.vocabulary)
    assert compare_models(model, loaded, [AUDIO]).max_abs_diff < 1e-4
    assert split_differences(loaded, AUDIO, seed=1, splits=3).max_abs_diff < 1e-4
    found, asked = (onnx.load_from_string(one) for one in (planar, content))
    assert found.graph.input == asked.graph.input
    assert found.graph.output == asked.graph.output
    assert found.metadata_props == asked.metadata_props


def test_the_frontend_stays_one_dimensional(floating):
    values = arrays(onnx.load_from_string(with_2d_convolutions(floating[0])).graph)
    frontend = [value.ndim for name, value in values.items() if ".frontend." in name]
    assert max(frontend) == 3


def test_a_graph_without_marks_comes_back_as_it_was():
    weight = numpy_helper.from_array(np.ones((2, 2, 3), np.float32), "weight")
    shape = [1, 2, 9]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"])],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 7])],
        [weight],
    )
    content = helper.make_model(graph).SerializeToString()
    assert with_2d_convolutions(content) == content


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["N", 6, "t"], ["N", 2, "3*t"], [0, 2, -1]),
        (["N", "t"], ["N", "t/4", 4], [0, -1, 4]),
        (["N", "t", 6], ["N", "t", 2, 3], [0, 0, 2, 3]),
        (["N", "t", 6], ["M", "s", 6], None),
    ],
)
def test_computed_shapes_become_constants_where_they_can(before, after, expected):
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["a", "b"], ["shape"], axis=0),
            helper.make_node("Reshape", ["x", "shape"], ["y"], allowzero=1),
        ],
        "reshape",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, before),
            *(helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in "ab"),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, after)],
    )
    model = helper.make_model(graph)
    assert fix_reshapes(model) == (expected is not None)
    reshape = model.graph.node[-1]
    assert [node.op_type for node in model.graph.node] == (["Reshape"] if expected else ["Concat", "Reshape"])
    if expected is not None:
        assert arrays(model.graph)[reshape.input[1]].tolist() == expected
        assert not reshape.attribute
