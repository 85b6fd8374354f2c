"""ONNX files of other toolkits as teachers: samples or features in, what is not told is asked for by name."""

from __future__ import annotations

import json
import shutil
import warnings
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

from kdcompress.errors import TeacherError
from kdcompress.frontend import LogMelConfig
from kdcompress.teachers.features import Recipe, compute
from kdcompress.teachers.onnx_file import OnnxTeacher
from kdcompress.teachers.opening import open_teacher
from tests.core.teachers.given import answers, noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE, BINS = 16000, 80
TOKENS = ("<blk>", "<unk>", "▁", *"abcdef")


class Net(nn.Module):
    """A model of whole recordings, subsampling by four."""

    def __init__(self, *, kind: str, transposed: bool = False) -> None:
        super().__init__()
        self.kind, self.transposed = kind, transposed
        self.first = nn.Conv1d(1 if kind == "samples" else BINS, 8, 3, stride=2, padding=1)
        self.second = nn.Conv1d(8, 8, 3, stride=160 if kind == "samples" else 2, padding=1)
        self.head = nn.Linear(8, len(TOKENS))

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        if self.kind == "samples":
            inputs = inputs[:, None]
        elif not self.transposed:
            inputs = inputs.transpose(1, 2)
        logits = 5 * self.head(torch.relu(self.second(torch.relu(self.first(inputs)))).transpose(1, 2))
        if lengths is not None:
            logits = logits + 0.0 * lengths[:, None, None].float()
        return {"log_probs": logits.log_softmax(-1), "probabilities": logits.softmax(-1)}.get(self.kind, logits)


def save(file: Path, net: Net, names: tuple[str, ...], properties: dict[str, str]) -> Path:
    """Export as other toolkits do, with the token table beside it."""
    if net.kind == "samples":
        inputs, axes = torch.randn(1, 3200), {0: "N", 1: "n"}
    else:
        inputs = torch.randn(1, BINS, 40) if net.transposed else torch.randn(1, 40, BINS)
        axes = {0: "N", 2 if net.transposed else 1: "T"}
    arguments = (inputs, torch.tensor([40]))[: len(names) - 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            arguments,
            str(file),
            dynamo=False,
            opset_version=17,
            input_names=list(names[:-1]),
            output_names=[names[-1]],
            dynamic_axes={names[0]: axes, **{name: {0: "N"} for name in names[1:-1]}, names[-1]: {0: "N", 1: "T"}},
        )
    model = onnx.load(file)
    helper.set_model_props(model, properties)
    onnx.save(model, file)
    lines = "".join(f"{symbol} {index}\n" for index, symbol in enumerate(TOKENS))
    file.with_name("tokens.txt").write_text(lines, encoding="utf-8")
    return file


def recipe(kind: str, **settings: Any) -> Recipe:
    edges = {"low_freq": 0.0, "high_freq": 0.0} if kind == "nemo" else {}
    if kind == "kaldi_int16":
        edges = {"high_freq": 0.0}
    return Recipe(kind, LogMelConfig(sample_rate=RATE, num_mel_bins=BINS, **edges), **settings)


ICEFALL = {"model_type": "zipformer2_ctc", "model_author": "k2-fsa", "sample_rate": "16000"}
WENET = {"model_type": "wenet_ctc", "sample_rate": "16000"}
NEMO = {"model_type": "EncDecCTCModelBPE", "normalize_type": "per_feature", "sample_rate": "16000"}
FILES: dict[str, tuple[Net, tuple[str, ...], dict[str, str], Recipe | None, dict[str, Any]]] = {}


def setup_files() -> None:
    torch.manual_seed(2)
    icefall, wenet = Net(kind="log_probs"), Net(kind="probabilities")
    nemo, samples = Net(kind="logits", transposed=True), Net(kind="samples")
    FILES["icefall"] = (icefall, ("x", "x_lens", "log_probs"), ICEFALL, recipe("kaldi"), {})
    FILES["wenet"] = (wenet, ("x", "x_lens", "out"), WENET, recipe("kaldi_int16", snip_edges=True), {})
    NEMO_RECIPE = recipe("nemo", normalize="per_feature")  # noqa: N806
    FILES["nemo"] = (nemo, ("audio_signal", "length", "logprobs"), NEMO, NEMO_RECIPE, {})
    FILES["samples"] = (samples, ("input", "out"), {}, None, {"sample_rate": RATE, "normalize": "none"})


