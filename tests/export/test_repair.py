"""Repairs: a layer's mean error goes away, smoothing is exact in float32, the blank loses what it is told to."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcompress.run import load_student
from kdcompress_export.convert import convert
from kdcompress_export.errors import QuantizationError
from kdcompress_export.from_run import describe
from kdcompress_export.quantization.calibration import Calibration
from kdcompress_export.quantization.repair_bias import BIAS_CORRECTION, channel_means, correct_biases
from kdcompress_export.quantization.repair_blank import blank_repair, count, tune_blank, with_blank_penalty
from kdcompress_export.quantization.repair_smooth import SMOOTHING, smooth
from kdcompress_export.quantization.repairs import apply_repaired
from kdcompress_export.quantization.schemes import apply, find_scheme
from kdcompress_export.quantization.static import prepare
from kdcompress_export.streams import padded, run_pieces, speech_like_noise
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.model import CtcModel
from kdcompress_runtime.recognizer import Recognizer

RATE = 8000
STATIC = "static-u8s8-minmax-7bit-all"


@pytest.fixture(scope="module")
def recordings():
    return [speech_like_noise(1.5, RATE, seed) for seed in range(40, 44)]


@pytest.fixture(scope="module")
def calibration(floating, recordings):
    return Calibration(floating[1], recordings)


@pytest.fixture(scope="module")
def small(floating, calibration):
    return apply(find_scheme(STATIC), floating[0], calibration).content


@pytest.fixture(scope="module")
def conformer(make_run, tmp_path_factory):
    """Float32 file of a conformer with lived-in layer norms, and the same loaded."""
    run = load_student(make_run(tmp_path_factory.mktemp("conformer"), kind="chunked_conformer"))
    generator = torch.Generator().manual_seed(6)
    for module in run.network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data.uniform_(0.2, 4.0, generator=generator)
            module.bias.data.normal_(0, 1.0, generator=generator)
    content = convert(run.network, len(run.vocabulary), {"name": "tiny"})
    return content, CtcModel(content, describe(run, run.network), run.vocabulary)


def shifted_biases(content, shift):
    """The int8 file with every int32 bias moved by ``shift`` of the largest: as a bad rounding would."""
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int32 and values.ndim == 1 and values.size > 1:
            moved = (values + shift * np.abs(values).max()).astype(np.int32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return model.SerializeToString()


def mean_errors(floating, content, recordings):
    """Largest mean error of a channel of the logits' input, float32 against ``content``."""
    reference, model = floating
    feeds = [{"pcm": padded(samples, model.metadata), **model.init_states()} for samples in recordings]
    means = []
    for graph in (prepare(reference), onnx.load_from_string(content)):
        sums = next(node for node in graph.graph.node if node.op_type == "Sum")
        means.append(channel_means(graph, {sums.output[0]: -1}, feeds)[sums.output[0]])
    return np.abs(means[0] - means[1]).max()


def test_correction_takes_back_what_biases_lost(floating, small, recordings):
    broken = shifted_biases(small, 0.2)
    corrected = correct_biases(floating[0], broken, floating[1], recordings)
    before, after = (mean_errors(floating, content, recordings) for content in (broken, corrected.content))
    assert before > 0.1
    assert after < 0.1 * before
    assert len(corrected.shifts) == 1 + 2 * 3 + 1
    assert not corrected.skipped
    assert all(shift > 0 for shift in corrected.shifts.values())


def test_correction_of_a_sound_file_is_small_and_leaves_the_graph(floating, small, calibration):
    repaired = apply_repaired(find_scheme(STATIC), floating[0], calibration, repair=BIAS_CORRECTION)
    graphs = [onnx.load_from_string(content).graph for content in (small, repaired.content)]
    assert [node.op_type for node in graphs[0].node] == [node.op_type for node in graphs[1].node]
    assert len(graphs[0].initializer) == len(graphs[1].initializer)
    assert repaired.counts == apply(find_scheme(STATIC), floating[0], calibration).counts
    corrected = CtcModel(repaired.content, floating[1].metadata, floating[1].vocabulary)
    said = run_pieces(corrected, calibration.recordings[0])
    assert np.abs(said - run_pieces(floating[1], calibration.recordings[0])).mean() < 0.5


def test_correction_needs_recordings_and_known_layers(floating, small, conformer):
    with pytest.raises(QuantizationError, match="nothing to"):
        correct_biases(floating[0], small, floating[1], [])
    with pytest.raises(QuantizationError, match="no quantized layer"):
        correct_biases(floating[0], floating[0], floating[1], [np.zeros(8000, np.float32)])


def test_smoothing_is_exact_and_evens_out_what_is_rounded(conformer, recordings):
    content, model = conformer
    smoothed = smooth(content, model, recordings)
    assert smoothed.max_abs_diff < 1e-4
    # Each of two blocks has four parts that begin with a layer norm; the last norm is the head's.
    assert len(smoothed.norms) == 2 * 4 + 1
    assert "student.head.weight" in smoothed.norms
    again = CtcModel(smoothed.content, model.metadata, model.vocabulary)
    fresh = speech_like_noise(1.0, RATE, 77)
    assert np.abs(run_pieces(again, fresh) - run_pieces(model, fresh)).max() < 1e-4
    operators = [
        [node.op_type for node in onnx.load_from_string(file).graph.node] for file in (content, smoothed.content)
    ]
    assert operators[0] == operators[1]


