"""The int8 file is int8 where it should be, float32 where it must be, and still the same model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

from kdcompress_export.agreement import compare_models, split_differences
from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import arrays, producers
from kdcompress_export.quantization.static import QuantizeOptions, check_quantized, layers, plan_nodes, quantize
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.model import CtcModel

AUDIO = [speech_like_noise(2.0, 8000, seed) for seed in range(40, 44)]


@pytest.fixture(scope="module")
def small(floating, student):
    found = quantize(*floating, AUDIO, properties={"kdcompress": "{}"})
    return found, CtcModel(found.content, floating[1].metadata, student.vocabulary)


def optimized(content, folder):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


def test_every_layer_of_the_encoder_is_quantized_and_counted(small, student):
    found, _ = small
    depth = len(student.network.blocks)
    assert found.nodes == 1 + 3 * depth + 1  # subsampling, three a block, head
    assert found.calibration_frames >= 4 * 50


def test_onnxruntime_computes_in_int8_from_features_to_head(small, student, tmp_path):
    """What counts is what runs: no float32 convolution or addition is left between the first and the last."""
    graph = optimized(small[0].content, tmp_path).graph
    counts = Counter(node.op_type for node in graph.node)
    depth = len(student.network.blocks)
    assert counts["QLinearConv"] == 1 + 3 * depth
    assert counts["QLinearAdd"] == depth
    assert counts["MatMulIntegerToFloat"] == 1
    assert counts["Conv"] + counts["FusedConv"] == 4  # the frontend's: offset, two of the DFT, mel
    assert counts["MatMul"] == 1  # the frontend's, too
    assert not counts.keys() & {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "Cast", "Relu"}
    # One for the features and one for each cache that comes in; as many caches go out, and the head is float.
    caches = len(student.network.encoder_state_specs())
    assert counts["QuantizeLinear"] == 1 + caches
    assert counts["DequantizeLinear"] == caches


def test_the_frontend_computes_in_float32_and_stays_itself(small, floating):
    graph = onnx.load_from_string(small[0].content).graph
    weights = arrays(onnx.load_from_string(floating[0]).graph)
    written = producers(graph)
    readers = [node for node in graph.node if any(".frontend." in name for name in node.input[1:2])]
    readers = [node for node in readers if node.op_type in ("Conv", "MatMul")]
    assert len(readers) == 5
    for node in readers:
        unpack = written[node.input[1]]
        values = arrays(graph)
        steps = values[unpack.input[1]]
        stored = values[written[unpack.input[0]].input[0]]
        expected = weights[node.input[1]]
        assert stored.dtype == np.int16
        row = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
        assert np.all(np.abs(stored * steps - expected) <= row / 32767)


def test_int8_is_close_to_float32(small, floating):
    found = compare_models(floating[1], small[1], [speech_like_noise(3.0, 8000, 99)])
    assert found.argmax_agreement > 0.9
    assert 0 < found.mean_abs_diff < 0.05


def test_caches_come_back_bit_for_bit(small):
    """A cache that goes out as float32 and comes in again is rounded to what it was."""
    _, model = small
    piece = AUDIO[0][: 40 * 320][None]
    _, states = model.step(piece, model.init_states())
    found = split_differences(model, AUDIO[1], seed=0, splits=3)
    assert any(value.any() for value in states.values())
    assert found.max_abs_diff < 0.05
    assert found.texts_equal


def test_the_file_is_smaller_and_carries_its_geometry(small, floating):
    model = onnx.load_from_string(small[0].content)
    assert {entry.key for entry in model.metadata_props} == {"kdcompress"}
    assert len(small[0].content) < 0.6 * len(floating[0])
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_calibrations_run(floating, student, method):
    found = quantize(*floating, AUDIO[:2], QuantizeOptions(method=method, reduce_range=True))
    model = CtcModel(found.content, floating[1].metadata, student.vocabulary)
    assert compare_models(floating[1], model, AUDIO[:1]).argmax_agreement > 0.6


def test_no_audio_is_an_error(floating):
    with pytest.raises(QuantizationError, match="nothing to calibrate on"):
        quantize(*floating, [])


class Once(CalibrationDataReader):
    def __init__(self, model):
        self.feeds = [{"pcm": AUDIO[0][None, : 40 * 320], **model.init_states()}]

    def get_next(self):
        return self.feeds.pop() if self.feeds else None


def test_a_quantized_frontend_is_refused(floating, tmp_path):
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(floating[0])
    quantize_static(source, target, Once(floating[1]), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"])
    with pytest.raises(QuantizationError, match=r"of the frontend is quantized"):
        check_quantized(onnx.load(target))


def test_dynamic_quantization_is_refused(floating, tmp_path):
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(floating[0])
    quantize_dynamic(source, target)
    with pytest.raises(QuantizationError, match="ConvInteger"):
        check_quantized(onnx.load(target))


def test_a_layer_left_in_float32_is_refused(small):
    model = onnx.load_from_string(small[0].content)
    model.graph.initializer.append(helper.make_tensor("dense", TensorProto.FLOAT, [1, 1], [0.5]))
    model.graph.node.append(helper.make_node("MatMul", ["pcm", "dense"], ["forgotten"], "forgotten"))
    with pytest.raises(QuantizationError, match="forgotten"):
        check_quantized(model)


def int8_weights(content):
    graph = onnx.load_from_string(content).graph
    return [name for name, value in arrays(graph).items() if value.dtype == np.int8 and value.ndim > 1]


def test_a_layer_can_be_kept_in_float32(floating, student):
    names = list(layers(floating[0]))
    depth = len(student.network.blocks)
    assert len(names) == 2 + 3 * depth
    assert names[0].endswith("subsampling.conv.weight")
    assert names[-1].endswith("head.weight")
    kept = [names[0], names[2], names[-1]]
    found = quantize(*floating, AUDIO, keep_float=kept)
    assert found.nodes == len(names) - len(kept)
    stored = arrays(onnx.load_from_string(found.content).graph)
    assert all(stored[name].dtype == np.float32 for name in kept)
    assert len(int8_weights(found.content)) == found.nodes
    model = CtcModel(found.content, floating[1].metadata, student.vocabulary)
    assert compare_models(floating[1], model, AUDIO[:1]).argmax_agreement > 0.9


def test_a_layer_that_is_not_there_cannot_be_kept(floating):
    with pytest.raises(QuantizationError, match="no layer's weight: nonsense"):
        quantize(*floating, AUDIO, keep_float=["nonsense"])


def renamed(content, old, new):
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace(old, new)
    for node in model.graph.node:
        node.input[:] = [name.replace(old, new) for name in node.input]
    return model


def test_nothing_of_a_graph_without_marks_is_exempt(floating, student):
    model = renamed(renamed(floating[0], ".frontend.", ".f.").SerializeToString(), ".feature_norm.", ".n.")
    names = list(layers(model.SerializeToString()))
    frontend = [name for name in names if ".f." in name]
    assert len(frontend) == 5
    found = quantize(model.SerializeToString(), floating[1], AUDIO, QuantizeOptions(glue=False), keep_float=frontend)
    assert found.nodes == len(names) - 5
    loaded = CtcModel(found.content, floating[1].metadata, student.vocabulary)
    assert compare_models(floating[1], loaded, AUDIO[:1]).argmax_agreement > 0.9
    everything = quantize(model.SerializeToString(), floating[1], AUDIO, QuantizeOptions(glue=False))
    assert everything.nodes == len(names)


@pytest.mark.parametrize(("activation", "dtype"), [("u8", "uint8"), ("s8", "int8")])
def test_activations_are_of_the_type_asked_for_and_glue_is_optional(floating, student, activation, dtype):
    found = quantize(*floating, AUDIO, QuantizeOptions(activations=activation, glue=False))
    graph = onnx.load_from_string(found.content).graph
    values, written = arrays(graph), producers(graph)
    points = {str(values[node.input[2]].dtype) for node in graph.node if node.op_type == "QuantizeLinear"}
    assert points == {dtype}
    additions = [node for node in graph.node if node.op_type == "Concat"]
    assert not any(
        written[name].op_type == "DequantizeLinear" for n in additions for name in n.input if name in written
    )
    model = CtcModel(found.content, floating[1].metadata, student.vocabulary)
    assert compare_models(floating[1], model, AUDIO[:1]).argmax_agreement > 0.9


@pytest.mark.parametrize("mark", [".frontend.", ".feature_norm."])
def test_a_frontend_that_cannot_be_found_is_refused(floating, mark):
    with pytest.raises(QuantizationError, match="cannot be told from the encoder"):
        plan_nodes(renamed(floating[0], mark, ".other."))


def test_a_frontend_behind_the_normalisation_is_refused(floating):
    model = onnx.load_from_string(floating[0])
    weight = next(t.name for t in model.graph.initializer if ".frontend." in t.name)
    last = model.graph.node[-1]
    model.graph.node.append(helper.make_node("Add", [last.output[0], weight], ["x"], "late"))
    assert model.graph.initializer[0].data_type != TensorProto.UNDEFINED
    with pytest.raises(QuantizationError, match="late"):
        plan_nodes(model)
