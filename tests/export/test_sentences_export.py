"""Networks for sentences become bundles that read source tokens, and hold the table to make them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from kdcompress.run import load_run
from kdcompress_export import verify_bundle, verify_output
from kdcompress_export.entries import check_disjoint
from kdcompress_export.errors import ExportError, TargetError
from kdcompress_export.export import export_bundle
from kdcompress_export.from_run import source_from_run
from kdcompress_runtime import Bundle, Recognizer
from kdcompress_runtime.source_text import SourceTable
from tests.export.task_runs import SUBWORDS, SYMBOLS, export_small, pairs_run, told, write_pairs

ENCODER = {"block": "attention", "width": 16, "depth": 1, "token_depth": 1, "heads": 2}
STUDENT = {"kind": "full_context", "subsampling_factor": 1, "encoder": ENCODER}
OTHER = {**STUDENT, "kind": "conventional", "encoder": {**ENCODER, "block": "convolution", "kernel": 5}}
SCHEME = "static-u8s8-minmax"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pairs_run(tmp_path_factory.mktemp("pairs"), STUDENT, upsampling=3)


@pytest.fixture(scope="module")
def source(run):
    return source_from_run(run)


@pytest.fixture(scope="module")
def bundle(source, tmp_path_factory):
    """The student with int8 beside float32."""
    return export_small(source, tmp_path_factory.mktemp("bundles") / "bundle", SCHEME)


@pytest.mark.parametrize("tokens", [1, 2, 3, 17, 90])
@pytest.mark.parametrize("items", [1, 3])
def test_the_graph_answers_as_the_student(source, run, tokens, items):
    ids = np.random.default_rng(tokens).integers(0, len(SYMBOLS.split()), (items, tokens))
    found, _ = source.load().step(ids, {})
    expected = told(load_run(run).network, ids)
    assert found.shape == expected.shape == (items, 3 * tokens, len(SUBWORDS))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_two_frames_a_token_and_convolutions_are_proven_equal(tmp_path):
    found = source_from_run(pairs_run(tmp_path, OTHER, upsampling=2))
    assert found.parity["max_abs_diff"] < 1e-4
    assert {"batch 1, 1 tokens", "batch 4, 151 tokens", "sentence 1"} <= found.parity["cases"].keys()
    assert found.metadata.input.frames_per_unit == 2


def test_the_graph_looks_ids_up_as_they_are(source):
    graph = onnx.load_from_string(source.content).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    (lookup,) = (node for node in graph.node if node.op_type == "Gather")
    assert lookup.input[1] == "tokens"
    assert not {node.op_type for node in graph.node} & {"Less", "Where", "Not", "Mod", "Expand", "Split"}


def test_the_bundle_holds_the_source_table(bundle):
    opened = Bundle.open(bundle)
    metadata = opened.metadata
    assert (metadata.task, metadata.input.kind, metadata.streaming) == ("translation", "tokens", False)
    assert (metadata.input.units_per_frame, metadata.input.frames_per_unit) == (1, 3)
    assert metadata.frame_shift_ms == pytest.approx(1000 / 3)
    assert "symbols" not in metadata.frontend
    table = SourceTable.loads(opened.read("source_tokens.txt").decode())
    assert table.symbols == tuple(SYMBOLS.split())


def test_every_matrix_and_the_embedding_are_int8(bundle):
    opened = Bundle.open(bundle)
    small = opened.metadata.measured["int8"]
    # Token block and frame block: four of attention, two of feed-forward each; the split of tokens; the head.
    assert small["quantized_by_type"] == {"MatMul": 2 * 6 + 1 + 1}
    assert small["agreement"]["fed"] == "sentences"
    tensors = onnx.load_from_string(opened.read("model.int8.onnx")).graph.initializer
    assert [one.data_type for one in tensors if tuple(one.dims) == (9, 16)] == [onnx.TensorProto.INT8]
    texts = [Recognizer.from_dir(bundle, precision=name).recognize("a bc abc").text for name in ("float32", "int8")]
    assert texts[0]
    assert texts[0] == texts[1]


def test_the_bundle_is_verified_with_its_dev_manifest(bundle, run):
    report = verify_bundle(bundle, manifest=run.parent / "dev.jsonl")
    assert "word error rate int8" in [check.name for check in report.checks]
    assert [check.name for check in report.checks if not check.passed] in ([], ["int8 is faster"])


def test_other_targets_run_it_or_say_why_not(bundle, tmp_path):
    export_bundle(bundle, tmp_path / "mobile", ("mobile",))
    assert Bundle.open(tmp_path / "mobile").source_table is not None
    assert verify_output(tmp_path / "mobile").passed
    reasons = {
        "web": "takes sentences, and the recogniser in JavaScript feeds audio alone",
        "sherpa-onnx": "it takes sentences, not audio",
        "rapidocr": "its input is tokens, and RapidOCR reads images",
    }
    for target, reason in reasons.items():
        with pytest.raises(TargetError, match=reason):
            export_bundle(bundle, tmp_path / "out", (target,))


def test_the_same_sentence_does_not_calibrate_and_prove(tmp_path):
    first, second = write_pairs(tmp_path, "train", 4, seed=1), write_pairs(tmp_path, "dev", 4, seed=1)
    with pytest.raises(ExportError, match=r"4 items of .* are in .* too"):
        check_disjoint(first, second)
