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

import numpy as np
import onnxruntime

from kdcompress_evaluation.speed.record import GraphProfile
from kdcompress_runtime.input_kinds import KINDS
from kdcompress_runtime.inputs import intake_of
from kdcompress_runtime.model import CtcModel, SessionOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.inputs import Value
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
_STEPS = 60
_BLOCK = 10
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


def profile_model(bundle: Bundle, precision: str, value: Value) -> GraphProfile:
    """Profile one step of a bundle's graph.

    Args:
        bundle: of any input.
        precision: which of its models.
        value: an input as the bundle is fed; a chunk of it where the model streams, else all of it.

    Raises:
        KdcompressError: the model cannot be loaded.
    """
    metadata = bundle.metadata
    model = CtcModel.from_bundle(bundle, precision)
    units, amount = _units(model, value)
    feed = {metadata.input.name: units[None], **model.init_states()}
    content = bundle.read(metadata.model_file(precision).file)
    counted = run_profiled(content, feed, _COUNTING.build(streaming=metadata.streaming), steps=1)[0]
    steps, seconds = _time_steps(content, feed, streaming=metadata.streaming)
    return GraphProfile(
        audio_seconds=amount,
        float_macs=sum(node.macs for node in counted if node.operator not in _INTEGER),
        int8_macs=sum(node.macs for node in counted if node.operator in _INTEGER),
        weight_bytes=sum(node.constants for node in counted),
        seconds=seconds,
        frontend_share=frontend_share(steps, seconds),
        uncounted=tuple(sorted({node.operator for node in counted if node.operator in _UNCOUNTED})),
    )


def _units(model: CtcModel, value: Value) -> tuple[NDArray[Any], float]:
    """What the graph takes of an input in one step, without the batch axis; and how much of it that is."""
    metadata = model.metadata
    if not KINDS[metadata.input.kind].streams:
        return intake_of(model).take(value).units, 1.0
    piece = metadata.chunk_frames * metadata.input.units_per_frame
    samples = value[:piece] if metadata.streaming else value
    return samples.astype("float32"), len(samples) / (metadata.input.sample_rate or 1)


def frontend_share(steps: Sequence[Sequence[Node]], seconds: float) -> float | None:
    """Part of the time of a step that nodes of the frontend take.

    What the profiler needs to write a node down counts as the node's, a few microseconds, and would make a frontend
    of many small nodes look slow. So the time by which all nodes together exceed the step is taken off them, the same
    for each, but never more than the shortest node has.

    Args:
        steps: nodes of several steps, the same ones in each.
        seconds: median time of a step without the profiler.

    Returns:
        ``None``: no node is named as the frontend's.
    """
    marked = np.array([FRONTEND in node.name for node in steps[0]])
    if not marked.any():
        return None
    micros = np.median([[node.micros for node in nodes] for nodes in steps], axis=0)
    excess = float(np.clip((micros.sum() - 1e6 * seconds) / len(micros), 0.0, micros.min()))
    own = micros - excess
    return float(own[marked].sum() / own.sum()) if own.sum() > 0 else None


def run_profiled(
    content: bytes,
    feed: Mapping[str, NDArray[Any]],
    options: Any,  # noqa: ANN401 - onnxruntime has no types
    steps: int,
    between: Callable[[int], object] = lambda _: None,
) -> list[list[Node]]:
    """Run a graph under onnxruntime's profiler.

    Args:
        content: ONNX.
        feed: inputs by name, the same at every step.
        options: of onnxruntime; profiling is switched on in them.
        steps: how often.
        between: called before each step with its number.

    Returns:
        The nodes of each step, in the order in which they ran.
    """
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for number in range(steps):
            between(number)
            session.run(None, dict(feed))
        written = Path(session.end_profiling())
        nodes = read_events(json.loads(written.read_text(encoding="utf-8")))
    each = len(nodes) // steps
    return [nodes[step * each : (step + 1) * each] for step in range(steps)]


def _time_steps(content: bytes, feed: Mapping[str, NDArray[Any]], *, streaming: bool) -> tuple[list[list[Node]], float]:
    """Nodes of steps under the profiler, and the median seconds of steps without it.

    Blocks of both take turns, so that both see the same machine; single steps would push each other's weights out of
    the caches.
    """
    options = SessionOptions()
    plain = onnxruntime.InferenceSession(
        content, options.build(streaming=streaming), providers=["CPUExecutionProvider"]
    )
    taken: list[float] = []

    def block(number: int) -> None:
        for _ in range(_BLOCK if number % _BLOCK == 0 else 0):
            begin = perf_counter()
            plain.run(None, dict(feed))
            taken.append(perf_counter() - begin)

    steps = run_profiled(content, feed, options.build(streaming=streaming), _STEPS, block)
    return steps, statistics.median(taken)


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
