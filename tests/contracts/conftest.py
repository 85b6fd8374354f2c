"""A small real bundle made by hand, for the tests of documents and of the wheel; a run; benchmarks as modules."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcompress.cli import main
from kdcompress_runtime.bundle import BundleMetadata, InputSpec, ModelFile, StateSpec, sha256
from kdcompress_runtime.vocabulary import Vocabulary

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RATE = 8000
TONES = {"a": 400.0, "b": 900.0, "c": 1800.0, " ": 0.0}
TEXTS = ("ab", "ba c", "ca", "bab", "c ab", "a", "cac", "abc", "b a", "acb", "cab ca", "bcb")
UNIT, LAG, TOKENS = 4, 3, ("a", "b", "▁")


def graph() -> bytes:
    """Frames of four samples, delayed by three; the mean of a frame, rounded, is its best token."""
    weight = np.zeros((UNIT, len(TOKENS) + 1), np.float32)
    weight[:] = np.arange(len(TOKENS) + 1) / UNIT * 2
    bias = -(np.arange(len(TOKENS) + 1, dtype=np.float32) ** 2)
    nodes = [
        helper.make_node("Reshape", ["pcm", "shape"], ["frames"]),
        helper.make_node("Concat", ["cache", "frames"], ["all"], axis=1),
        helper.make_node("Slice", ["all", "zero", "minus_lag", "one"], ["delayed"]),
        helper.make_node("Slice", ["all", "minus_lag", "end", "one"], ["next_cache"]),
        helper.make_node("MatMul", ["delayed", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_probs"], axis=-1),
    ]
    constants = {
        "shape": np.array([0, -1, UNIT]),
        "zero": np.array([0]),
        "minus_lag": np.array([-LAG]),
        "end": np.array([1 << 40]),
        "one": np.array([1]),
        "weight": weight,
        "bias": bias,
    }
    floats = TensorProto.FLOAT
    model = helper.make_graph(
        nodes,
        "delay",
        [
            helper.make_tensor_value_info("pcm", floats, ["N", "samples"]),
            helper.make_tensor_value_info("cache", floats, ["N", LAG, UNIT]),
        ],
        [
            helper.make_tensor_value_info("log_probs", floats, ["N", "k", len(TOKENS) + 1]),
            helper.make_tensor_value_info("next_cache", floats, ["N", LAG, UNIT]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


@pytest.fixture
def toy_bundle(tmp_path):
    """A bundle whose model reads one token off each frame, three frames late."""
    content, tokens = graph(), Vocabulary.from_symbols(TOKENS).dumps()
    onnx.checker.check_model(onnx.load_model_from_string(content))
    metadata = BundleMetadata(
        name="toy",
        task="speech",
        input=InputSpec("pcm", "pcm", UNIT, 8000),
        states=(StateSpec("cache", ("N", LAG, UNIT)),),
        frame_shift_ms=0.5,
        subsampling_factor=1,
        lookahead_frames=LAG,
        chunk_frames=5,
        models=(ModelFile("float32", "model.onnx"),),
        default_precision="float32",
        parameters=0,
        blank_id=0,
        files={"model.onnx": sha256(content), "tokens.txt": sha256(tokens.encode())},
    )
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "tokens.txt").write_text(tokens, encoding="utf-8")
    (tmp_path / "bundle.json").write_text(metadata.dumps(), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def benchmark_script():
    """``benchmark_script("bench_distill")``: a script of ``benchmarks/`` as a module, with those beside it at hand."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))
    for file in BENCHMARKS.glob("*.py"):
        sys.modules.pop(file.stem, None)


def speak(text: str, seed: int) -> np.ndarray:
    """One tone of about 0.2 s a letter over a little noise."""
    rng = np.random.default_rng(seed)
    pieces = [np.zeros(400)]
    for letter in text:
        moments = np.arange(int(rng.integers(1400, 1900))) / RATE
        pieces += [0.4 * np.sin(2 * np.pi * TONES[letter] * moments), np.zeros(300)]
    clean = np.concatenate(pieces)
    return (clean + 0.01 * rng.standard_normal(len(clean))).astype(np.float32)


@pytest.fixture(scope="session")
def speaker():
    """``speaker(text, seed)``: samples of a text; see ``speak``."""
    return speak


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Audio, ``train.jsonl``, ``dev.jsonl`` and recipes: ``student``, ``taught``, ``teacher`` (an oracle), ``twin``."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("cli")
    for split, texts in (("train", TEXTS), ("dev", TEXTS[:3])):
        lines = []
        for index, text in enumerate(texts):
            soundfile.write(path / f"{split}{index}.wav", speak(text, index + 50 * (split == "dev")), RATE)
            lines.append(json.dumps({"audio_filepath": f"{split}{index}.wav", "text": text}) + "\n")
        (path / f"{split}.jsonl").write_text("".join(lines))
    recipe = {
        "schema": 1,
        "name": "tiny",
        "data": {split: str(path / f"{split}.jsonl") for split in ("train", "dev")},
        "frontend": {"sample_rate": RATE, "num_mel_bins": 24},
        "model": {"kind": "separable_conv", "width": 16, "depth": 2, "kernel": 7, "lookahead_frames": 4},
        "train": {"steps": 2, "batch_size": 6, "learning_rate": 0.02, "log_every": 1},
    }
    (path / "student.yaml").write_text(json.dumps(recipe))
    losses = [{"kind": "ctc", "weight": 0.5}, {"kind": "frame_kl", "weight": 0.5}]
    (path / "taught.yaml").write_text(json.dumps({**recipe, "losses": losses}))
    oracle = {"kind": "oracle", "heads": 2, "fusion_depth": 1, "encoder": {"width": 8, "depth": 2, "kernel": 5}}
    (path / "teacher.yaml").write_text(json.dumps({**recipe, "model": oracle}))
    twin = {"kind": "conventional", "encoder": {"width": 8, "depth": 2, "kernel": 5}}
    (path / "twin.yaml").write_text(json.dumps({**recipe, "model": twin}))
    return path


@pytest.fixture(scope="module")
def run(folder):
    """A student that knows its three tones, trained by the command."""
    command = ["train", str(folder / "student.yaml"), "-o", str(folder / "run"), "--set", "train.steps=240"]
    assert main(command) == 0
    return folder / "run"
