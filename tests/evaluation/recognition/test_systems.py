"""What is taken for what, how variants are named, and what cannot be opened."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.errors import PredictionsError
from kdcompress_evaluation.onnx_file import read_onnx
from kdcompress_evaluation.systems import Item, open_system
from kdcompress_evaluation.systems.files import precision_of
from kdcompress_evaluation.variants import find_baseline, plan_variants
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import BundleError, BundleNotFoundError, ModelError, OptionsError


def test_a_bundle_says_everything_about_itself(make_bundle: Any, tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "both", "my toy", {"int8": {"e": "d"}, "float32": {}})
    ((one, two), broken) = plan_variants([path], "all")
    assert broken == []
    assert [one.name, two.name] == ["my-toy-int8", "my-toy-float32"]
    assert (one.kind, one.task, one.input_kind, one.anchor) == ("bundle", "speech", "audio", False)
    assert one.engine.startswith("onnxruntime ")
    assert one.format_version == json.loads((path / "bundle.json").read_text())["format_version"]
    assert one.model_sha256 == one.files["int8.onnx"] != two.model_sha256
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
    assert one.files == two.files == digests
    sizes = {file.name: file.stat().st_size for file in path.iterdir()}
    assert one.size_bytes == sizes["int8.onnx"] + sizes["tokens.txt"] + sizes["bundle.json"]
    assert one.geometry_sha256 == two.geometry_sha256


def test_the_size_counts_the_language_model_that_the_decoder_needs(bundle: Path) -> None:
    lexicon = b"ab\ncd\n"
    (bundle / "lexicon.txt").write_bytes(lexicon)
    (before,), _ = plan_variants([bundle])
    meta = Bundle.open(bundle).metadata
    files = {**meta.files, "lexicon.txt": hashlib.sha256(lexicon).hexdigest()}
    tuned = replace(meta, files=files, decoder={"kind": "beam", "lexicon": "lexicon.txt"})
    (bundle / "bundle.json").write_text(tuned.dumps(), encoding="utf-8")
    (after,), _ = plan_variants([bundle])
    head = len(tuned.dumps().encode()) - len(meta.dumps().encode())
    assert after.size_bytes - before.size_bytes == head + len(lexicon)
    assert after.geometry_sha256 != before.geometry_sha256


def test_a_zip_is_the_same_variant(bundle: Path, tmp_path: Path) -> None:
    zipped = Path(shutil.make_archive(str(tmp_path / "z" / "good"), "zip", bundle))
    (folder,), _ = plan_variants([bundle])
    (other,), _ = plan_variants([zipped])
    assert replace(other, bundle_path=folder.bundle_path) == folder


def test_what_cannot_be_opened_is_left_out_with_its_reason(
    make_bundle: Any, bundle: Path, predictions: Any, tmp_path: Path
) -> None:
    damaged = make_bundle(tmp_path / "damaged", "damaged")
    (damaged / "float32.onnx").write_bytes(b"other bytes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    cloud = predictions(tmp_path / "cloud.jsonl", {"u0": "a"})
    paths = [tmp_path / "gone", damaged, bundle, tmp_path / "empty", tmp_path / "bad.zip", cloud]
    found, broken = plan_variants(paths)
    assert [v.name for v in found] == ["good-float32", "cloud"]
    assert [Path(one.name).name for one in broken] == ["gone", "damaged", "empty", "bad.zip"]
    reasons = [one.reason for one in broken]
    assert reasons[0].startswith("BundleNotFoundError: ")
    assert reasons[1].startswith("BundleCorruptError: ")
    assert "no bundle of kdcompress (bundle.json)" in reasons[2]
    assert "neither a folder nor a readable .zip" in reasons[3]
    with pytest.raises(BundleNotFoundError, match="gone"):
        plan_variants([tmp_path / "gone", damaged], anchors=[bundle])  # an anchor alone is no report
    with pytest.raises(OptionsError, match="given twice"):
        plan_variants([bundle], anchors=[bundle])
    with pytest.raises(OptionsError, match="no bundle to evaluate"):
        plan_variants([])


def test_an_input_that_the_runtime_cannot_feed_is_refused_in_its_words(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text(encoding="utf-8")
    row = json.loads(text)
    del row["checksum"]
    row["input"]["kind"] = "video"
    (bundle / "bundle.json").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(BundleError, match="input kind 'video' is unknown; this runtime feeds pcm"):
        plan_variants([bundle])


def test_names_are_unique_and_anchors_are_marked(make_bundle: Any, predictions: Any, tmp_path: Path) -> None:
    paths = [make_bundle(tmp_path / "x" / "one", "twin"), make_bundle(tmp_path / "y" / "two", "twin")]
    teacher = make_bundle(tmp_path / "z" / "teacher", "teacher", {"float32": {}})
    files = [predictions(tmp_path / folder / "cloud.jsonl", {"a": "b"}) for folder in ("x", "y")]
    found, _ = plan_variants([*paths, *files], "all", [teacher])
    assert [v.name for v in found] == [
        "twin@one-float32",
        "twin@two-float32",
        "cloud@cloud",
        "cloud@cloud-2",
        "teacher-float32",
    ]
    assert [v.anchor for v in found] == [False, False, False, False, True]
    assert find_baseline(found, "teacher").name == "teacher-float32"
    assert find_baseline(found, None).name == "twin@one-float32"


def test_an_anchor_without_the_precision_is_taken_as_it_is(make_bundle: Any, tmp_path: Path) -> None:
    small = make_bundle(tmp_path / "small", "small", {"int8": {}, "float32": {}})
    teacher = make_bundle(tmp_path / "teacher", "teacher", {"float32": {}})
    found, broken = plan_variants([small], "int8", [teacher])
    assert ([v.name for v in found], broken) == (["small-int8", "teacher-float32"], [])
    found, broken = plan_variants([small, teacher], "int8")
    assert [v.name for v in found] == ["small-int8"]
    assert "holds no int8 model" in broken[0].reason


def test_predictions_are_paired_by_id_and_manifest(predictions: Any, tmp_path: Path) -> None:
    path = predictions(tmp_path / "cloud.v2.jsonl", {"u0": "for all", "u1": ""})
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "u0", "manifest": "noisy", "text": "for noisy"}) + "\n")
    ((info,), _) = plan_variants([path])
    assert (info.name, info.size_bytes, info.parameters, info.chunk_ms, info.task) == ("cloud.v2", None, None, None, "")
    system = open_system(info, Decoding())
    texts = [
        system.recognize(Item(m, 0, u, "audio", "gone.wav")).text
        for m, u in (("a", "u0"), ("noisy", "u0"), ("a", "u1"))
    ]
    assert texts == ["for all", "for noisy", ""]
    with pytest.raises(PredictionsError, match="no text for the id 'u7'"):
        system.recognize(Item("a", 0, "u7", "text", "x"))
    with pytest.raises(OptionsError, match="does not stream"):
        system.open_stream()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "a", "text": "b"}, {"id": "a", "text": "c"}], r"line 2: the id 'a' stands there a second time"),
        ([{"id": "a"}], r"line 1: expected"),
        ([{"id": "a", "text": "b", "audio_filepath": "a.wav"}], "this is a manifest"),
        ([], "is empty"),
        (["text"], "line 1: expected"),
    ],
)
def test_predictions_that_are_none(tmp_path: Path, lines: list[Any], message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(PredictionsError, match=message):
        plan_variants([path])


def test_predictions_for_every_task_make_rows(evaluation: Any, texts: Any, predictions: Any, tmp_path: Path) -> None:
    run = evaluation(
        [predictions(tmp_path / "mt.jsonl", {"a": "ein Text", "b": ""})], texts(tmp_path / "m", ["a", "b", "c"])
    )
    run.recognise()
    assert [(row.hypothesis, row.error_kind) for row in run.rows()] == [("ein Text", None), ("", None), ("", "model")]
    assert "add a line for it" in run.rows()[2].error


def test_the_outside_of_an_onnx_file(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((3, 5), np.float32), "w")
    packed = helper.make_tensor("q", TensorProto.INT8, [7], list(range(7)))
    scalar = numpy_helper.from_array(np.array(1.0, np.float32), "scale")
    shape = numpy_helper.from_array(np.array([1, 3], np.int64), "shape")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    model = helper.make_model(helper.make_graph([node], "g", [value], [output], [weight, packed, scalar, shape]))
    helper.set_model_props(model, {"model_type": "zipformer2_ctc", "T": "63"})
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    found = read_onnx(path)
    assert found.metadata == {"model_type": "zipformer2_ctc", "T": "63"}
    assert found.inputs == ("x",)
    assert found.parameters == 15 + 7
    for content in (path.read_bytes()[:-30], b"", b"no onnx file at all", b"\xff" * 40):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"m\.onnx: cannot be read as an ONNX file"):
            read_onnx(path)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("model.onnx", "float32"),
        ("model.int8.onnx", "int8"),
        ("model_quantized.onnx", "int8"),
        ("ctc-epoch-20-avg-1-chunk-16-left-128.int8.onnx", "int8"),
        ("model_fp16.onnx", "float16"),
        ("model-q4.onnx", "int4"),
        ("printing.onnx", "float32"),
    ],
)
def test_precisions_by_name(name: str, precision: str) -> None:
    assert precision_of(name) == precision


def test_decoding_goes_to_another_process_and_back(tmp_path: Path) -> None:
    for decoding in (Decoding(), Decoding(DecoderOptions("beam", beam_width=3), tmp_path / "lm.arpa")):
        assert Decoding.from_json(json.loads(json.dumps(decoding.to_json()))) == decoding
