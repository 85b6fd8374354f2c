"""Every scheme makes what it says: counted in the file, run, and refused where it does not fit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from kdcompress_export.agreement import compare_models, split_differences
from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import arrays, set_array
from kdcompress_export.quantization.calibration import Calibration
from kdcompress_export.quantization.counts import check_counts, count_operators
from kdcompress_export.quantization.matrices import pointwise_to_matmul, prepare_matrices
from kdcompress_export.quantization.presets import PRESETS, find_preset, this_cpu
from kdcompress_export.quantization.schemes import SCHEMES, Scheme, apply, find_scheme, layer_names
from kdcompress_export.quantization.sensitivity import measure_sensitivity
from kdcompress_export.quantization.static import prepare
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.model import CtcModel

AUDIO = [speech_like_noise(1.5, 8000, seed) for seed in range(60, 63)]
EACH = [
    "static-u8s8-minmax-all",
    "static-s8s8-minmax",
    "static-u8u8-minmax",
    "static-u8s8-percentile-7bit",
    "dynamic",
    "weights-8bit",
    "weights-4bit",
    "float16",
]


@pytest.fixture(scope="module")
def calibration(floating):
    return Calibration(floating[1], AUDIO)


@pytest.fixture(scope="module")
def load(floating):
    return lambda content: CtcModel(content, floating[1].metadata, floating[1].vocabulary)


@pytest.mark.parametrize("name", EACH)
def test_a_scheme_makes_a_smaller_file_that_is_still_the_model(floating, calibration, load, name):
    content, model = floating
    small = apply(find_scheme(name), content, calibration, {"kdcompress": "{}"})
    assert len(small.content) < 0.85 * len(content)
    assert small.counts.total == len(layer_names(find_scheme(name), content))
    loaded = load(small.content)
    found = compare_models(model, loaded, [speech_like_noise(2.0, 8000, 99)])
    assert found.argmax_agreement > (0.7 if name in {"weights-4bit", "static-u8s8-percentile-7bit"} else 0.9)
    assert split_differences(loaded, AUDIO[0], seed=0, splits=2).texts_equal
    assert {entry.key for entry in onnx.load_from_string(small.content).metadata_props} == {"kdcompress"}


@pytest.mark.parametrize("name", ["static-u8s8-minmax", "dynamic", "weights-8bit", "float16"])
def test_a_kept_layer_stays_float32_in_every_kind_of_scheme(floating, calibration, name):
    scheme = find_scheme(name)
    layers = layer_names(scheme, floating[0])
    kept = next(name for name in layers if name.endswith("blocks.0.expand.weight"))
    mixed = apply(scheme.keeping((kept,)), floating[0], calibration)
    whole = apply(scheme, floating[0], calibration)
    assert mixed.counts.total == whole.counts.total - 1 == len(layers) - 1
    assert sum(mixed.counts.floating.values()) == sum(whole.counts.floating.values()) + 1
    assert len(mixed.content) > len(whole.content)
    assert scheme.keeping((kept,)).name == f"{name}+1 float32"


def test_a_kept_layer_that_is_none_is_refused(floating, calibration):
    with pytest.raises(QuantizationError, match="nowhere"):
        apply(find_scheme("dynamic").keeping(("nowhere",)), floating[0], calibration)


def test_pointwise_convolutions_become_matrices_and_compute_the_same(floating, load):
    before = prepare(floating[0])
    after = onnx.ModelProto.FromString(before.SerializeToString())
    assert pointwise_to_matmul(after) == 2 * 2  # expand and project, twice
    found = compare_models(load(before.SerializeToString()), load(after.SerializeToString()), AUDIO)
    assert found.max_abs_diff < 1e-4
    assert arrays(after.graph).keys() == arrays(before.graph).keys()
    assert all(node.op_type != "ConvInteger" for node in prepare_matrices(floating[0]).graph.node)


def test_float16_keeps_frontend_states_and_answers_in_float32(floating, calibration):
    small = onnx.load_from_string(apply(find_scheme("float16"), floating[0], calibration).content)
    types = {value.type.tensor_type.elem_type for value in [*small.graph.input, *small.graph.output]}
    assert types == {TensorProto.FLOAT}
    for tensor in small.graph.initializer:
        if ".frontend." in tensor.name or ".feature_norm." in tensor.name:
            assert tensor.data_type != TensorProto.FLOAT16
    casts = [node for node in small.graph.node if node.op_type == "Cast" and "pcm" in node.input]
    assert casts == []  # samples are never rounded to eleven bits


def test_static_without_recordings_is_refused_and_the_others_need_none(floating):
    with pytest.raises(QuantizationError, match="needs recordings"):
        apply(find_scheme("static-u8s8-minmax"), floating[0])
    assert apply(find_scheme("weights-8bit"), floating[0]).counts.small == {"MatMulNBits": 5}


def test_conv_integer_never_ships(floating, tmp_path):
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(floating[0])
    quantize_dynamic(source, target)
    with pytest.raises(QuantizationError, match="ConvInteger"):
        count_operators(target.read_bytes())


def test_fewer_layers_than_asked_for_are_refused(floating):
    small = apply(find_scheme("dynamic"), floating[0])
    with pytest.raises(QuantizationError, match=r"6 layers were to be made smaller, the file holds 5"):
        check_counts(small.content, 6)


def test_a_product_of_activations_is_no_layer_and_a_graph_without_matrices_is_refused():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"], "n0"), helper.make_node("Relu", ["y"], ["z"], "n1")],
        "g",
        [value("x", TensorProto.FLOAT, [2, 2])],
        [value("z", TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "unused")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    assert count_operators(content).total == 0
    with pytest.raises(QuantizationError, match="no matrix product"):
        apply(find_scheme("dynamic"), content)


def test_ranges_are_measured_once(floating, monkeypatch):
    calibration = Calibration(floating[1], AUDIO[:1])
    calls = []
    measure = calibration._measure
    monkeypatch.setattr(calibration, "_measure", lambda *given: calls.append(given[2]) or measure(*given))
    for name in ("static-u8s8-minmax-all", "static-s8s8-minmax-all", "static-u8s8-minmax", "static-u8s8-entropy"):
        apply(find_scheme(name), floating[0], calibration)
    assert calls == ["minmax", "entropy"]


def test_presets_follow_optimum_and_the_cpu():
    assert find_preset("avx2").integers == ("u8u8", "u8s8-7bit")
    assert find_preset("avx512_vnni").integers == ("u8s8", "s8s8")
    assert find_preset("arm64").integers == ("u8s8", "s8s8")
    assert this_cpu(frozenset({"avx512_vnni", "avx512bw"}), "x86_64") == "avx512_vnni"
    assert this_cpu(frozenset({"avx512bw"}), "x86_64") == "avx512"
    assert this_cpu(frozenset({"avx2"}), "AMD64") == "avx2"
    assert this_cpu(frozenset(), "aarch64") == "arm64"
    assert find_preset().name in PRESETS
    for name in PRESETS:
        schemes = find_preset(name).schemes
        assert len({scheme.name for scheme in schemes}) == len(schemes)
        assert {scheme.kind for scheme in schemes} == {"static", "dynamic", "weight_only", "float16"}
    with pytest.raises(OptionsError, match="known are avx2"):
        find_preset("pentium")


def test_unknown_schemes_name_the_known_ones():
    with pytest.raises(OptionsError, match="static-u8s8-minmax-all"):
        find_scheme("int9")
    assert {scheme.precision for scheme in SCHEMES.values()} == {"int8", "int4", "float16"}
    assert all(name == scheme.name for name, scheme in SCHEMES.items())


def test_sensitivity_finds_the_layer_that_was_spoilt(floating, load):
    """One layer gets large weights for a channel that is silent: they change nothing but the layer's scales."""
    model = onnx.load_from_string(floating[0])
    guilty, before = "student.blocks.1.project.weight", "student.blocks.1.expand.weight"
    values = {name: value.copy() for name, value in arrays(model.graph).items()}
    bias = next(node.input[2] for node in model.graph.node if before in node.input)
    values[before][0], values[bias][0] = 0.0, -1.0
    values[guilty][:, 0] = 30 * np.abs(values[guilty]).max()
    for name in (guilty, before, bias):
        set_array(model.graph, name, values[name])
    content = model.SerializeToString()
    calibration = Calibration(load(content), AUDIO)
    seen = []
    scheme = Scheme("spoilt", "weight_only", bits=4)
    found = measure_sensitivity(
        scheme, content, load, AUDIO[:2], calibration=calibration, on_layer=lambda *one: seen.append(one)
    )
    assert found.layers[0].layers == (guilty,)
    assert 0 < found.layers[0].recovered <= found.kl
    assert found.frames == 2 * 38
    assert seen[-1] == (5, 5)
    assert [one.recovered for one in found.layers] == sorted((one.recovered for one in found.layers), reverse=True)
