"""The conformer goes the same way as the convolutional students: exported with dynamic axes, proven, quantized."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from kdcompress.run import load_student
from kdcompress_export.agreement import split_differences
from kdcompress_export.convert import convert
from kdcompress_export.from_run import describe
from kdcompress_export.graphs import FRONTEND_MARK
from kdcompress_export.parity import check_parity
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.model import CtcModel

DEPTH, WIDTH, LEFT = 2, 24, 32


@pytest.fixture(scope="module")
def conformer(make_run, tmp_path_factory):
    return load_student(make_run(tmp_path_factory.mktemp("conformer"), kind="chunked_conformer"))


@pytest.fixture(scope="module")
def content(conformer) -> bytes:
    return convert(conformer.network, len(conformer.vocabulary), {"name": "conformer"})


@pytest.fixture(scope="module")
def model(conformer, content) -> CtcModel:
    return CtcModel(content, describe(conformer, conformer.network), conformer.vocabulary)


def test_float32_equals_torch_at_every_batch_and_length(conformer, model):
    report = check_parity(conformer.network, model, recordings=[speech_like_noise(1.3, 8000, 5)])
    assert 0 < report.max_abs_diff < 1e-5


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 750])
def test_items_of_a_batch_of_four_are_those_of_four_streams(model, frames):
    units = model.metadata.input.units_per_frame
    inputs = np.stack([speech_like_noise(2 * frames * units / 8000, 8000, seed) for seed in range(4)])
    states, single = model.init_states(4), [model.init_states() for _ in range(4)]
    for piece in np.split(np.ascontiguousarray(inputs[:, : 2 * frames * units]), 2, axis=1):
        together, states = model.step(piece, states)
        assert together.shape[:2] == (4, frames)
        for item in range(4):
            alone, single[item] = model.step(piece[item : item + 1], single[item])
            np.testing.assert_allclose(together[item], alone[0], atol=1e-5)
    assert states["frames_seen"].tolist() == [min(2 * frames, LEFT)] * 4


def test_one_frame_at_a_time_is_the_whole(model):
    """Longer than the past that attention sees, so that the cache fills and moves on."""
    samples = speech_like_noise(2.5, 8000, 7)
    assert split_differences(model, samples, seed=0, splits=3).max_abs_diff < 1e-5
    units = model.metadata.input.units_per_frame
    inputs = samples[None, : len(samples) // units * units]
    whole, _ = model.step(inputs, model.init_states())
    states, pieces = model.init_states(), []
    for piece in np.split(inputs, inputs.shape[1] // units, axis=1):
        log_probs, states = model.step(piece, states)
        pieces.append(log_probs)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def test_axes_are_dynamic_and_every_product_with_weights_is_a_matmul(conformer, content):
    graph = onnx.load_from_string(content).graph
    dynamic = {value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in graph.input}
    assert dynamic["pcm"] == ["N", "320*frames"]
    assert dynamic["frames_seen"] == ["N"]
    assert dynamic["block1_attention"] == ["N", "", "", ""]
    counts = Counter(node.op_type for node in graph.node)
    convolutions = [node for node in graph.node if node.op_type == "Conv" and FRONTEND_MARK not in node.input[1]]
    assert len(convolutions) == DEPTH  # the depthwise ones
    assert counts["LayerNormalization"] == 1 + 4 * DEPTH + 1
    assert not {"BatchNormalization", "Gemm", "If", "Loop"} & set(counts)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    named = [name for name in stored if FRONTEND_MARK not in name]
    assert len(named) == 1 + 8 * DEPTH + 1
    trained = conformer.network.state_dict()
    for name in named:
        np.testing.assert_array_equal(weights[name].T, trained[name.removeprefix("student.")].numpy())