def test_smoothing_helps_where_one_channel_is_loud(conformer, recordings):
    """A gain of 60 on one channel, and its weights 60 times as small: int8 without smoothing hardly sees the others."""
    model = onnx.load_from_string(conformer[0])
    norm, product = next(
        (node, reader)
        for node in model.graph.node
        if node.op_type == "LayerNormalization"
        for reader in model.graph.node
        if node.output[0] in reader.input and "after.expand" in reader.input[1]
    )
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    loud = np.ones(values[product.input[1]].shape[0], np.float32)
    loud[3] = 60
    for place, value in ((1, values[norm.input[1]] * loud), (2, values[norm.input[2]] * loud)):
        name = f"loud{place}"
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        norm.input[place] = name
    for tensor in model.graph.initializer:
        if tensor.name == product.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name] / loud[:, None], tensor.name))
    content = model.SerializeToString()
    reference = CtcModel(content, conformer[1].metadata, conformer[1].vocabulary)
    calibration = Calibration(reference, recordings)
    errors = []
    for repair in (None, SMOOTHING):
        file = apply_repaired(find_scheme("dynamic"), content, calibration, repair=repair).content
        loaded = CtcModel(file, reference.metadata, reference.vocabulary)
        errors.append(np.abs(run_pieces(loaded, recordings[0]) - run_pieces(reference, recordings[0])).mean())
    assert errors[1] < 0.7 * errors[0]


def test_smoothing_leaves_a_student_without_layer_norms(floating, recordings):
    smoothed = smooth(floating[0], floating[1], recordings[:1])
    assert smoothed.norms == ()
    assert smoothed.max_abs_diff == 0


@pytest.mark.parametrize("file", ["float32", "int8"])
def test_a_penalty_moves_the_blank_alone_and_probabilities_add_up(floating, small, recordings, file):
    content = floating[0] if file == "float32" else small
    metadata, vocabulary = floating[1].metadata, floating[1].vocabulary
    before = run_pieces(CtcModel(content, metadata, vocabulary), recordings[0])
    punished = with_blank_penalty(content, vocabulary.blank_id, 1.5)
    after = run_pieces(CtcModel(punished, metadata, vocabulary), recordings[0])
    assert np.allclose(np.exp(after).sum(axis=1), 1, atol=1e-5)
    apart = after - before
    others = np.delete(apart, vocabulary.blank_id, axis=1)
    assert np.allclose(others - apart[:, [vocabulary.blank_id]], 1.5, atol=1e-3)
    # The head had a bias: no node was added.
    nodes = [len(onnx.load_from_string(one).graph.node) for one in (content, punished)]
    assert nodes[0] == nodes[1]


@pytest.mark.parametrize("ending", ["LogSoftmax", "Identity"])
def test_a_penalty_where_no_bias_is_found(ending):
    """Logits that come in as they are; or log-probabilities that no log-softmax has made."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(ending, ["x"], ["log_probs"])],
        "plain",
        [value("x", TensorProto.FLOAT, ["N", "T", 3])],
        [value("log_probs", TensorProto.FLOAT, ["N", "T", 3])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    x = np.log(np.array([[[0.7, 0.2, 0.1]]], dtype=np.float32))
    session = ort.InferenceSession(with_blank_penalty(content, 0, np.log(7.0)), providers=["CPUExecutionProvider"])
    assert np.allclose(np.exp(session.run(None, {"x": x})[0]), [[[0.25, 0.5, 0.25]]], atol=1e-6)


def test_counting_errors_with_a_penalty(floating):
    vocabulary = floating[1].vocabulary
    one, blank = vocabulary.symbols.index("o"), vocabulary.blank_id
    log_probs = np.full((4, len(vocabulary)), -9.0, dtype=np.float32)
    log_probs[:, blank] = -0.1
    log_probs[1, one] = -1.0
    assert count([log_probs], ["o"], vocabulary, 0.0) == (1, 1)
    assert count([log_probs], ["o"], vocabulary, 1.0) == (0, 0)
    assert log_probs[0, blank] == np.float32(-0.1)


def test_the_penalty_is_the_smallest_that_dev_likes_best(floating, small, run, tmp_path):
    """References are what a blank that is 2 lower would let through: dev must find that out."""
    metadata, vocabulary = floating[1].metadata, floating[1].vocabulary
    wished = CtcModel(with_blank_penalty(small, vocabulary.blank_id, 2.0), metadata, vocabulary)
    manifest = load_student(run).recipe.data.dev
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        path = manifest.parent / row["audio_filepath"]
        row |= {
            "audio_filepath": str(path),
            "text": Recognizer(wished).recognize(*read_audio(str(path))).text or "zero",
        }
    dev = tmp_path / "dev.jsonl"
    dev.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tuned = tune_blank(small, floating[1], dev)
    assert tuned.errors[tuned.penalty] == min(tuned.errors.values()) <= tuned.errors[2.0]
    assert all(tuned.errors[other] > tuned.errors[tuned.penalty] for other in tuned.errors if other < tuned.penalty)
    assert (
        blank_repair(dev).after(floating[0], small, Calibration(floating[1], [np.zeros(800, np.float32)]))
        == tuned.content
    )
    same = tune_blank(small, floating[1], dev, penalties=())
    assert (same.content, same.penalty) == (small, 0.0)
