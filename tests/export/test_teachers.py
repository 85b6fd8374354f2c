"""Full-context teachers become bundles that take whole recordings; an Oracle Teacher does not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcompress.run import load_run
from kdcompress_export import ExportError, ExportOptions, ParityError, SearchOptions, export_run, verify_bundle
from kdcompress_export.export import export_source
from kdcompress_export.from_run import source_from_run
from kdcompress_export.quantization.measure import Rounds
from kdcompress_export.streams import speech_like_noise
from kdcompress_export.whole import check_whole_parity
from kdcompress_export.whole_graph import drop_cut_paddings, drop_masks
from kdcompress_runtime import Bundle, CtcModel, Recognizer

RATE = 8000
MODELS = {
    "conventional": {"encoder": {"width": 16, "depth": 2, "kernel": 5}},
    "vgg": {"channels": [4, 6, 8], "width": 16, "depth": 2, "kernel": 5},
    "lstm": {"width": 12, "depth": 2},
}
ORACLE = {"kind": "oracle", "encoder": {"width": 16, "depth": 2, "kernel": 5}, "heads": 2}
PLAIN = ExportOptions(quantization=SearchOptions(quantize="none", rounds=Rounds(3, 10)))
SCHEMES = ("static-u8s8-minmax-all", "float16")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, make_run):
    """A run of each kind."""
    return {
        kind: make_run(tmp_path_factory.mktemp(kind), teacher={"kind": kind, **model}) for kind, model in MODELS.items()
    }


@pytest.fixture(scope="module")
def sources(teachers):
    """The same, converted and proven."""
    return {kind: source_from_run(run) for kind, run in teachers.items()}


@pytest.fixture(scope="module")
def bundles(sources, tmp_path_factory):
    """The same as bundles that hold float32 alone."""
    folder = tmp_path_factory.mktemp("bundles")
    for kind, source in sources.items():
        export_source(source, folder / kind, PLAIN)
    return folder


def taught(network, samples):
    """What a teacher says about ``(N, n)``, as the training loop asks it."""
    lengths = torch.full((len(samples),), samples.shape[1])
    empty = torch.zeros(len(samples), 0, dtype=torch.int64)
    with torch.no_grad():
        features = network.features(torch.from_numpy(samples))
        return network(features, network.frame_lens(lengths), empty, empty.sum(1)).numpy()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("units", [1, 319, 320, 321, 4000, 12345])
def test_the_bundle_answers_as_the_teacher(teachers, bundles, kind, units):
    run, recognizer = load_run(teachers[kind]), Recognizer.from_dir(bundles / kind)
    network = run.network
    samples = speech_like_noise(2.0, RATE, 7)[1000 : 1000 + units]
    found = recognizer.log_probs(samples, RATE)
    assert found.shape == (-(-units // network.units_per_frame), len(run.vocabulary))
    np.testing.assert_allclose(found, taught(network, samples[None])[0], atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_neither_the_batch_nor_its_padding_changes_anything(teachers, bundles, kind):
    network = load_run(teachers[kind]).network
    model = CtcModel.from_bundle(Bundle.open(bundles / kind))
    samples = np.stack([speech_like_noise(0.7, RATE, seed)[:5000] for seed in range(3)])
    together = model.step(samples, {})[0]
    alone = [model.step(one[None], {})[0][0] for one in samples]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    padded = np.pad(samples, ((0, 0), (0, 3000)))
    lengths, empty = torch.full((3,), 5000), torch.zeros(3, 0, dtype=torch.int64)
    with torch.no_grad():
        features = network.features(torch.from_numpy(padded))
        in_a_longer_batch = network(features, network.frame_lens(lengths), empty, empty.sum(1)).numpy()
    np.testing.assert_allclose(together, in_a_longer_batch[:, : together.shape[1]], atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_bundle_json_says_what_it_is(bundles, kind):
    metadata = Bundle.open(bundles / kind).metadata
    assert not metadata.streaming
    assert metadata.states == ()
    assert metadata.lookahead_frames == 0
    assert metadata.input.units_per_frame == 320
    assert metadata.input.min_units == 1
    assert metadata.measured["parity"]["origin"] == "torch"
    assert metadata.measured["parity"]["max_abs_diff"] <= 1e-4
    assert {"batch 4, 8000 samples", "recording 1", "recording 6"} <= metadata.measured["parity"]["cases"].keys()


@pytest.mark.parametrize("kind", MODELS)
def test_masks_and_cut_paddings_are_gone(bundles, kind):
    graph = onnx.load(bundles / kind / "model.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert not {"Less", "Range", "GatherElements", "BatchNormalization"} & set(operators)
    assert operators.count("Pad") == 1
    assert operators.count("LSTM") == (2 if kind == "lstm" else 0)


@pytest.mark.parametrize("kind", MODELS)
def test_verify_repeats_the_proof_with_error_rates(teachers, bundles, kind):
    manifest = load_run(teachers[kind]).recipe.data.dev
    report = verify_bundle(bundles / kind, manifest=manifest)
    assert report.passed, report
    assert [check.name for check in report.checks] == ["hashes", "graph float32", "word error rate float32"]
    assert "recorded" in report.checks[-1].detail


@pytest.mark.parametrize("kind", ["conventional", "vgg"])
@pytest.mark.parametrize(("scheme", "precision"), [("static-u8s8-minmax-all", "int8"), ("float16", "float16")])
def test_a_teacher_gets_smaller_like_a_student(sources, tmp_path, kind, scheme, precision):
    search = SearchOptions(quantize=scheme, rounds=Rounds(3, 10))
    metadata = export_source(sources[kind], tmp_path / "bundle", ExportOptions(quantization=search))
    assert [model.precision for model in metadata.models] == ["float32", precision]
    assert metadata.measured[precision]["agreement"]["argmax_agreement"] > 0.9
    assert metadata.measured["error_rates"]["rates"].keys() == {"float32", precision}


def test_an_oracle_teacher_is_refused(tmp_path, make_run):
    run = make_run(tmp_path, teacher=ORACLE)
    with pytest.raises(ExportError, match=r"holds an Oracle Teacher, .*; export a student") as refusal:
        export_run(run, tmp_path / "bundle", PLAIN)
    assert str(run) in str(refusal.value)
    assert not (tmp_path / "bundle").exists()


def test_another_teacher_is_told_apart(teachers, sources):
    network = load_run(teachers["conventional"]).network
    with torch.no_grad():
        network.head.bias[0] += 0.01
    with pytest.raises(ParityError, match="differs from torch"):
        check_whole_parity(
            network, sources["conventional"].load(), atol=1e-4, recordings=[speech_like_noise(1.0, RATE, 5)]
        )


def small_graph(nodes, **constants):
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["N", 2, "T"])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )


def sliced(pads, start, end, axis=2):
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"], "pad"),
        helper.make_node("Slice", ["padded", "start", "end", "axis", "step"], ["cut"], "cut"),
        helper.make_node("Relu", ["cut"], ["y"], "relu"),
    ]
    return small_graph(nodes, pads=pads, start=[start], end=[end], axis=[axis], step=[1])


@pytest.mark.parametrize(
    ("pads", "start", "end", "dropped"),
    [
        ([0, 0, 3, 0, 0, 3], 3, -3, 1),
        ([0, 0, 3, 0, 0, 0], 3, 2**63 - 1, 1),
        ([0, 0, 3, 0, 0, 3], 2, -4, 0),
        ([0, 0, 3, 0, 0, 3], 3, 5, 0),
        ([0, 1, 3, 0, 0, 3], 3, -3, 0),
    ],
)
def test_only_what_a_slice_cuts_off_again_is_dropped(pads, start, end, dropped):
    graph = sliced(pads, start, end)
    assert drop_cut_paddings(graph) == dropped
    assert [node.op_type for node in graph.node] == (["Relu"] if dropped else ["Pad", "Slice", "Relu"])


def test_a_product_that_depends_on_what_is_heard_is_no_mask():
    nodes = [
        helper.make_node("Less", ["x", "limit"], ["quiet"], "less"),
        helper.make_node("Cast", ["quiet"], ["gate"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "gate"], ["gated"], "gating"),
        helper.make_node("Shape", ["x"], ["size"], "shape"),
        helper.make_node("Less", ["size", "most"], ["inside"], "inside"),
        helper.make_node("Cast", ["inside"], ["mask"], "cast2", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["gated", "mask"], ["masked"], "masking"),
        helper.make_node("Relu", ["masked"], ["y"], "relu"),
    ]
    graph = small_graph(nodes, limit=np.float32(0.5), most=np.array([9, 9, 9]))
    assert drop_masks(graph, "x") == 1
    assert [node.name for node in graph.node] == ["less", "cast", "gating", "relu"]
    assert graph.node[-1].input[0] == "gated"
