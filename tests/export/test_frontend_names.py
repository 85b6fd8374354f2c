"""Nodes of the frontend are named as such, in every precision and after onnxruntime has rewritten the graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdcompress_export.graphs import FEATURE_NORM_MARK, FRONTEND_MARK, FRONTEND_NODE, strip
from kdcompress_export.planar import with_2d_convolutions
from kdcompress_export.quantization.calibration import Calibration
from kdcompress_export.quantization.schemes import apply, find_scheme
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.model import SessionOptions

AUDIO = [speech_like_noise(1.5, 8000, seed) for seed in range(60, 63)]
EACH = ["float32", "planar", "static-u8s8-minmax-all", "static-s8s8-minmax", "dynamic", "weights-8bit", "float16"]
WORK = {"Conv", "MatMul", "Log"}
"""Of the frontend: offset and spectrum, windows, the logarithm."""


@pytest.fixture(scope="module")
def calibration(floating):
    return Calibration(floating[1], AUDIO)


@pytest.fixture(params=EACH)
def graph(request, floating, calibration):
    content, _ = floating
    if request.param == "planar":
        content = with_2d_convolutions(content)
    elif request.param != "float32":
        content = apply(find_scheme(request.param), content, calibration).content
    return onnx.load_from_string(content).graph


def marked(graph):
    return [node for node in graph.node if node.name.startswith(FRONTEND_NODE)]


def test_what_reads_the_frontends_weights_is_marked_and_nothing_behind_the_features(graph):
    names = {node.name for node in marked(graph)}
    assert {node.op_type for node in marked(graph)} >= WORK
    readers = {node.name for node in graph.node if any(FRONTEND_MARK in name for name in node.input)}
    assert readers
    assert readers <= names
    behind = {name for tensor in graph.initializer if FEATURE_NORM_MARK in (name := tensor.name)}
    for node in graph.node:  # whatever depends on the statistics of features
        if not behind.isdisjoint(node.input):
            behind.update(node.output)
            assert node.name not in names


def test_the_frontend_reads_samples_and_its_own_states_alone(graph):
    """It is whole: whatever a marked node reads is given, stored, or written by a marked node."""
    given = {value.name for value in graph.input if value.name == "pcm" or value.name.startswith("frontend")}
    stored = {tensor.name for tensor in graph.initializer}
    written = {name for node in marked(graph) for name in node.output}
    read = {name for node in marked(graph) for name in node.input if name}
    assert read <= given | stored | written
    assert {value.name for value in graph.output if value.name.startswith("next_frontend")} <= written


def test_names_are_distinct(graph):
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["float32", "static-u8s8-minmax-all"])
def test_the_mark_survives_what_onnxruntime_does_to_the_graph(floating, calibration, tmp_path, name):
    """Fusions and layouts give new names; they must keep the mark, since profiles show these names."""
    content, _ = floating
    if name != "float32":
        content = apply(find_scheme(name), content, calibration).content
    options = SessionOptions().build(streaming=True)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = [node for node in onnx.load(tmp_path / "optimized.onnx").graph.node if FRONTEND_NODE in node.name]
    assert sum(node.op_type in {"Conv", "FusedConv", "MatMul"} for node in found) == 5
    assert any(node.op_type == "Log" for node in found)


def test_a_graph_whose_frontend_is_not_marked_gets_no_such_names():
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "gain"], ["y"], "scale")],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.ones(4, np.float32), "gain")],
    )
    model = helper.make_model(graph)
    strip(model)
    assert [node.name for node in model.graph.node] == ["n0"]
