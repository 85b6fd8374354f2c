"""The mobile target: another format, the same model."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.tools.reduced_build_config_parser import parse_config

from kdcompress_export import verify_bundle
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.errors import ParityError, TargetError
from kdcompress_export.graphs import FRONTEND_MARK
from kdcompress_export.streams import speech_like_noise
from kdcompress_export.targets import mobile
from kdcompress_export.targets.ort_format import convert, required_operators
from kdcompress_runtime import Bundle, BundleError, Recognizer
from kdcompress_runtime.bundle import sha256

BOTH = ("float32", "int8")
PAGE = Path(__file__).parents[2] / "docs" / "mobile.md"


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("mobile") / "bundle"
    write_bundle(output, mobile.files(Bundle.open(bundle), precisions=BOTH))
    return output


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def rehash(bundle, file, content):
    """Put other content into a bundle and make the hash fit."""
    (bundle / file).write_bytes(content)
    row = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    row.pop("checksum", None)
    row["files"][file] = sha256(content)
    (bundle / "bundle.json").write_text(json.dumps(row), encoding="utf-8")


@pytest.mark.parametrize("precision", BOTH)
def test_the_runtime_opens_it_and_answers_the_same(bundle, folder, precision):
    before, after = (Recognizer.from_dir(path, precision=precision) for path in (bundle, folder))
    samples = speech_like_noise(2.3, 8000, seed=5)
    np.testing.assert_allclose(after.log_probs(samples, 8000), before.log_probs(samples, 8000), atol=1e-4)
    assert before.recognize(samples, 8000).tokens == after.recognize(samples, 8000).tokens


def test_it_is_a_bundle_that_says_what_it_is(bundle, folder):
    before, after = Bundle.open(bundle).metadata, Bundle.open(folder).metadata
    assert [model.file for model in after.models] == ["model.ort", "model.int8.ort"]
    assert sorted(after.files) == ["model.int8.ort", "model.ort", mobile.CONFIG_FILE, "tokens.txt"]
    assert after.provenance == {**before.provenance, "target": "mobile"}
    assert after.measured["error_rates"] == before.measured["error_rates"]
    sizes = {model.precision: (folder / model.file).stat().st_size for model in after.models}
    assert after.measured["mobile"]["size_bytes"] == sizes
    assert (after.states, after.input) == (before.states, before.input)
    assert after.default_precision == before.default_precision


def test_only_the_default_model_goes_along_unless_others_are_named(bundle):
    opened = Bundle.open(bundle)
    default = opened.metadata.model_file().file.replace(".onnx", ".ort")
    assert sorted(mobile.files(opened)) == sorted(["bundle.json", default, mobile.CONFIG_FILE, "tokens.txt"])
    metadata = json.loads(mobile.files(opened, precisions=("float32",))["bundle.json"])
    assert metadata["default_precision"] == "float32"
    with pytest.raises(BundleError, match="no int4"):
        mobile.files(opened, precisions=("int4",))


def test_the_usual_proof_and_its_own_hold(folder):
    own = mobile.verify(folder)
    assert [check.name for check in own if not check.passed] == []
    assert len(own) == 5
    usual = verify_bundle(folder)
    assert {"int8 is faster"} >= {check.name for check in usual.checks if not check.passed}
    assert any(check.name == "graph int8" for check in usual.checks)  # geometry inside the file survived


def test_the_operators_listed_are_those_of_the_files_with_types_and_none_is_for_x86(folder):
    lines = (folder / mobile.CONFIG_FILE).read_text(encoding="utf-8").splitlines()
    assert "model.ort, model.int8.ort" in lines[0]
    text = "\n".join(lines[1:])
    assert "QLinearConv" in text
    assert '{"inputs": {"0": ["float"]}}' in text
    assert {line.partition(";")[0] for line in lines[1:]} == {"ai.onnx", "com.microsoft"}


def test_onnxruntimes_own_parser_reads_the_list(folder):
    required, _ = parse_config(str(folder / mobile.CONFIG_FILE), True)
    assert "QLinearConv" in required["com.microsoft"][1]
    assert "LogSoftmax" in required["ai.onnx"][13]


def test_a_list_that_lacks_an_operator_fails(copy):
    text = (copy / mobile.CONFIG_FILE).read_text(encoding="utf-8")
    rehash(copy, mobile.CONFIG_FILE, text.replace("LogSoftmax", "Softmax").encode())
    failed = [check for check in mobile.verify(copy) if not check.passed]
    assert [check.name for check in failed] == ["required operators"]
    assert "LogSoftmax" in failed[0].detail


def test_a_flipped_byte_and_an_onnx_file_under_the_name_fail(copy, bundle):
    rehash(copy, "model.ort", (bundle / "model.onnx").read_bytes())
    names = [check.name for check in mobile.verify(copy) if not check.passed]
    assert names[:2] == ["ONNX Runtime format float32", "required operators"]
    content = bytearray((copy / "model.int8.ort").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.int8.ort").write_bytes(content)
    failed = [check for check in mobile.verify(copy) if not check.passed]
    assert any("SHA-256" in check.detail for check in failed)


def test_other_weights_in_the_file_fail(copy, bundle):
    model = onnx.load(bundle / "model.onnx")
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1 and FRONTEND_MARK not in tensor.name:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(-values), tensor.name))
    rehash(copy, "model.ort", convert(model.SerializeToString(), "model.onnx"))
    failed = [check.name for check in mobile.verify(copy) if not check.passed]
    assert failed == ["model.ort answers as the ONNX file did"]


def test_a_conversion_that_changes_the_model_is_refused(bundle, monkeypatch):
    opened = Bundle.open(bundle)
    wrong = convert(opened.read("model.int8.onnx"), "model.int8.onnx")
    monkeypatch.setattr(mobile, "convert", lambda *_: wrong)
    with pytest.raises(ParityError, match="differs from the ONNX file"):
        mobile.files(opened, precisions=("float32",))


def test_what_is_no_model_is_refused_and_nothing_is_printed(capfd):
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(TargetError, match=r"model\.onnx: onnxruntime .* cannot convert it"):
        convert(b"no model", "model.onnx")
    with pytest.raises(TargetError, match=r"model\.ort: not in ONNX Runtime format"):
        required_operators({"model.ort": b"no model at all"})
    assert logging.getLogger().handlers == handlers
    assert capfd.readouterr() == ("", "")


def test_onnx_and_the_training_core_are_not_loaded(bundle):
    program = (
        "import sys; from kdcompress_runtime import Bundle; from kdcompress_export.targets import mobile\n"
        "mobile.files(Bundle.open(sys.argv[1])); print(sorted({'onnx', 'kdcompress'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program, bundle], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_code_of_the_page_runs(bundle, tmp_path, monkeypatch):
    shutil.copytree(bundle, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(code, PAGE.name, "exec", dont_inherit=True), {})
    assert [model.file for model in Bundle.open("phone").metadata.models] == ["model.ort", "model.int8.ort"]