setup_files()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind; to be read only."""
    found = {}
    for name, (net, names, properties, _, said) in FILES.items():
        folder = tmp_path_factory.mktemp(name)
        found[name] = save(folder / f"{name}.onnx", net, names, properties)
        if said:
            (folder / "teacher.yaml").write_text(json.dumps(said), encoding="utf-8")  # JSON is YAML
    return found


@pytest.fixture
def copied(files: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """``copied("nemo")``: the file in a folder that may be changed."""

    def make(name: str) -> Path:
        return shutil.copytree(files[name].parent, tmp_path / name) / files[name].name

    return make


@pytest.mark.parametrize("name", FILES)
def test_it_answers_as_onnxruntime_does(name: str, files: dict[str, Path]) -> None:
    net, names, _, features, _ = FILES[name]
    teacher = open_teacher(files[name])
    assert isinstance(teacher, OnnxTeacher)
    info = teacher.info
    assert (info.kind, info.name, info.sample_rate, info.units) == ("onnx", name, RATE, "characters")
    assert info.frame == (Fraction(320, RATE) if name == "samples" else Fraction(40, 1000))
    assert info.vocabulary.symbols == TOKENS
    session = onnxruntime.InferenceSession(files[name])
    items = [noise(0.9, RATE, 1), noise(0.4, RATE, 2)]
    for item, found in zip(items, answers(teacher, items), strict=True):
        fed = item[None] if features is None else compute(features, item[None])
        feed = {names[0]: fed.transpose(0, 2, 1) if net.transposed else fed}
        if len(names) == 3:
            feed[names[1]] = np.array([fed.shape[1]])
        scores = torch.from_numpy(session.run(None, feed)[0][0])
        expected = scores.log() if net.kind == "probabilities" else scores.log_softmax(1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_all_that_is_not_told_is_asked_for_at_once(copied: Callable[[str], Path]) -> None:
    file = copied("samples")
    file.with_name("teacher.yaml").unlink()
    file.with_name("tokens.txt").unlink()
    with pytest.raises(TeacherError, match=r"(?s)Write teacher\.yaml beside it:.*tokens: .*sample_rate: .*normalize: "):
        open_teacher(file)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"sample_rat": 8000}, r"teacher\.yaml: sample_rat: .*known are name, tokens"),
        ({"sample_rate": "fast"}, r"teacher\.yaml: sample_rate"),
        ([], r"teacher\.yaml|does not tell"),
        ({"sample_rate": RATE, "normalize": "per_feature"}, "with features waveform it is one of none"),
        ({"sample_rate": RATE, "normalize": "none", "subsampling_factor": 100}, "say subsampling_factor"),
        ({"sample_rate": RATE, "normalize": "none", "scores": "log_probs"}, "say scores: logits"),
        ({"sample_rate": RATE, "normalize": "none", "blank": "<b>"}, "no token '<b>'"),
    ],
)
def test_what_is_said_must_fit(copied: Callable[[str], Path], said: Any, message: str) -> None:
    file = copied("samples")
    file.with_name("teacher.yaml").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(TeacherError, match=message):
        open_teacher(file)


def test_what_is_said_decides(copied: Callable[[str], Path]) -> None:
    file = copied("samples")
    before = open_teacher(file).info
    said = {"sample_rate": 8000, "normalize": "zero_mean_unit_var", "name": "loud", "units": "subwords"}
    file.with_name("teacher.yaml").write_text(json.dumps(said), encoding="utf-8")
    teacher = open_teacher(file)
    info = teacher.info
    assert (info.name, info.units, info.frame) == ("loud", "subwords", Fraction(320, 8000))
    assert info.fingerprint != before.fingerprint
    quiet, loud = answers(teacher, [noise(0.5, 8000)]), answers(teacher, [7 * noise(0.5, 8000)])
    torch.testing.assert_close(quiet[0], loud[0], atol=1e-3, rtol=0)


def test_tokens_may_stand_in_the_file_or_as_hugging_face_has_them(copied: Callable[[str], Path]) -> None:
    file = copied("samples")
    table = file.with_name("tokens.txt")
    model = onnx.load(file)
    helper.set_model_props(model, {"tokens": table.read_text(encoding="utf-8")})
    onnx.save(model, file.with_name("inside.onnx"))
    table.unlink()
    assert open_teacher(file.with_name("inside.onnx")).info.vocabulary.symbols == TOKENS
    symbols = {symbol: index for index, symbol in enumerate(("<pad>", "<unk>", "|", *"abcdef"))}
    file.with_name("vocab.json").write_text(json.dumps(symbols), encoding="utf-8")
    file.with_name("teacher.yaml").unlink()
    extractor = {"sampling_rate": 8000, "do_normalize": False}
    file.with_name("preprocessor_config.json").write_text(json.dumps(extractor), encoding="utf-8")
    info = open_teacher(file).info
    assert (info.vocabulary.symbols, info.sample_rate) == (TOKENS, 8000)


def test_files_that_cannot_be_used(copied: Callable[[str], Path], tmp_path: Path) -> None:
    file = copied("icefall")
    lines = file.with_name("tokens.txt").read_text(encoding="utf-8")
    file.with_name("tokens.txt").write_text(f"{lines}z 9\n", encoding="utf-8")
    with pytest.raises(TeacherError, match=r"no output for 'z' \(9\)"):
        open_teacher(file)
    file.write_bytes(b"not a model")
    with pytest.raises(TeacherError, match=r"cannot be read as an ONNX file|onnxruntime cannot load it"):
        open_teacher(file)
    value = helper.make_tensor_value_info
    states = [value(name, 1, ["N", 4]) for name in ("x", "cache")]
    node = helper.make_node("Add", ["x", "cache"], ["log_probs"])
    graph = helper.make_graph([node], "streams", states, [value("log_probs", 1, ["N", 4])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "s.onnx")
    with pytest.raises(TeacherError, match=r"takes x .*, cache .*offline"):
        open_teacher(tmp_path / "s.onnx")


def test_the_fingerprint_is_about_the_content(files: dict[str, Path], copied: Callable[[str], Path]) -> None:
    found = {name: open_teacher(file).info.fingerprint for name, file in files.items()}
    assert len(set(found.values())) == len(found)
    assert open_teacher(copied("nemo")).info.fingerprint == found["nemo"]
