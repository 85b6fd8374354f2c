"""A bundle that really runs: its audio spells text, one frame a letter, and the graph reads it back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

from kdcompress_runtime.bundle import BundleMetadata, InputSpec, ModelFile, StateSpec, sha256
from kdcompress_runtime.vocabulary import Vocabulary

RATE = 8000
UNITS = 320
SYMBOLS = ("▁", "a", "b", "c", "d", "e")
VOCABULARY = Vocabulary.from_symbols(SYMBOLS)
CLASSES = len(VOCABULARY)


def spell(text: str) -> np.ndarray:
    """Samples whose frames hold the ids of ``text``, a blank frame after each."""
    ids = [VOCABULARY.symbols.index("▁" if c == " " else c) for c in text]
    frames = [level for i in ids for level in (i, 0)] or [0]
    return np.repeat(np.array(frames, dtype=np.float32) / (2 * CLASSES), UNITS)


def write_graph(path: Path, heard: dict[str, str], *, streaming: bool = True) -> None:
    """The graph: the level of a frame is its label; with one frame of look-ahead in a cache when it streams."""
    target = list(range(CLASSES))
    for said, instead in heard.items():
        target[VOCABULARY.symbols.index(said)] = VOCABULARY.symbols.index(instead)
    levels = np.arange(CLASSES, dtype=np.float32)
    swap = np.zeros((CLASSES, CLASSES), dtype=np.float32)
    swap[levels.astype(int), target] = 8.0
    constants = {
        "frame_shape": np.array([0, -1, UNITS], dtype=np.int64),
        "levels": levels.reshape(1, 1, CLASSES),
        "swap": swap,
        "scale": np.array(2 * CLASSES, dtype=np.float32),
        "half": np.array(0.5, dtype=np.float32),
        "start": np.array([-UNITS], dtype=np.int64),
        "stop": np.array([2**31], dtype=np.int64),
        "zero": np.array([0], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Concat", ["cache", "pcm"], ["all"], axis=1),
        helper.make_node("Slice", ["all", "zero", "start", "axis"], ["late"]),
        helper.make_node("Slice", ["all", "start", "stop", "axis"], ["next_cache"]),
        helper.make_node("Reshape", ["late", "frame_shape"], ["frames"]),
        helper.make_node("ReduceMean", ["frames", "last"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "scale"], ["level"]),
        helper.make_node("Sub", ["level", "levels"], ["distance"]),
        helper.make_node("Abs", ["distance"], ["far"]),
        helper.make_node("Less", ["far", "half"], ["near"]),
        helper.make_node("Cast", ["near"], ["one_hot"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["one_hot", "swap"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("pcm", TensorProto.FLOAT, ["N", "samples"])]
    outputs = [value("log_probs", TensorProto.FLOAT, ["N", "frames", CLASSES])]
    if streaming:
        inputs.append(value("cache", TensorProto.FLOAT, ["N", UNITS]))
        outputs.append(value("next_cache", TensorProto.FLOAT, ["N", UNITS]))
    else:
        nodes[:3] = [helper.make_node("Identity", ["pcm"], ["late"])]
    graph = helper.make_graph(
        nodes,
        "speller",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, str(path))


def write_bundle(
    folder: Path,
    name: str,
    heard: dict[str, dict[str, str]] | None = None,
    padding: int = 0,
    *,
    streaming: bool = True,
) -> Path:
    """A bundle folder; ``heard`` gives for each precision the letters it confuses."""
    folder.mkdir(parents=True)
    heard = heard or {"float32": {}}
    for precision, confused in heard.items():
        write_graph(folder / f"{precision}.onnx", confused, streaming=streaming)
    (folder / "tokens.txt").write_text(VOCABULARY.dumps(), encoding="utf-8")
    files = [f"{precision}.onnx" for precision in heard] + ["tokens.txt"]
    metadata = BundleMetadata(
        name=name,
        task="speech",
        input=InputSpec("pcm", "pcm", UNITS, RATE),
        states=(StateSpec("cache", ("N", UNITS)),) if streaming else (),
        frame_shift_ms=40.0,
        subsampling_factor=4,
        lookahead_frames=int(streaming),
        chunk_frames=4,
        models=tuple(ModelFile(precision, f"{precision}.onnx") for precision in heard),
        default_precision=next(iter(heard)),
        parameters=1234,
        blank_id=0,
        streaming=streaming,
        provenance={
            "recipe": "toy",
            "run": {"teachers": [{"name": "digits-big", "kind": "conventional"}]},
            "padding": "x" * padding,
        },
        files={file: sha256((folder / file).read_bytes()) for file in files},
    )
    (folder / "bundle.json").write_text(metadata.dumps(), encoding="utf-8")
    return folder


def write_manifest(folder: Path, name: str, items: list[tuple[str, str]], **fields: list[object]) -> Path:
    """Audio that spells the second text of each item, and a manifest whose reference is the first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (reference, spoken) in enumerate(items):
        file = f"{name}-{number}.wav"
        soundfile.write(folder / file, spell(spoken), RATE, subtype="PCM_16")
        extra = {key: values[number] for key, values in fields.items()}
        lines.append(json.dumps({"audio_filepath": file, "text": reference, "id": f"u{number}", **extra}))
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


ITEMS = [
    ("ab cd", "ab cd"),
    ("a b c", "a b d"),
    ("dad", "dad"),
    ("bad cab", "bad cab a"),
    ("ace", ""),
    ("", "a"),
    ("bee bed", "bee bed"),
    ("dead ace", "dead ace"),
]
"""Reference and what is spoken: a substitution, an insertion, a deletion, an empty reference."""


@pytest.fixture
def items() -> list[tuple[str, str]]:
    return ITEMS


@pytest.fixture
def make_bundle() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture
def make_manifest() -> Callable[..., Path]:
    return write_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "good", "good")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "data", "test", ITEMS)
