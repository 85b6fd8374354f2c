"""Data outside of the model file is refused wherever it hides, before onnxruntime sees the file."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kdcompress_runtime import Bundle, BundleError, CtcModel, ExternalDataError, ModelError, Recognizer
from kdcompress_runtime import model as model_module
from kdcompress_runtime.onnx_guard import is_ort_format, refuse_external_data

PLACES = ["initializer", "sparse", "attribute", "list", "sparse attribute", "subgraph", "deep", "function", "training"]
LOCATIONS = ["weights.bin", "../../etc/passwd", "/etc/passwd", "C:\\secrets", "*/_ORT_MEM_ADDR_/*"]


def external(location="weights.bin", *, located=True, entries=True):
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[2])
    if located:
        tensor.data_location = TensorProto.EXTERNAL
    if entries:
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="location", value=location)
    return tensor


def graph_with(nodes=(), initializers=()):
    return helper.make_graph(list(nodes), "inner", [], [], list(initializers))


def put(model, place, tensor):
    """Hide a tensor in a graph."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    sparse = onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.array([0, 1])), dims=[5])
    once = helper.make_node("If", ["cond"], ["y"], then_branch=graph_with([constant]), else_branch=graph_with())
    twice = helper.make_node("Loop", ["m", "cond"], ["z"], body=graph_with([once]))
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "sparse":
        model.graph.sparse_initializer.append(sparse)
    elif place == "attribute":
        model.graph.node.append(constant)
    elif place == "list":
        node = helper.make_node("Custom", [], ["l"])
        node.attribute.add(name="several", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
        model.graph.node.append(node)
    elif place == "sparse attribute":
        model.graph.node.append(helper.make_node("Constant", [], ["s"], sparse_value=sparse))
    elif place == "subgraph":
        model.graph.node.append(
            helper.make_node("If", ["cond"], ["y"], then_branch=graph_with(), else_branch=graph_with((), [tensor]))
        )
    elif place == "deep":
        model.graph.node.append(twice)
    elif place == "function":
        model.functions.append(helper.make_function("local", "f", [], ["c"], [constant], [helper.make_opsetid("", 18)]))
    else:
        model.training_info.add().algorithm.node.append(constant)


def hidden(content, place, tensor):
    model = onnx.load_from_string(content)
    put(model, place, tensor)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def content(bundle_path):
    return (bundle_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_it_hides(content, place):
    with pytest.raises(ExternalDataError, match=r"m\.onnx.*tensor 'far' \('weights\.bin'\) lies outside"):
        refuse_external_data(hidden(content, place, external()), "m.onnx")
    refuse_external_data(hidden(content, place, numpy_helper.from_array(np.zeros(2, np.float32), "near")), "m.onnx")


@pytest.mark.parametrize("location", LOCATIONS)
def test_no_location_is_any_better_than_another(content, location):
    with pytest.raises(ExternalDataError, match="lies outside"):
        refuse_external_data(hidden(content, "initializer", external(location)), "m.onnx")


@pytest.mark.parametrize("tensor", [external(located=False), external(entries=False)])
def test_half_a_reference_is_refused_too(content, tensor):
    with pytest.raises(ExternalDataError, match="'far'"):
        refuse_external_data(hidden(content, "initializer", tensor), "m.onnx")


def test_onnxruntime_never_sees_such_a_file(content, tmp_path, bundle_writer, monkeypatch):
    """The file that it names is there, and would be read."""
    (tmp_path / "weights.bin").write_bytes(np.ones(2, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    path = bundle_writer(tmp_path / "b", model=hidden(content, "initializer", external()))
    seen = []
    monkeypatch.setattr(model_module.onnxruntime, "InferenceSession", lambda content, *_, **__: seen.append(content))
    for error in (ExternalDataError, ModelError, BundleError):
        with pytest.raises(error, match=r"b/model\.onnx.*save the ONNX file without external data"):
            Recognizer.from_dir(path)
    assert not seen


def number(value, width=0):
    """A protobuf varint, longer than need be when ``width`` says so."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < width:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def sized(field, payload, width=0):
    return number(field << 3 | 2, width) + number(len(payload), width) + payload


@pytest.mark.parametrize("width", [0, 2, 5])
def test_roundabout_encodings_hide_nothing(content, width):
    """Numbers written longer than need be, a second graph that protobuf merges into the first, a truncated enum."""
    flag = number(14 << 3, width) + number(1, width)
    location = sized(13, sized(1, b"location", width) + sized(2, b"x", width), width)
    for tensor in (flag, location, number(14 << 3, width) + number((1 << 32) + 1)):
        with pytest.raises(ExternalDataError):
            refuse_external_data(content + sized(7, sized(5, tensor, width), width), "m.onnx")
    refuse_external_data(content + sized(7, sized(5, number(14 << 3, width) + number(0, width), width)), "m.onnx")


@pytest.mark.parametrize(
    "damage",
    [
        b"\x0b",  # a group: no ONNX file has one
        b"\x00\x01",  # field 0
        b"\x3a\x05ab",  # longer than the file
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x3a",
        b"\xff",
        b"\x3a\x03\x2a\x05a",  # an initialiser longer than its graph
    ],
)
def test_what_is_no_protobuf_is_refused(content, damage):
    with pytest.raises(ModelError, match=r"m\.onnx: cannot load it \(no ONNX graph: .*export the bundle again"):
        refuse_external_data(content + damage, "m.onnx")


def test_endless_nesting_is_refused(content):
    graph = b""
    for _ in range(200):
        graph = sized(1, sized(5, sized(6, graph)))
    with pytest.raises(ModelError, match="nested more than 100 deep"):
        refuse_external_data(content + sized(7, graph), "m.onnx")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_onnx_can_parse_and_holds_external_data_is_refused(data):
    """Damage a file that refers to outside data: it is refused, or no such reference is left in it."""
    raw = bytearray(hidden(TINY, "deep", external()))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        refuse_external_data(bytes(raw), "m.onnx")
    except ModelError:
        return
    if is_ort_format(bytes(raw)):
        return
    assert not any(tensor.external_data or tensor.data_location for tensor in tensors(parsed(bytes(raw))))


TINY = helper.make_model(graph_with(), opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def parsed(raw):
    try:
        return onnx.load_from_string(raw)
    except Exception:  # noqa: BLE001 - protobuf has several, and none of them matters here
        return onnx.ModelProto()


def tensors(message):
    """Every tensor in a message, found by protobuf itself."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.is_repeated else [value]:
            if isinstance(item, TensorProto):
                yield item
            yield from tensors(item)


def test_the_walk_costs_little_and_never_looks_at_weights():
    weights = [numpy_helper.from_array(np.ones((250, 100), np.float32), f"layer.{i}.weight") for i in range(200)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"layer.{i}.weight"], [f"x{i + 1}"]) for i in range(200)]
    raw = helper.make_model(graph_with(nodes, weights)).SerializeToString()
    assert len(raw) > 19_000_000
    taken = []
    for _ in range(5):
        start = time.thread_time()
        refuse_external_data(raw, "m.onnx")
        taken.append(time.thread_time() - start)
    assert min(taken) < 0.02


def test_ort_format_is_what_onnxruntime_takes_it_for(content, tmp_path, bundle_writer, ort_format):
    """A file made to look like both is for onnxruntime an ORT file, and a broken one."""
    assert is_ort_format(ort_format(content))
    assert not is_ort_format(content)
    assert not is_ort_format(b"")
    both = sized(2, b"xxORTM") + hidden(content, "initializer", external())
    onnx.load_from_string(both)
    assert is_ort_format(both)
    with pytest.raises(ModelError, match=r"onnxruntime .* cannot load it"):
        CtcModel.from_bundle(Bundle.open(bundle_writer(tmp_path / "b", model=both)))
