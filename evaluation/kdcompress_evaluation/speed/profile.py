"""What onnxruntime's own profile says of a graph: multiply-accumulates, bytes of weights, the frontend's share.

Counting wants other settings than timing: weights that onnxruntime packs at load are no longer listed with their
shapes, and convolutions in blocked layouts have padded ones. So shapes are read from one step with packing and
layouts off, node times from steps as they are always run, and the time of a step without any profile.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_evaluation.speed.record import GraphProfile
from kdcompress_runtime.model import CtcModel, SessionOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import Bundle

FRONTEND = "frontend/"
"""In the names that export gives to nodes of the frontend."""
_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger"}
_PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "QLinearMatMul", "QGemm", "MatMulNBits"}
_PRODUCTS |= {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
_INTEGER = {"QLinearConv", "ConvInteger", "QLinearMatMul", "QGemm", "MatMulNBits"}
_INTEGER |= {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
_UNCOUNTED = {"Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention", "Einsum", "ConvTranspose"}
_UNCOUNTED |= {"LSTM", "DynamicQuantizeLSTM", "GRU", "RNN"}
_COUNTING = SessionOptions(graph_optimization="extended", config={"session.disable_prepacking": "1"})
_STEPS = 30
_WARM = 3
_LEAST_AXES = 3
"""Of a convolution's weight."""


@dataclass(frozen=True)
class Node:
    """One execution of one node."""

    name: str
    """As in the graph that onnxruntime made of the file's."""
    operator: str
    """Type."""
    micros: float
    """Time."""
    inputs: tuple[tuple[int, ...], ...]
    """Shapes, constants that were packed at load left out."""
    output: tuple[int, ...]
    """Shape of the first output."""
    constants: int
    """Bytes of constants that it reads."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates; 0 for whatever is no product."""
        if self.operator in _CONVOLUTIONS:
            weight = next((shape for shape in self.inputs[1:] if len(shape) >= _LEAST_AXES), ())
            return math.prod(self.output) * math.prod(weight[1:]) if weight else 0.0
        if self.operator in _PRODUCTS and self.inputs and self.inputs[0]:
            left = self.inputs[0]
            transposed = len(left) > 1 and len(self.output) > 1 and left[-2] != self.output[-2] == left[-1]
            return float(math.prod(self.output) * (left[-2] if transposed else left[-1]))
        return 0.0


def profile_model(bundle: Bundle, precision: str, samples: NDArray[Any]) -> GraphProfile:
    """Profile one step of a bundle's graph.

    Args:
        bundle: whose input is audio.
        precision: which of its models.
        samples: at the model's rate; a chunk of it where the model streams, else all of it.

    Raises:
        KdcompressError: the model cannot be loaded.
    """
    metadata = bundle.metadata
    model = CtcModel.from_bundle(bundle, precision)
    if metadata.streaming:
        samples = samples[: metadata.chunk_frames * metadata.input.units_per_frame]
    feed = {metadata.input.name: samples[None].astype("float32"), **model.init_states()}
    content = bundle.read(metadata.model_file(precision).file)
    counted = run_profiled(content, feed, _COUNTING.build(streaming=metadata.streaming), steps=1)
    usual = SessionOptions()
    timed = run_profiled(content, feed, usual.build(streaming=metadata.streaming), steps=_WARM + _STEPS)
    timed = timed[len(timed) * _WARM // (_WARM + _STEPS) :]
    seconds = _step_seconds(content, feed, usual.build(streaming=metadata.streaming))
    overhead = (sum(node.micros for node in timed) - 1e6 * seconds * _STEPS) / max(len(timed), 1)
    return GraphProfile(
        audio_seconds=len(samples) / (metadata.input.sample_rate or 1),
        float_macs=sum(node.macs for node in counted if node.operator not in _INTEGER),
        int8_macs=sum(node.macs for node in counted if node.operator in _INTEGER),
        weight_bytes=sum(node.constants for node in counted),
        seconds=seconds,
        frontend_share=frontend_share(timed, max(overhead, 0.0)),
        uncounted=tuple(sorted({node.operator for node in counted if node.operator in _UNCOUNTED})),
    )


def frontend_share(nodes: Sequence[Node], overhead: float) -> float | None:
    """Part of the time that nodes of the frontend take.

    Args:
        nodes: of any number of steps.
        overhead: microseconds to take off each: what the profiler itself needs to write a node down counts as the
            node's, and would make a frontend of many small nodes look slow.

    Returns:
        ``None``: no node is named as the frontend's.
    """
    times = [(max(node.micros - overhead, 0.0), FRONTEND in node.name) for node in nodes]
    if not any(marked for _, marked in times):
        return None
    return sum(micros for micros, marked in times if marked) / max(sum(micros for micros, _ in times), 1e-9)


def run_profiled(content: bytes, feed: Mapping[str, NDArray[Any]], options: Any, steps: int) -> list[Node]:  # noqa: ANN401
    """Run a graph under onnxruntime's profiler.

    Args:
        content: ONNX.
        feed: inputs by name, the same at every step.
        options: of onnxruntime; profiling is switched on in them.
        steps: how often.

    Returns:
        Every execution of every node, in order.
    """
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(steps):
            session.run(None, dict(feed))
        written = Path(session.end_profiling())
        events = json.loads(written.read_text(encoding="utf-8"))
    return read_events(events)


def read_events(events: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Pick the nodes out of the events of a profile."""
    found = []
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        arguments = event.get("args", {})
        inputs, outputs = (_shapes(arguments.get(f"{side}_type_shape", ())) for side in ("input", "output"))
        found.append(
            Node(
                name=name.removesuffix("_kernel_time"),
                operator=str(arguments.get("op_name", "")),
                micros=float(event.get("dur", 0)),
                inputs=inputs,
                output=outputs[0] if outputs else (),
                constants=int(arguments.get("parameter_size", 0)),
            )
        )
    return found


def _shapes(typed: Iterable[Mapping[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    """``[{"float": [1, 8]}, ...]`` without the types."""
    return tuple(tuple(int(size) for size in shape) for one in typed for shape in one.values())


def _step_seconds(content: bytes, feed: Mapping[str, NDArray[Any]], options: Any) -> float:  # noqa: ANN401
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    taken = []
    for _ in range(_WARM + _STEPS):
        begin = perf_counter()
        session.run(None, dict(feed))
        taken.append(perf_counter() - begin)
    return statistics.median(taken[_WARM:])
