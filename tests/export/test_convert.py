"""The exported file is what was asked for, and refused when it is not."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcompress.run import load_student
from kdcompress_export.convert import OPSET, check_graph, convert, input_spec, quiet_exporter
from kdcompress_export.errors import GraphError
from kdcompress_export.from_run import describe
from kdcompress_export.graphs import fold_batch_norm
from kdcompress_export.parity import check_parity
from kdcompress_runtime.model import CtcModel


def test_the_file_says_what_the_contract_says(floating, student):
    content, _ = floating
    model = onnx.load_from_string(content)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    states = [spec.name for spec in student.network.state_specs()]
    assert [value.name for value in model.graph.input] == ["pcm", *states]
    assert [value.name for value in model.graph.output] == ["log_probs", *(f"next_{name}" for name in states)]
    axes = [axis.dim_param or axis.dim_value for axis in model.graph.output[0].type.tensor_type.shape.dim]
    assert axes == ["N", "frames", len(student.vocabulary)]
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == {"kdcompress": {"name": "tiny"}}


def test_batch_norm_is_gone_and_nothing_bloats_the_file(floating):
    content, _ = floating
    model = onnx.load_from_string(content)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert len(content) - weights < 12_000


def test_a_batch_norm_that_the_exporter_left_is_folded():
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 2), "gain": (4,), "shift": (4,), "mean": (4,), "var": (4,)}
    values = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], "conv"),
        helper.make_node("BatchNormalization", ["y", "gain", "shift", "mean", "var"], ["z"], "norm", epsilon=1e-3),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None]) for name in "xz"]
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    inputs = {"x": rng.standard_normal((1, 3, 9)).astype(np.float32)}
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]
    assert fold_batch_norm(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize(("kind", "axis", "words"), [("input", 0, "pcm is fixed to 1"), ("output", 1, "log_probs is")])
def test_a_fixed_dimension_is_refused(floating, student, kind, axis, words):
    model = onnx.load_from_string(floating[0])
    value = getattr(model.graph, kind)[0]
    value.type.tensor_type.shape.dim[axis].dim_value = 1
    with pytest.raises(GraphError, match=words):
        check_graph(model, input_spec(student.network), student.network.state_specs(), len(student.vocabulary))


def test_every_other_difference_is_named(floating, student):
    network, tokens = student.network, len(student.vocabulary)
    model = onnx.load_from_string(floating[0])
    model.opset_import[0].version = 20
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    model.graph.node.append(helper.make_node("BatchNormalization", [], []))
    with pytest.raises(GraphError, match=r"opsets are .* a BatchNormalization is left.* is float64.* not 99"):
        check_graph(model, input_spec(network), network.state_specs(), 99)
    model = onnx.load_from_string(floating[0])
    model.graph.output[1].name = "tail"
    with pytest.raises(GraphError, match="outputs are"):
        check_graph(model, input_spec(network), network.state_specs(), tokens)


def test_nothing_is_printed_or_logged(run, tmp_path):
    program = (
        "import sys; from pathlib import Path; from kdcompress_export import export_run\n"
        "export_run(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, run, tmp_path / "bundle"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_quiet_lasts_only_as_long_as_the_export():
    logger = logging.getLogger("torch.onnx")
    level, filters = logger.level, list(warnings.filters)
    with pytest.raises(KeyboardInterrupt), quiet_exporter():
        raise KeyboardInterrupt
    assert (logger.level, list(warnings.filters)) == (level, filters)


@pytest.mark.parametrize("lookahead", [0, 8])
def test_look_ahead_of_any_size_exports_and_agrees_with_torch(tmp_path, make_run, lookahead):
    run = load_student(make_run(tmp_path, lookahead=lookahead, width=8))
    content = convert(run.network, len(run.vocabulary), {})
    model = CtcModel(content, describe(run, run.network), run.vocabulary)
    report = check_parity(run.network, model)
    assert model.metadata.lookahead_frames == lookahead
    assert 0 < report.max_abs_diff < report.atol


def test_ctrl_c_inside_torchs_exporter_is_ctrl_c(monkeypatch, student):
    """torch would take it for an error of its own, and print a page about it."""

    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)
        raise torch.onnx.OnnxExporterError("half imported")

    monkeypatch.setattr(torch.onnx, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(student.network, len(student.vocabulary), {})


def test_what_torch_cannot_export_is_one_sentence(monkeypatch, student):
    def refused(*_, **__):
        raise torch.onnx.OnnxExporterError("a page") from TypeError("no such operator\nin line 7")

    monkeypatch.setattr(torch.onnx, "export", refused)
    with pytest.raises(GraphError, match=r"cannot export this student \(no such operator\); see"):
        convert(student.network, len(student.vocabulary), {})
