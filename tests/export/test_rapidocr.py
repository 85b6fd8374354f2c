"""A recogniser for RapidOCR, through the real package: the text is that of our own."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnxruntime
import pytest
import yaml
from rapidocr import RapidOCR
from rapidocr.ch_ppocr_rec import TextRecInput

from kdcompress_export import ExportOptions, ParityError, SearchOptions, verify_output
from kdcompress_export.export import export_source
from kdcompress_export.from_run import source_from_run
from kdcompress_export.quantization.measure import Rounds
from kdcompress_export.targets import rapidocr
from kdcompress_export.targets.rapidocr_document import as_fed, class_order, keys
from kdcompress_runtime import Bundle, BundleError, Recognizer, Vocabulary
from tests.export.task_runs import HEIGHT, line_of_text, lines_run

STUDENT = {
    "kind": "full_context",
    "subsampling_factor": 4,
    "encoder": {"width": 16, "depth": 1, "kernel": 5, "channels": [4, 6]},
}


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def exported(request, tmp_path_factory):
    """A bundle with int8 and float32, and folders for RapidOCR of both."""
    folder = tmp_path_factory.mktemp(f"lines{request.param}")
    source = source_from_run(lines_run(folder, STUDENT, channels=request.param))
    options = SearchOptions(quantize="static-u8s8-minmax-all", rounds=Rounds(3, 10))
    export_source(source, folder / "bundle", ExportOptions(quantization=options))
    for precision in ("float32", "int8"):
        (folder / precision).mkdir()
        for name, content in rapidocr.files(Bundle.open(folder / "bundle"), precisions=[precision]).items():
            (folder / precision / name).write_bytes(content)
    return folder


def engine(folder):
    """RapidOCR with our recogniser, as docs/rapidocr.md opens it."""
    params = yaml.safe_load((folder / "rapidocr.yaml").read_text())
    params["Rec.model_path"] = str(folder / params["Rec.model_path"])
    quiet = {"Global.use_det": False, "Global.use_cls": False, "Global.log_level": "error"}
    return RapidOCR(params={**params, **quiet})


def pictures(height=HEIGHT):
    """Lines of very different widths, blue first as OpenCV has them."""
    widths = (height, 47, 8 * height, 12, 23 * height + 3, 90, 91)
    return [line_of_text(width, height, seed)[:, :, ::-1].copy() for seed, width in enumerate(widths)]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_lines_side_by_side_are_read_as_by_our_own_runtime(exported, precision):
    ours = Recognizer.from_dir(exported / "bundle", precision=precision)
    images = pictures()
    found = engine(exported / precision)._load_rec_model()(TextRecInput(img=images))
    expected = [ours.recognize(np.ascontiguousarray(image[:, :, ::-1])).text for image in images]
    assert [" ".join(text.split()) for text in found.txts] == expected
    assert sum(map(bool, expected)) > 4
    assert all(0 <= score <= 1 for score in found.scores)


def test_a_line_alone_from_a_file(exported, tmp_path):
    image = line_of_text(200, 2 * HEIGHT, 3)[:, :, ::-1].copy()  # RapidOCR enlarges what is less than 30 pixels high
    cv2.imwrite(str(tmp_path / "line.png"), image)
    found = engine(exported / "int8")(str(tmp_path / "line.png"))
    sized = cv2.resize(image, (100, HEIGHT))[:, :, ::-1]
    expected = Recognizer.from_dir(exported / "bundle", precision="int8").recognize(np.ascontiguousarray(sized)).text
    assert " ".join(found.txts[0].split()) == expected


def test_words_have_places(exported):
    found = engine(exported / "int8")._load_rec_model()(TextRecInput(img=pictures()[4:5], return_word_box=True))
    words = found.word_results[0]
    assert "".join("".join(word) for word in words.words) == found.txts[0].replace(" ", "")


def test_the_folder_is_verified_without_the_package(exported):
    report = verify_output(exported / "int8")
    assert report.passed
    assert [check.name for check in report.checks] == [
        "hashes",
        "characters",
        "padding changes nothing",
        "answers as at export",
    ]


def test_a_changed_file_fails_by_name(exported):
    path = exported / "float32" / "keys.txt"
    before = path.read_bytes()
    path.write_bytes(before + b"x\n")
    report = verify_output(exported / "float32")
    path.write_bytes(before)
    assert [(check.name, check.passed) for check in report.checks] == [("hashes", False)]
    assert "keys.txt" in report.checks[0].detail


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "web"}, "not written by the rapidocr target"),
        ({"format_version": 9}, "format 9"),
        ({"input": 3}, "missing or malformed"),
        ({"files": {"model.onnx": "0", "keys.txt": "0", "rapidocr.yaml": "0", "../x": "0"}}, "leaves the folder"),
    ],
)
def test_a_document_that_cannot_be_followed_is_refused(exported, tmp_path, change, message):
    document = json.loads((exported / "int8" / "rapidocr.json").read_text())
    (tmp_path / "rapidocr.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(BundleError, match=message):
        verify_output(tmp_path)


def test_a_graph_that_answers_otherwise_is_not_written(exported, monkeypatch):
    monkeypatch.setattr(rapidocr, "as_fed", lambda *given: as_fed(*given)[:, :, ::-1])  # upside down
    with pytest.raises(ParityError, match="differs from the bundle's"):
        rapidocr.files(Bundle.open(exported / "bundle"))


def test_characters_are_in_rapidocrs_order():
    vocabulary = Vocabulary(("a", "▁", "<blk>", "▁the", "b"))
    assert class_order(vocabulary) == [2, 0, 3, 4, 1]
    assert keys(vocabulary) == ["a", " the", "b"]
    assert keys(Vocabulary(("<blk>", "x"))) == ["x"]


def test_the_model_holds_its_characters(exported):
    session = onnxruntime.InferenceSession(exported / "int8" / "model.onnx", providers=["CPUExecutionProvider"])
    inside = session.get_modelmeta().custom_metadata_map["character"]
    assert inside.splitlines() == (exported / "int8" / "keys.txt").read_text().splitlines()
    assert session.get_outputs()[0].shape[-1] == len(inside.splitlines()) + 2
