"""Small real models for images and for sentences, built with onnx alone, and their bundles.

The reader of images: of every four columns the brightest pixel, and from it the label, darker to brighter, black being
the blank. The translator: every source token becomes two frames, a letter of its own and a blank.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kdcompress_runtime.source_text import SourceTable
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

HEIGHT, COLUMNS, UPSAMPLING = 8, 4, 2
VOCABULARY = Vocabulary.from_symbols(["▁", *"abcdef"])
STEP = 255 // (len(VOCABULARY) - 1)
TABLE = SourceTable(["<mask>", "<unk>", "▁", *"abcdef", "▁a", "▁b", "ab", "▁ab", "▁abc"])


def line(text: str, *, width: int = 8, height: int = HEIGHT, channels: int = 0) -> np.ndarray:
    """An image that the reader reads as ``text``: a bar for each letter, black between them."""
    levels = [STEP * VOCABULARY.symbols.index("▁" if letter == " " else letter) for letter in text]
    row = np.array([level for one in levels for level in (one, 0)], np.uint8).repeat(width)
    image = np.tile(row, (height, 1))
    return image if not channels else np.repeat(image[:, :, None], channels, axis=2)


def _model(nodes: list, constants: dict[str, np.ndarray], name: str, dtype: int, shape: list) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [value(name, dtype, shape)],
        [value("log_probs", TensorProto.FLOAT, [shape[0], "frames", len(VOCABULARY)])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def image_model(channels: int = 1, batch: int | str = "N") -> bytes:
    """Columns -> frames of ``COLUMNS`` columns, the last of them cut short."""
    constants = {
        "last_axis": np.array([2]),
        "middle_axis": np.array([1]),
        "levels": (STEP * np.arange(len(VOCABULARY)) / 100).astype(np.float32),
        "hundredth": np.array(0.01, np.float32),
        "sharpness": np.array(-20, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMax", ["pixels", "last_axis"], ["column"], keepdims=0),
        node("Unsqueeze", ["column", "middle_axis"], ["channel"]),
        node("MaxPool", ["channel"], ["pooled"], kernel_shape=[COLUMNS], strides=[COLUMNS], ceil_mode=1),
        node("Mul", ["pooled", "hundredth"], ["scaled"]),
        node("Transpose", ["scaled"], ["by_time"], perm=[0, 2, 1]),
        node("Sub", ["by_time", "levels"], ["distance"]),
        node("Mul", ["distance", "distance"], ["squared"]),
        node("Mul", ["squared", "sharpness"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    return _model(nodes, constants, "image", TensorProto.UINT8, [batch, "columns", HEIGHT * channels])


def text_model() -> bytes:
    """Source tokens -> letters; token ``i`` says symbol ``1 + i % 7``."""
    scores = np.zeros((len(TABLE), UPSAMPLING, len(VOCABULARY)), np.float32)
    said = 1 + np.arange(len(TABLE)) % (len(VOCABULARY) - 1)
    scores[np.arange(len(TABLE)), 0, said] = 4
    scores[np.arange(len(TABLE)), 0, 1 + said % (len(VOCABULARY) - 1)] = 2  # a rival for a beam
    scores[:, 1, 0] = 5
    constants = {"scores": scores.reshape(len(TABLE), -1), "shape": np.array([0, -1, len(VOCABULARY)])}
    node = helper.make_node
    nodes = [
        node("Gather", ["scores", "tokens"], ["rows"]),
        node("Reshape", ["rows", "shape"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
    ]
    return _model(nodes, constants, "tokens", TensorProto.INT64, ["N", "tokens"])


def _write(folder: Path, contents: dict[str, bytes], **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    row = {
        "format_version": 4,
        "states": [],
        "streaming": False,
        "subsampling_factor": 1,
        "lookahead_frames": 0,
        "chunk_frames": 1,
        "models": [{"precision": "float32", "file": "model.onnx"}],
        "default_precision": "float32",
        "parameters": 1000,
        "blank_id": 0,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
        **fields,
    }
    (folder / "bundle.json").write_text(json.dumps(row), encoding="utf-8")
    return folder


def image_bundle(folder: Path, *, channels: int = 1, model: bytes | None = None, **fields: Any) -> Path:
    """Write the bundle of the reader."""
    source = {"kind": "image", "name": "image", "units_per_frame": COLUMNS, "height": HEIGHT, "channels": channels}
    contents = {"model.onnx": model or image_model(channels), "tokens.txt": VOCABULARY.dumps().encode()}
    named = {"name": "lines", "task": "scene_text", "frame_shift_ms": 1000.0 * COLUMNS, "input": source}
    return _write(folder, contents, **{**named, **fields})


def text_bundle(folder: Path, *, table: str | None = None, **fields: Any) -> Path:
    """Write the bundle of the translator."""
    source = {"kind": "tokens", "name": "tokens", "units_per_frame": 1, "frames_per_unit": UPSAMPLING}
    contents = {
        "model.onnx": text_model(),
        "tokens.txt": VOCABULARY.dumps().encode(),
        "source_tokens.txt": (TABLE.dumps() if table is None else table).encode(),
    }
    named = {"name": "pairs", "task": "translation", "frame_shift_ms": 1000.0 / UPSAMPLING, "input": source}
    return _write(folder, contents, **{**named, **fields})
