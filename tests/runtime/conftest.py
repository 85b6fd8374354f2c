"""A small real streaming model, built with onnx alone, and its bundle.

pcm -> frames -> linear -> tanh -> convolution over 3 past frames, the frame and 2 to come -> log-softmax.
The features of the last 5 frames are a state, so the output lags by 2 frames. Two more states show that
initial values and dtypes are honoured: ``gain`` starts at 0.5 and scales the features, ``count`` is int64.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdcompress_runtime import DecoderOptions, MissingDependencyError, Recognizer, build_decoder
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

RATE, UNITS, PAST, AHEAD, HIDDEN = 8000, 80, 3, 2, 12
KERNEL = PAST + 1 + AHEAD
WINDOW = 100
VOCABULARY = Vocabulary.from_symbols(["▁", *"abcdef"])


@dataclass(frozen=True)
class Weights:
    linear: np.ndarray
    kernel: np.ndarray
    output: np.ndarray
    bias: np.ndarray


def make_weights(seed: int = 7) -> Weights:
    random = np.random.default_rng(seed)
    bias = np.zeros(len(VOCABULARY), dtype=np.float32)
    bias[0] = 1.5  # as in a trained model, the blank wins most frames
    return Weights(
        linear=random.normal(0, 2.5 / np.sqrt(UNITS), (UNITS, HIDDEN)).astype(np.float32),
        kernel=random.normal(0, 1.2, (HIDDEN, HIDDEN, KERNEL)).astype(np.float32),
        output=random.normal(0, 1.2, (HIDDEN, len(VOCABULARY))).astype(np.float32),
        bias=bias,
    )


def make_model(weights: Weights) -> bytes:
    """The graph, serialised."""
    constants = {
        "frame_shape": np.array([0, -1, UNITS]),
        "history_start": np.array([-(KERNEL - 1)]),
        "history_end": np.array([2**31]),
        "time_axis": np.array([2]),
        "middle_axis": np.array([1]),
        "one": np.array([1]),
        "linear": weights.linear,
        "kernel": weights.kernel,
        "output": weights.output,
        "bias": weights.bias,
    }
    node = helper.make_node
    nodes = [
        node("Reshape", ["pcm", "frame_shape"], ["framed"]),
        node("MatMul", ["framed", "linear"], ["projected"]),
        node("Tanh", ["projected"], ["squashed"]),
        node("Unsqueeze", ["gain", "middle_axis"], ["gain_over_time"]),
        node("Mul", ["squashed", "gain_over_time"], ["features"]),
        node("Transpose", ["features"], ["new"], perm=[0, 2, 1]),
        node("Concat", ["history", "new"], ["window"], axis=2),
        node("Slice", ["window", "history_start", "history_end", "time_axis"], ["next_history"]),
        node("Conv", ["window", "kernel"], ["mixed"]),
        node("Tanh", ["mixed"], ["bent"]),
        node("Transpose", ["bent"], ["by_time"], perm=[0, 2, 1]),
        node("MatMul", ["by_time", "output"], ["scores"]),
        node("Add", ["scores", "bias"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        node("Identity", ["gain"], ["next_gain"]),
        node("Add", ["count", "one"], ["next_count"]),
    ]
    value, real, whole = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            value("pcm", real, ["N", "samples"]),
            value("history", real, ["N", HIDDEN, KERNEL - 1]),
            value("gain", real, ["N", HIDDEN]),
            value("count", whole, ["N"]),
        ],
        [
            value("log_probs", real, ["N", "frames", len(VOCABULARY)]),
            value("next_history", real, ["N", HIDDEN, KERNEL - 1]),
            value("next_gain", real, ["N", HIDDEN]),
            value("next_count", whole, ["N"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_whole_model() -> bytes:
    """A graph that takes a recording whole: the mean over all of it goes into every frame, and no frame is padded.

    Windows of ``WINDOW`` samples, one every ``UNITS``: n samples give ``(n - WINDOW) // UNITS + 1`` frames.
    """
    random = np.random.default_rng(5)
    constants = {
        "middle_axis": np.array([1]),
        "last_axis": np.array([2]),
        "filters": random.normal(0, 2.5 / np.sqrt(WINDOW), (HIDDEN, 1, WINDOW)).astype(np.float32),
        "output": random.normal(0, 2.0, (HIDDEN, len(VOCABULARY))).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["pcm", "middle_axis"], ["channel"]),
        node("Conv", ["channel", "filters"], ["heard"], strides=[UNITS]),
        node("ReduceMean", ["heard", "last_axis"], ["mean"], keepdims=1),
        node("Sub", ["heard", "mean"], ["centred"]),
        node("Tanh", ["centred"], ["bent"]),
        node("Transpose", ["bent"], ["by_time"], perm=[0, 2, 1]),
        node("MatMul", ["by_time", "output"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    value, real = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "whole",
        [value("pcm", real, ["N", "samples"])],
        [value("log_probs", real, ["N", "frames", len(VOCABULARY)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


WHOLE = {
    "streaming": False,
    "states": [],
    "lookahead_frames": 0,
    "input": {"kind": "pcm", "name": "pcm", "units_per_frame": UNITS, "sample_rate": RATE, "min_units": 100},
}
"""Fields of ``bundle.json`` for the graph of ``make_whole_model``."""


def metadata_row(files: dict[str, str]) -> dict[str, Any]:
    return {
        "format_version": 4,
        "name": "tiny",
        "task": "speech",
        "input": {"kind": "pcm", "name": "pcm", "units_per_frame": UNITS, "sample_rate": RATE},
        "states": [
            {"name": "history", "shape": ["N", HIDDEN, KERNEL - 1], "dtype": "float32", "initial": 0.0},
            {"name": "gain", "shape": ["N", HIDDEN], "dtype": "float32", "initial": 0.5},
            {"name": "count", "shape": ["N"], "dtype": "int64", "initial": 0.0},
        ],
        "frame_shift_ms": 1000 * UNITS / RATE,
        "subsampling_factor": 1,
        "lookahead_frames": AHEAD,
        "chunk_frames": 4,
        "models": [{"precision": "float32", "file": "model.onnx"}],
        "default_precision": "float32",
        "parameters": 1000,
        "blank_id": 0,
        "files": files,
    }


def write_bundle(folder: Path, *, model: bytes | None = None, tokens: str | None = None, **changes: Any) -> Path:
    """Write a bundle whose hashes are right; ``changes`` go into ``bundle.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "model.onnx": make_model(make_weights()) if model is None else model,
        "tokens.txt": (VOCABULARY.dumps() if tokens is None else tokens).encode(),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    row = metadata_row({name: hashlib.sha256(data).hexdigest() for name, data in content.items()})
    row.update(changes)
    (folder / "bundle.json").write_text(json.dumps(row), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def weights() -> Weights:
    return make_weights()


@pytest.fixture(scope="session")
def bundle_writer() -> Any:
    return write_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def whole_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model takes whole recordings."""
    return write_bundle(tmp_path_factory.mktemp("whole"), model=make_whole_model(), **WHOLE)


@pytest.fixture(scope="session")
def recognizer(bundle_path: Path) -> Recognizer:
    return Recognizer.from_dir(bundle_path)


@pytest.fixture(scope="session")
def audio() -> np.ndarray:
    """1.3 s of noise whose loudness and colour change, so that the labels change too."""
    random = np.random.default_rng(3)
    noise = random.normal(0, 1, 10_437)
    slow = np.repeat(random.uniform(0.02, 0.3, 131), 80)[: len(noise)]
    return np.clip(noise * slow, -1, 1).astype(np.float32)


@pytest.fixture(scope="session")
def posteriors() -> Any:
    """Log-probabilities of random sharp posteriors: ``posteriors(seed, frames, classes, sharpness)``."""

    def make(seed: int, frames: int, classes: int, sharpness: float = 1.5) -> np.ndarray:
        scores = np.random.default_rng(seed).normal(0, sharpness, (frames, classes))
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        return scores.astype(np.float32)

    return make


@pytest.fixture(scope="session")
def ort_format(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Turn an ONNX file into onnxruntime's own format: ``ort_format(content) -> content``."""

    def convert(content: bytes) -> bytes:
        path = tmp_path_factory.mktemp("ort") / "model.ort"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()

    return convert


class TableLm:
    """A language model whose probabilities are drawn once and written down; nothing sums to 1, nothing needs to."""

    def __init__(self, words: tuple[str, ...], *, order: int = 2, unit: str = "word", seed: int = 0) -> None:
        self.words = ("<unk>", "<s>", "</s>", *words)
        self.order, self.unit, self.bos, self.eos = order, unit, 1, 2
        self._random = np.random.default_rng(seed).normal(-3.0, 1.5, (97, len(self.words)))

    def score(self, context: tuple[int, ...], word: int) -> float:
        row = 0
        for one in context[max(0, len(context) - self.order + 1) :]:
            row = (row * 31 + one + 1) % len(self._random)
        return float(self._random[row, word])

    def unigrams(self) -> np.ndarray:
        return self._random[0].astype(np.float32)


@pytest.fixture(scope="session")
def table_lm() -> type[TableLm]:
    return TableLm


@pytest.fixture(scope="session", params=["python", "native"])
def build_beam(request: pytest.FixtureRequest) -> Any:
    """The beam search of either core: ``build_beam(vocabulary, lm=, lexicon=, hotwords=, **options)``.

    Searches every frame unless ``blank_skip`` says otherwise.
    """

    def build(vocabulary: Vocabulary, *, lm: Any = None, lexicon: Any = None, hotwords: Any = None, **options: Any):
        wanted = DecoderOptions("beam", native=request.param == "native", **{"blank_skip": 1.0, **options})
        return build_decoder(wanted, vocabulary, lm=lm, lexicon=lexicon).with_hotwords(hotwords or {})

    if request.param == "native":
        try:
            build(VOCABULARY)
        except MissingDependencyError as error:
            pytest.skip(f"no compiled core here: {error}")
    return build
