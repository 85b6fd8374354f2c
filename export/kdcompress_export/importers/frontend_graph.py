"""The features of ``features.py`` as ONNX nodes that go in front of a foreign graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from kdcompress.frontend import folded_matrices
from kdcompress.kaldi import LOG_FLOOR, PREEMPHASIS
from kdcompress.teachers.features import DEVIATION_GUARD, INT16_SCALE, NEMO_GUARD, slaney_weights
from kdcompress_export.convert import OPSET
from kdcompress_export.graphs import FEATURE_NORM_MARK, FRONTEND_MARK

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from kdcompress.teachers.features import Recipe

IR_VERSION = 8
"""Of opset 18."""
_BACKWARDS = np.iinfo(np.int64).min


class Builder:
    """Collects nodes and constants; tensors in between get numbers as names."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def constant(self, value: NDArray[np.generic], name: str = "") -> str:
        """Add an initializer and return its name."""
        name = name or f"import_constant_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, *values: int) -> str:
        """Add a vector of integers (axes, starts, pads)."""
        return self.constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add a node and return the name of its output."""
        output = output or f"import_{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def slice(self, source: str, start: int, end: int, axis: int, step: int = 1) -> str:
        """Add a Slice along one axis."""
        ends = (self.integers(start), self.integers(end), self.integers(axis), self.integers(step))
        return self.op("Slice", source, *ends)


def log_mel(build: Builder, pcm: str, recipe: Recipe) -> str:
    """Add the frontend; return the name of the features ``(N, T, F)``.

    The weights carry ``FRONTEND_MARK``, and a node that subtracts zeros named with ``FEATURE_NORM_MARK`` stands where
    the features end, so that whoever quantizes knows what must stay float32.
    """
    features = _nemo(build, pcm, recipe) if recipe.kind == "nemo" else _kaldi(build, pcm, recipe)
    turned = build.op("Transpose", _normalized(build, features, recipe), perm=[0, 2, 1])
    zeros = np.zeros(recipe.mel.num_mel_bins, dtype=np.float32)
    return build.op("Sub", turned, build.constant(zeros, f"import{FEATURE_NORM_MARK}mean"))


def _kaldi(build: Builder, pcm: str, recipe: Recipe) -> str:
    spectrum, mel = folded_matrices(recipe.mel, recipe.window)
    if recipe.kind == "kaldi_int16":
        spectrum = spectrum * np.float32(INT16_SCALE)
    padded = pcm
    if not recipe.snip_edges:
        before = build.slice(pcm, recipe.before - 1, _BACKWARDS, 1, -1)
        after = build.slice(pcm, -1, -recipe.after - 1, 1, -1)
        parts = [before, pcm, after] if recipe.before else [pcm, after]
        padded = build.op("Concat", *parts, axis=1)
    floor = build.number(LOG_FLOOR)
    return build.op("Log", build.op("Max", _mel(build, padded, spectrum, mel, recipe), floor))


def _nemo(build: Builder, pcm: str, recipe: Recipe) -> str:
    first, later = build.slice(pcm, 0, 1, 1), build.slice(pcm, 1, np.iinfo(np.int64).max, 1)
    earlier = build.op("Mul", build.slice(pcm, 0, -1, 1), build.number(PREEMPHASIS))
    emphasized = build.op("Concat", first, build.op("Sub", later, earlier), axis=1)
    padded = build.op("Pad", emphasized, build.integers(0, recipe.before, 0, recipe.after))
    mel = slaney_weights(recipe.mel, recipe.fft_size)
    angle = 2 * np.pi * np.outer(np.arange(recipe.fft_size // 2 + 1), np.arange(recipe.window)) / recipe.fft_size
    waves = np.concatenate([np.cos(angle), -np.sin(angle)]) * np.hanning(recipe.window)
    found = _mel(build, padded, waves.astype(np.float32), mel.astype(np.float32), recipe)
    logarithm = build.op("Log", build.op("Add", found, build.number(NEMO_GUARD)))
    return build.slice(logarithm, 0, -1, 2)


def _mel(build: Builder, samples: str, spectrum: NDArray[np.float32], mel: NDArray[np.float32], recipe: Recipe) -> str:
    """Windows, DFT, power and filters of samples ``(N, n)``: ``(N, F, T)``."""
    bins = len(spectrum) // 2
    weight = build.constant(spectrum[:, None, :], f"import{FRONTEND_MARK}spectrum_weight")
    filters = build.constant(np.ascontiguousarray(mel[:, :, None]), f"import{FRONTEND_MARK}mel_weight")
    channel = build.op("Unsqueeze", samples, build.integers(1))
    waves = build.op("Conv", channel, weight, strides=[recipe.hop], kernel_shape=[spectrum.shape[1]])
    real, imaginary = build.slice(waves, 0, bins, 1), build.slice(waves, bins, 2 * bins, 1)
    squares = build.op("Mul", real, real), build.op("Mul", imaginary, imaginary)
    return build.op("Conv", build.op("Add", *squares), filters, kernel_shape=[1])


def _normalized(build: Builder, features: str, recipe: Recipe) -> str:
    """Zero mean and unit deviation of ``(N, F, T)`` over the time of a recording, or over time and features."""
    if recipe.normalize == "none":
        return features
    axes = [2] if recipe.normalize == "per_feature" else [1, 2]
    count = 1 if recipe.normalize == "per_feature" else recipe.mel.num_mel_bins
    axis = build.integers(*axes)
    centred = build.op("Sub", features, build.op("ReduceMean", features, axis, keepdims=1))
    total = build.op("ReduceSum", build.op("Mul", centred, centred), axis, keepdims=1)
    frames = build.op("Shape", features, start=2, end=3)
    items = build.op("Mul", build.op("Cast", frames, to=1), build.number(count))
    variance = build.op("Div", total, build.op("Sub", items, build.number(1.0)))
    return build.op("Div", centred, build.op("Add", build.op("Sqrt", variance), build.number(DEVIATION_GUARD)))


def frame_counts(build: Builder, tensor: str, axis: int, dtype: int, output: str) -> None:
    """Add ``output``: for each recording of ``tensor`` its length along ``axis``, shape ``(N,)``."""
    length = build.op("Shape", tensor, start=axis, end=axis + 1)
    batch = build.op("Shape", tensor, start=0, end=1)
    build.op("Cast", build.op("Expand", length, batch), output=output, to=dtype)


def frontend_model(recipe: Recipe) -> ModelProto:
    """Return the frontend alone as a model: ``pcm`` ``(N, n)`` to ``features`` ``(N, T, F)``."""
    build = Builder()
    build.op("Identity", log_mel(build, "pcm", recipe), output="features")
    source = helper.make_tensor_value_info("pcm", TensorProto.FLOAT, ["N", "samples"])
    target = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", "T", recipe.mel.num_mel_bins])
    graph = helper.make_graph(build.nodes, "frontend", [source], [target], build.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
