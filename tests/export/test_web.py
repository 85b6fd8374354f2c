"""The web target: a bundle with its recogniser in JavaScript, refused where onnxruntime-web could not run it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from kdcompress_export import verify_bundle
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.errors import TargetError
from kdcompress_export.targets import web
from kdcompress_runtime import Bundle, BundleError, Recognizer
from kdcompress_runtime.bundle import sha256

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    output = tmp_path_factory.mktemp("web") / "bundle"
    write_bundle(output, web.files(Bundle.open(bundle), precisions=("float32", "int8")))
    return output


def graph(*nodes, opset=18, extra=()):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    made = helper.make_graph(list(nodes), "graph", values[:1], values[1:], list(extra))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("own", 1)])


def relu(**attributes):
    return helper.make_node("Relu", ["x"], ["y"], **attributes)


def test_it_is_a_bundle_with_the_script_in_it(bundle, folder):
    before, after = Bundle.open(bundle).metadata, Bundle.open(folder).metadata
    script = (ROOT / "export" / "kdcompress_export" / "web" / web.SCRIPT_FILE).read_bytes()
    assert (folder / web.SCRIPT_FILE).read_bytes() == script
    assert after.files == {**before.files, web.SCRIPT_FILE: sha256(script)}
    assert after.provenance == {**before.provenance, "target": "web"}
    assert after.models == before.models
    assert after.measured["web"]["size_bytes"]["int8"] == (folder / "model.int8.onnx").stat().st_size
    assert Recognizer.from_dir(folder).metadata == after


def test_only_the_default_model_goes_along_unless_others_are_named(bundle):
    opened = Bundle.open(bundle)
    assert sorted(web.files(opened)) == sorted(
        ["bundle.json", opened.metadata.model_file().file, web.SCRIPT_FILE, "tokens.txt"]
    )
    with pytest.raises(BundleError, match="no int4"):
        web.files(opened, precisions=("int4",))


def test_the_usual_proof_and_its_own_hold(folder):
    assert [check.name for check in web.verify(folder) if not check.passed] == []
    assert len(web.verify(folder)) == 3
    failed = {check.name for check in verify_bundle(folder).checks if not check.passed}
    assert failed <= {"int8 is faster"}


def test_a_changed_script_fails_by_name(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (copy / web.SCRIPT_FILE).open("a", encoding="utf-8") as file:
        file.write("//\n")
    failed = [check for check in web.verify(copy) if not check.passed]
    assert [check.name for check in failed] == [web.SCRIPT_FILE]
    assert "SHA-256" in failed[0].detail


def test_a_model_that_does_not_fit_fails_by_name(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = graph(helper.make_node("Mine", ["x"], ["y"], domain="own")).SerializeToString()
    (copy / "model.onnx").write_bytes(content)
    row = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    row.pop("checksum", None)
    row["files"]["model.onnx"] = sha256(content)
    (copy / "bundle.json").write_text(json.dumps(row), encoding="utf-8")
    failed = [check for check in web.verify(copy) if not check.passed]
    assert [check.name for check in failed] == ["model.onnx fits onnxruntime-web"]
    assert "own.Mine" in failed[0].detail


def test_a_model_that_is_too_large_is_refused(bundle):
    with pytest.raises(TargetError, match="at most 1000 are allowed"):
        web.files(Bundle.open(bundle), max_bytes=1000)


def test_what_onnxruntime_web_runs_passes():
    assert web.wrong_for_web(graph(relu()).SerializeToString()) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph(relu(), opset=99), "opset 99"),
        (graph(relu(), opset=6), "opset 6"),
        (graph(helper.make_node("Relu", ["x"], ["y"], domain="own")), "own.Relu"),
        (graph(helper.make_node("Ours", ["x"], ["y"])), "ai.onnx.Ours"),
    ],
)
def test_what_it_does_not_run_is_named(model, words):
    problems = web.wrong_for_web(model.SerializeToString())
    assert len(problems) == 1
    assert words in problems[0]


def test_operators_in_branches_are_seen_and_local_functions_are_allowed():
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Mine", ["x"], ["y"], domain="own")], "branch", [], [value])
    both = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = graph(both)
    assert "own.Mine" in web.wrong_for_web(model.SerializeToString())[0]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Mine", ["x"], ["y"], [relu()], opsets))
    assert web.wrong_for_web(model.SerializeToString()) == []


def test_weights_outside_the_file_and_other_bytes_are_refused():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    assert web.wrong_for_web(graph(relu(), extra=[tensor]).SerializeToString()) == ["weights lie outside the file"]
    assert "not an ONNX file" in web.wrong_for_web(b"\xff" * 40)[0]


def test_the_list_of_operators_is_for_the_version_that_the_example_pins():
    package = json.loads((ROOT / "examples" / "web" / "package.json").read_text(encoding="utf-8"))
    runtime = web.web_runtime()
    assert package["dependencies"] == {"onnxruntime-web": runtime.version}
    assert {("ai.onnx", "QLinearConv"), ("com.microsoft", "MatMulNBits")} <= runtime.operators
    assert runtime.max_opset >= 18
    assert onnx.defs.onnx_opset_version() >= 18


def test_the_page_finds_its_files():
    page = ROOT / "examples" / "web"
    html = (page / "index.html").read_text(encoding="utf-8")
    script = (page / "page.mjs").read_text(encoding="utf-8")
    assert 'src="page.mjs"' in html
    assert "microphone.mjs" in script
    assert (page / "microphone.mjs").is_file()
    for name in ("file", "microphone", "model", "problem", "source", "speed", "text", "tokens"):
        assert f'id="{name}"' in html
        assert f"element('{name}')" in script
