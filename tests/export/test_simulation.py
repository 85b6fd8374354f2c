"""What quantization-aware training simulates is what the int8 file holds, and it leaves nothing in the export."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from kdcompress.distill import fit
from kdcompress.follow_up import quantization_aware_recipe
from kdcompress.quantization_aware import QuantizationAware, Simulation
from kdcompress.run import load_student
from kdcompress_export.convert import convert
from kdcompress_export.from_run import describe
from kdcompress_export.quantization.static import QuantizeOptions, quantize
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.model import CtcModel

STEP_FRAMES = 25


@pytest.fixture(scope="module", params=["separable_conv", "cnn"])
def trained(request, make_run, student, floating, tmp_path_factory):
    """A run of each kind of convolutional student, and its float32 file."""
    if request.param == "separable_conv":
        return student, floating[0]
    run = load_student(make_run(tmp_path_factory.mktemp(request.param), kind=request.param))
    return run, convert(run.network, len(run.vocabulary), {"name": "tiny"})


def answer(network, samples):
    features = network.features(torch.from_numpy(samples)[None])
    frames = torch.tensor([features.shape[1] // network.subsampling_factor - network.lookahead_frames])
    empty = torch.zeros(1, 0, dtype=torch.int64)
    return network.outputs(features, frames, empty, empty.sum(dim=1)).log_probs


def scales(graph):
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    return {(round(float(values[node.input[1]]), 5), int(values[node.input[2]])) for node in nodes}


@pytest.mark.parametrize("reduce_range", [False, True])
def test_scales_and_weights_are_those_of_the_int8_file(trained, reduce_range):
    run, content = trained
    network, metadata = run.network, describe(run, run.network)
    # Whole steps of calibration, so that both see the same silence.
    units = metadata.input.units_per_frame
    samples = speech_like_noise(3.0, metadata.input.sample_rate, 5)[: 2 * STEP_FRAMES * units]
    heard = np.pad(samples, (0, (STEP_FRAMES - metadata.lookahead_frames) * units))
    model = CtcModel(content, metadata, run.vocabulary)
    quantized = quantize(content, model, [heard], QuantizeOptions(reduce_range=reduce_range))
    graph = onnx.load_from_string(quantized.content).graph

    simulation = Simulation(QuantizationAware(reduce_range=reduce_range), network)
    with simulation.observing(network):
        answer(network, heard)
    low, high = simulation.ranges.double().unbind(dim=1)
    step = (high - low) / 255
    found = {(round(float(s), 5), round(float(-lo / s))) for s, lo in zip(step, low, strict=True)}
    assert found == scales(graph)

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name in simulation.layers:
        ours = simulation.weight(network.get_submodule(name).weight.detach()).numpy()
        theirs = stored[f"student.{name}.weight_quantized"].astype(np.float64)
        if theirs.ndim < ours.ndim:
            ours, theirs = ours[:, :, 0], theirs.T
        ours = ours.reshape(len(ours), -1)
        levels = ours / np.abs(ours).max(axis=1, keepdims=True) * (64 if reduce_range else 127)
        # A batch norm of negative gain turns the sign of a channel; folding it may turn a half up or down.
        apart = np.abs(np.abs(levels) - np.abs(theirs.reshape(len(theirs), -1)))
        assert apart.max() < 1.01
        assert (apart > 0.01).mean() < 2e-3


def test_training_leaves_no_trace_in_the_exported_graph(student, floating, tmp_path):
    fit(quantization_aware_recipe(student.folder.path, steps=2), tmp_path / "run")
    after = load_student(tmp_path / "run")
    contents = (floating[0], convert(after.network, len(after.vocabulary), {"name": "tiny"}))
    graphs = [onnx.load_from_string(content).graph for content in contents]
    shapes = [
        (
            [(node.op_type, list(node.input), list(node.output)) for node in graph.node],
            [(tensor.name, list(tensor.dims), tensor.data_type) for tensor in graph.initializer],
        )
        for graph in graphs
    ]
    assert shapes[0] == shapes[1]
    assert graphs[0] != graphs[1]
