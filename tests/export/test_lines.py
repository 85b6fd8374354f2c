"""A student for images of text lines becomes a bundle that reads columns."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from kdcompress.run import load_run
from kdcompress_export import ExportError, ParityError, export_run, verify_bundle
from kdcompress_export.bench import bench_bundle
from kdcompress_export.decoder_tuning import tune_decoder
from kdcompress_export.decoder_tuning.trials import Trial
from kdcompress_export.error_rates import ItemErrors
from kdcompress_export.from_run import source_from_run
from kdcompress_export.whole import check_whole_parity
from kdcompress_runtime import Bundle, ManifestError, Recognizer
from kdcompress_runtime.decoders import DecoderOptions
from tests.export.task_runs import HEIGHT, LETTERS, export_small, lines_run, told, write_lines, write_pairs

SMALL = {"width": 16, "depth": 1, "kernel": 5, "heads": 2}
STUDENT = {"kind": "full_context", "subsampling_factor": 4, "encoder": {**SMALL, "channels": [4, 6, 8], "depth": 2}}
SCHEME = "static-u8s8-minmax-all"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lines_run(tmp_path_factory.mktemp("lines"), STUDENT)


@pytest.fixture(scope="module")
def source(run):
    return source_from_run(run)


@pytest.fixture(scope="module")
def bundle(source, tmp_path_factory):
    """The student with int8 beside float32."""
    return export_small(source, tmp_path_factory.mktemp("bundles") / "bundle", SCHEME)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 63, 201])
@pytest.mark.parametrize("items", [1, 3])
def test_the_graph_answers_as_the_student(source, run, columns, items):
    lines = np.random.default_rng(columns).integers(0, 256, (items, columns, HEIGHT), dtype=np.uint8)
    found, _ = source.load().step(lines, {})
    expected = told(load_run(run).network, lines)
    assert found.shape == expected.shape == (items, -(-columns // 4), len(LETTERS))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_bundle_says_what_it_takes(bundle):
    metadata = Bundle.open(bundle).metadata
    assert (metadata.task, metadata.input.kind, metadata.streaming) == ("scene_text", "image", False)
    assert (metadata.input.height, metadata.input.channels, metadata.input.units_per_frame) == (HEIGHT, 1, 4)
    assert metadata.frame_shift_ms == 4000.0
    graph = onnx.load_from_string(Bundle.open(bundle).read("model.onnx")).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_int8_is_all_convolutions_and_reads_alike(bundle, run):
    metadata = Bundle.open(bundle).metadata
    small = metadata.measured["int8"]
    assert small["quantized_by_type"]["Conv"] == 3 + 1 + 2 * 3  # maps, their join, blocks
    assert small["float32_by_type"] == {}
    assert small["agreement"]["fed"] == "images"
    assert small["error_rate_difference"]["counted"] == "characters"
    assert small["agreement"]["argmax_agreement"] > 0.9
    images = [run.parent / f"dev-{index}.png" for index in range(4)]
    texts = [
        [Recognizer.from_dir(bundle, precision=name).recognize(path).text for path in images]
        for name in ("float32", "int8")
    ]
    assert any(texts[0])
    assert sum(one == two for one, two in zip(*texts, strict=True)) >= 3


def test_the_bundle_is_verified_and_timed(bundle, run):
    report = verify_bundle(bundle, manifest=run.parent / "dev.jsonl")
    names = [check.name for check in report.checks]
    assert "int8 agrees with float32 on images" in names
    assert "character error rate int8" in names
    assert [check.name for check in report.checks if not check.passed] in ([], ["int8 is faster"])
    timed = bench_bundle(bundle, whole_rounds=1)
    assert timed.long == f"{12 * HEIGHT} columns"
    assert timed.precisions[0].whole_real_time_factor is None


def test_entries_of_another_kind_are_refused(bundle, tmp_path):
    with pytest.raises(ManifestError, match="is of kind text, and the model takes images"):
        verify_bundle(bundle, manifest=write_pairs(tmp_path, "pairs", 2, seed=0))


def test_another_network_is_told_apart(source, tmp_path):
    torch.manual_seed(5)
    other = load_run(lines_run(tmp_path, {**STUDENT, "encoder": {**STUDENT["encoder"], "depth": 1}})).network
    with pytest.raises(ParityError, match="differs from torch"):
        check_whole_parity(other, source.load(), atol=1e-4, recordings=[])


def test_an_oracle_teacher_is_refused(tmp_path):
    run = lines_run(tmp_path, {"kind": "oracle", "encoder": SMALL, "heads": 2})
    with pytest.raises(ExportError, match="holds an Oracle Teacher"):
        export_run(run, tmp_path / "bundle")


def test_a_student_that_streams_is_refused(tmp_path):
    run = lines_run(tmp_path, {"kind": "separable_conv", "width": 16, "depth": 1, "kernel": 5, "lookahead_frames": 2})
    with pytest.raises(ExportError, match="inputs of task scene_text come whole; train one of kind full_context"):
        export_run(run, tmp_path / "bundle")


def test_a_decoder_is_tuned_on_characters(bundle, tmp_path):
    report = tune_decoder(bundle, write_lines(tmp_path, "held", 12, 5), tmp_path / "tuned")
    assert report.difference.counted == "characters"
    assert "CER" in report.notes()[2]
    assert Bundle.open(tmp_path / "tuned").metadata.decoder["kind"] == report.chosen.name.split()[0]


def test_fewer_wrong_characters_win_where_characters_count():
    few_words, few_characters = ItemErrors((1,), (0,), (0,), (9,)), ItemErrors((3,), (0,), (0,), (3,))
    options = DecoderOptions()
    for counted, best in (("words", few_words), ("characters", few_characters)):
        trials = [Trial(options, errors, 0.0, counted) for errors in (few_words, few_characters)]
        assert min(trials, key=lambda trial: trial.rank).errors == best
