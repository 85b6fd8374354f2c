"""Runs the two graphs as sherpa-onnx does: same states, same batches, same steps. numpy and onnxruntime alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_export.errors import TargetError
from kdcompress_export.targets.sherpa_layout import DECODE_CHUNK, FRAMES_FED, TensorSpec, state_tensors
from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Features = NDArray[np.float32]

BATCH_PADDING = -23.025850929940457
"""What sherpa-onnx puts behind the shorter items of a batch."""
_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}


class OfflineGraph:
    """A loaded ``zipformer_ctc``."""

    def __init__(self, content: bytes) -> None:
        """Load it; ``num_tokens`` is read from the graph, as sherpa-onnx does.

        Raises:
            TargetError: inputs or outputs are not what sherpa-onnx feeds and reads.
        """
        self._session = _load(content)
        inputs: list[TensorSpec] = [("x", (BATCH_AXIS, "T", "F"), "float32"), ("x_lens", (BATCH_AXIS,), "int64")]
        outputs: list[TensorSpec] = [
            ("log_probs", (BATCH_AXIS, "frames", "V"), "float32"),
            ("log_probs_len", (BATCH_AXIS,), "int64"),
        ]
        _check(self._session, inputs, outputs)
        self.num_tokens = _fixed(self._session.get_outputs()[0], 2)
        self.feature_dim = _fixed(self._session.get_inputs()[0], 2)

    def log_probs(self, batch: Sequence[Features]) -> list[NDArray[np.float32]]:
        """Log-probabilities ``(T', V)`` of each item ``(T, F)``, computed as one batch."""
        room = np.full((len(batch), max(len(x) for x in batch), self.feature_dim), BATCH_PADDING, dtype=np.float32)
        for row, x in zip(room, batch, strict=True):
            row[: len(x)] = x
        lengths = np.array([len(x) for x in batch], dtype=np.int64)
        found, counts = self._session.run(None, {"x": room, "x_lens": lengths})
        return [one[:count] for one, count in zip(found, counts, strict=True)]


class StreamingGraph:
    """A loaded ``zipformer2_ctc``."""

    def __init__(self, content: bytes) -> None:
        """Load it and check its metadata, before sherpa-onnx would end the process over it.

        Raises:
            TargetError: metadata is missing, or inputs and outputs are not what sherpa-onnx makes of it.
        """
        self._session = _load(content)
        properties = self._session.get_modelmeta().custom_metadata_map
        self._states = state_tensors(properties)
        self.frames_fed, self.frames_advanced = int(properties[FRAMES_FED]), int(properties[DECODE_CHUNK])
        outputs = [(f"new_{name}", shape, dtype) for name, shape, dtype in self._states]
        _check(
            self._session,
            [("x", (BATCH_AXIS, self.frames_fed, "F"), "float32"), *self._states],
            [("log_probs", (BATCH_AXIS, self.frames_advanced // 4, "V"), "float32"), *outputs],
        )
        self.num_tokens = _fixed(self._session.get_outputs()[0], 2)
        self.feature_dim = _fixed(self._session.get_inputs()[0], 2)

    def init_states(self) -> list[NDArray[Any]]:
        """States of a new stream: zeros, all of them."""
        return [np.zeros([1 if s == BATCH_AXIS else int(s) for s in shape], t) for _, shape, t in self._states]

    def step(
        self, x: Sequence[Features], states: Sequence[Sequence[NDArray[Any]]]
    ) -> tuple[list[NDArray[np.float32]], list[list[NDArray[Any]]]]:
        """Advance streams, in one batch, by ``frames_advanced``; each ``x`` is ``(frames_fed, F)``."""
        axes = [shape.index(BATCH_AXIS) for _, shape, _ in self._states]
        stacked = [np.concatenate(one, axis=axis) for one, axis in zip(zip(*states, strict=True), axes, strict=True)]
        feed = dict(zip((name for name, _, _ in self._states), stacked, strict=True))
        log_probs, *following = self._session.run(None, {"x": np.stack(x), **feed})
        split = [np.split(one, len(x), axis=axis) for one, axis in zip(following, axes, strict=True)]
        return list(log_probs), [list(one) for one in zip(*split, strict=True)]

    def log_probs(self, batch: Sequence[Features], silence: float) -> list[NDArray[np.float32]]:
        """Log-probabilities ``(ceil(T / 4), V)`` of each item ``(T, F)``, streamed side by side.

        Every item is followed by as much silence (features of that value) as its last frames need. The items begin
        one call after the other, so that a batch holds streams of every age.
        """
        frames = [-(-len(x) // 4) for x in batch]
        calls = [-(-count * 4 // self.frames_advanced) for count in frames]
        rooms = []
        for x, count in zip(batch, calls, strict=True):
            room = np.full(
                ((count - 1) * self.frames_advanced + self.frames_fed, self.feature_dim), silence, np.float32
            )
            room[: len(x)] = x[: len(room)]
            rooms.append(room)
        states = [self.init_states() for _ in batch]
        found: list[list[NDArray[np.float32]]] = [[] for _ in batch]
        for now in range(max(index + count for index, count in enumerate(calls))):
            live = [index for index, count in enumerate(calls) if index <= now < index + count]
            starts = [(now - index) * self.frames_advanced for index in live]
            pieces = [rooms[i][start : start + self.frames_fed] for i, start in zip(live, starts, strict=True)]
            log_probs, following = self.step(pieces, [states[index] for index in live])
            for index, one, new in zip(live, log_probs, following, strict=True):
                found[index].append(one)
                states[index] = new
        return [np.concatenate(one)[:count] for one, count in zip(found, frames, strict=True)]


def _load(content: bytes) -> Any:  # noqa: ANN401 - onnxruntime has no types
    try:
        return onnxruntime.InferenceSession(content, SessionOptions().build(), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise TargetError(f"onnxruntime cannot load the graph ({str(error).partition(chr(10))[0]})") from error


def _check(session: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:  # noqa: ANN401
    """Compare order, dtypes and fixed sizes; sherpa-onnx goes by order, names are for people."""
    problems = [*_differences(session.get_inputs(), inputs), *_differences(session.get_outputs(), outputs)]
    if problems:
        raise TargetError(f"the graph is not one that sherpa-onnx can run: {'; '.join(problems)}")


def _differences(found: Sequence[Any], wanted: Sequence[TensorSpec]) -> list[str]:
    if len(found) != len(wanted):
        return [f"{len(found)} tensors where {len(wanted)} are expected"]
    problems = []
    for value, (name, shape, dtype) in zip(found, wanted, strict=True):
        fits = len(value.shape) == len(shape) and all(
            isinstance(want, str) or have == want for have, want in zip(value.shape, shape, strict=True)
        )
        if value.name != name or value.type != _TYPES[dtype] or not fits:
            problems.append(f"{value.name} is {value.type} {value.shape}, expected is {name} {dtype} {list(shape)}")
        elif isinstance(value.shape[shape.index(BATCH_AXIS)], int):
            problems.append(f"{name} has a fixed batch")
    return problems


def _fixed(value: Any, axis: int) -> int:  # noqa: ANN401
    size = value.shape[axis]
    if not isinstance(size, int):
        raise TargetError(f"{value.name} has no fixed size on axis {axis}; sherpa-onnx reads it from there")
    return size
