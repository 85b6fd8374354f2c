"""The dense student goes the same way as the separable one: exported, quantized, proven."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from kdcompress.run import load_student
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_export.agreement import split_differences
from kdcompress_export.quantization.measure import Rounds
from kdcompress_runtime import Bundle, CtcModel, Recognizer, read_audio

DEPTH = 2


@pytest.fixture(scope="module")
def run(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("cnn"), kind="cnn")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("cnn-bundle") / "bundle"
    scheme = SearchOptions(quantize="static-u8s8-minmax-all", rounds=Rounds(3, 10))
    export_run(run, output, ExportOptions(quantization=scheme))
    return Bundle.open(output)


def test_both_files_are_proven_and_recognise(bundle, run):
    measured = bundle.metadata.measured
    assert 0 < measured["parity"]["max_abs_diff"] < measured["parity"]["atol"]
    assert measured["int8"]["quantized_nodes"] == 2 + 1 + DEPTH + 1  # maps, join, blocks, head
    assert measured["int8"]["agreement"]["argmax_agreement"] > 0.9
    samples, rate = read_audio(run.parent / "audio" / "dev-0.flac")
    for precision in ("float32", "int8"):
        recognizer = Recognizer.from_dir(bundle.path, precision=precision)
        assert recognizer.log_probs(samples, rate).shape == (-(-len(samples) // 320), len(recognizer.vocabulary))


def test_the_states_are_those_of_the_student(bundle, run):
    student = load_student(run).network
    assert bundle.metadata.states == student.state_specs()
    assert [state.name for state in bundle.metadata.states][-4:] == [
        "features_cache",
        "maps_cache",
        "block0_cache",
        "block1_cache",
    ]
    assert bundle.metadata.lookahead_frames == 4


def test_the_encoder_computes_in_int8_without_a_break(bundle, tmp_path):
    """No float32 convolution behind the frontend; a squeeze between 2-D and 1-D brings no rounding of its own."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(bundle.read("model.int8.onnx"), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert counts["QLinearConv"] == 2 + 1 + DEPTH
    assert counts["QLinearAdd"] == DEPTH
    assert counts["MatMulIntegerToFloat"] == 1
    assert counts["Conv"] + counts["FusedConv"] == 4  # the frontend's
    caches = 2 + DEPTH
    assert counts["QuantizeLinear"] == 1 + caches
    assert counts["DequantizeLinear"] == caches


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-4), ("int8", 0.05)])
def test_pieces_give_what_the_whole_gives(bundle, run, precision, close):
    model = CtcModel.from_bundle(bundle, precision)
    samples, _ = read_audio(run.parent / "audio" / "dev-1.flac")
    found = split_differences(model, samples.astype(np.float32), seed=0, splits=3)
    assert found.max_abs_diff < close
    assert found.texts_equal
