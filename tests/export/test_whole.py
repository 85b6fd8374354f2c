"""Bundles of models that take whole recordings, and of small precisions other than int8: verified and timed alike."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdcompress_export import ParityError, bench_bundle, verify_bundle
from kdcompress_export.agreement import compare_models, split_differences
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.error_rates import ItemErrors, PairedDifference, References, combine
from kdcompress_export.inputs import inputs_for
from kdcompress_export.prove import measure_speed, speed_summary, split_summary, worst_split
from kdcompress_export.signature import METADATA_KEY, geometry
from kdcompress_export.streams import run_pieces
from kdcompress_export.targets.ort_format import convert
from kdcompress_runtime import Bundle, CtcModel, OptionsError, Vocabulary
from kdcompress_runtime.bundle import BundleMetadata, InputSpec, ModelFile, sha256

RATE, STRIDE, WINDOW, HIDDEN = 8000, 80, 100, 64
VOCABULARY = Vocabulary.from_symbols(["▁", *"abcde"])


def make_graph(precision, *, stride=STRIDE, noise=0.0, props=None):
    """Windows of the recording, centred over all of it: no frame can be computed before the last sample is there."""
    rng = np.random.default_rng(3)
    filters = rng.normal(0, 2.5 / np.sqrt(WINDOW), (HIDDEN, 1, WINDOW)).astype(np.float32)
    output = rng.normal(0, 1.0, (HIDDEN, len(VOCABULARY))).astype(np.float32)
    output += np.random.default_rng(4).normal(0, noise, output.shape).astype(np.float32) if noise else 0
    kept = np.float16 if precision == "float16" else np.float32
    constants = {"middle": np.array([1]), "last": np.array([2]), "filters": filters, "small": output.astype(kept)}
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["pcm", "middle"], ["channel"]),
        node("Conv", ["channel", "filters"], ["heard"], strides=[stride]),
        node("ReduceMean", ["heard", "last"], ["mean"], keepdims=1),
        node("Sub", ["heard", "mean"], ["centred"]),
        node("Tanh", ["centred"], ["bent"]),
        node("Transpose", ["bent"], ["by_time"], perm=[0, 2, 1]),
        node("Cast", ["small"], ["output"], to=TensorProto.FLOAT),
        node("MatMul", ["by_time", "output"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    value, real = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "whole",
        [value("pcm", real, ["N", "samples"])],
        [value("log_probs", real, ["N", "frames", len(VOCABULARY)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if props is not None:
        helper.set_model_props(model, {METADATA_KEY: json.dumps(props)})
    onnx.checker.check_model(model)
    return model.SerializeToString()


METADATA = BundleMetadata(
    name="whole",
    task="speech",
    input=InputSpec("pcm", "pcm", STRIDE, RATE, min_units=WINDOW),
    states=(),
    frame_shift_ms=10.0,
    subsampling_factor=1,
    lookahead_frames=0,
    chunk_frames=1,
    models=(),
    default_precision="float32",
    parameters=1000,
    blank_id=0,
    streaming=False,
)


def write(output, small="float16", *, suffix="onnx", as_ort=False, **graph):
    """A bundle with float32 and a small precision."""
    contents = {
        name: make_graph(name, props=geometry(METADATA, name), **(graph if name == small else {}))
        for name in ("float32", small)
    }
    files = {f"model.{name}.{suffix}": content for name, content in contents.items()}
    if as_ort:
        files = {name: convert(content, name) for name, content in files.items()}
    files["tokens.txt"] = VOCABULARY.dumps().encode()
    row = {
        **{name: getattr(METADATA, name) for name in METADATA.__dataclass_fields__},
        "models": tuple(ModelFile(name, f"model.{name}.{suffix}") for name in contents),
        "files": {name: sha256(content) for name, content in files.items()},
    }
    write_bundle(output, {"bundle.json": BundleMetadata(**row).dumps().encode(), **files})
    return output


def model_of(content, precision="float32"):
    return CtcModel(content, METADATA, VOCABULARY, source=precision)


@pytest.mark.parametrize("small", ["float16", "int4", "int8"])
def test_a_good_bundle_passes_without_pieces(tmp_path, small):
    report = verify_bundle(write(tmp_path / "b", small))
    assert report.passed, report
    names = [check.name for check in report.checks]
    assert names == [
        "hashes",
        "graph float32",
        f"graph {small}",
        f"{small} agrees with float32 on noise",
        f"{small} speed (float32 is the default)",
    ]
    assert report.checks[-1].values.keys() == {"whole_ratio"}
    assert "chunk" not in report.checks[-1].detail


def test_a_small_model_that_is_another_one_fails(tmp_path):
    report = verify_bundle(write(tmp_path / "b", noise=2.0))
    assert [check.name for check in report.checks if not check.passed] == ["float16 agrees with float32 on noise"]


def test_a_small_model_with_other_frames_fails_in_words(tmp_path):
    report = verify_bundle(write(tmp_path / "b", stride=2 * STRIDE))
    (wrong,) = (check for check in report.checks if not check.passed)
    assert wrong.name == "float16 agrees with float32 on noise"
    assert "not two precisions of one model" in wrong.detail


def test_error_rates_of_other_precisions_are_compared(tmp_path, make_manifest):
    manifest = make_manifest(tmp_path, "dev", 3, seed=5)
    report = verify_bundle(write(tmp_path / "b", "int4"), manifest=manifest)
    names = [check.name for check in report.checks]
    assert "int4 agrees with float32 on recordings" in names
    assert names[-3:] == [
        "word error rate float32",
        "word error rate int4",
        "int4 makes no more errors than float32",
    ]


def test_models_in_onnxruntimes_own_format_are_verified_and_say_what_they_hold(tmp_path):
    report = verify_bundle(write(tmp_path / "b", suffix="ort", as_ort=True))
    assert report.passed, report
    assert all("geometry" in check.detail for check in report.checks if check.name.startswith("graph"))
    held = CtcModel.from_bundle(Bundle.open(tmp_path / "b")).embedded
    assert ("the file holds no geometry" in report.checks[1].detail) == (METADATA_KEY not in held)


def test_bench_has_no_chunks(tmp_path):
    bundle = write(tmp_path / "b")
    report = bench_bundle(bundle, whole_rounds=2)
    assert not report.streaming
    assert [one.precision for one in report.precisions] == ["float32", "float16"]
    for one in report.precisions:
        assert one.chunks == ()
        assert one.whole_real_time_factor > 0
        assert one.cold_load_ms > 0
    with pytest.raises(OptionsError, match="no chunks to time"):
        bench_bundle(bundle, chunk_frames=[4])


def test_the_speed_of_a_small_precision_names_it_and_has_null_for_chunks():
    models = {"float32": model_of(make_graph("float32")), "float16": model_of(make_graph("float16"))}
    found = speed_summary(measure_speed(models, "float16"))
    assert found["chunk_ms"] is found["chunk_ratio"] is None
    assert found["whole_ms"].keys() == {"float32", "float16"}
    assert split_summary(models["float16"], inputs_for(METADATA.input).probe()) is None


def test_a_whole_model_is_never_cut():
    model = model_of(make_graph("float32"))
    (samples, *_) = inputs_for(METADATA.input).probe()
    assert len(run_pieces(model, samples)) == (len(samples) - WINDOW) // STRIDE + 1
    assert len(run_pieces(model, samples[:1])) == 1
    for cut in (
        lambda: run_pieces(model, samples, [1, 2]),
        lambda: worst_split(model, [samples]),
        lambda: split_differences(model, samples, seed=0, splits=1),
    ):
        with pytest.raises(ValueError, match="whole inputs"):
            cut()
    assert split_summary(model, [samples]) is None


def test_models_of_different_frames_cannot_be_compared():
    one, other = model_of(make_graph("float32")), model_of(make_graph("float32", stride=160))
    with pytest.raises(ParityError, match="499 frames and the other with 250"):
        compare_models(one, other, [inputs_for(METADATA.input).probe()[0]])


def test_differences_are_the_paired_ones():
    errors = {"int4": ItemErrors((2, 1), (0, 0), (0, 0), (2, 2)), "float32": ItemErrors((1, 1), (0, 0), (0, 0), (1, 1))}
    words = References("f", (10, 10), (50, 50))
    assert combine(words, errors).paired("int4", "float32").points == 5.0
    found = combine(replace(words, counted="characters"), errors).paired("int4", "float32")
    assert isinstance(found, PairedDifference)
    assert (found.points, found.counted) == (2.0, "characters")
    assert found.sentence.startswith("+2.00 points CER")
