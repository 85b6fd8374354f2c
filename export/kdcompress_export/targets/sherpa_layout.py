"""What sherpa-onnx derives from the metadata of a streaming ``zipformer2_ctc``, and our states laid out in it.

sherpa-onnx makes the first states itself, all zeros, from numbers in the file's metadata. A missing number ends its
process. Our states travel as one vector in ``cached_key`` of a single layer; every other tensor is as small as
sherpa-onnx can make it, and comes back as it went in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_export.errors import TargetError
from kdcompress_runtime.bundle import BATCH_AXIS, StateSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUBSAMPLING = 4
"""Features a frame; a constant of sherpa-onnx."""
LATE_FEATURES = 1
"""Features by which our frontend is later than Kaldi, at 25/10 ms."""
FRAMES_FED, DECODE_CHUNK = "T", "decode_chunk_len"
"""Features given in a call, and features by which a call advances."""
LISTS = (
    "encoder_dims",
    "query_head_dims",
    "value_head_dims",
    "num_heads",
    "num_encoder_layers",
    "cnn_module_kernels",
    "left_context_len",
)
"""Metadata with one integer for each stack of layers."""
REQUIRED = (*LISTS, FRAMES_FED, DECODE_CHUNK)
CARRIER = "cached_key_0"
"""The state in which ours travel."""
PROCESSED = "processed_lens"
"""The last state: features by which a stream has advanced, int64."""
LATE_CACHE = "late_features_cache"
_EMBED_STATES = (128, 3, 19)  # a constant of sherpa-onnx
_LARGEST = 2**24  # integers beyond it are not exact in float32

TensorSpec = tuple[str, tuple[int | str, ...], str]
"""Name, shape with ``"N"`` where the batch stands, numpy dtype."""


@dataclass(frozen=True)
class Layout:
    """A streaming graph's geometry."""

    chunk_frames: int
    """Frames that a call answers."""
    lookahead_frames: int
    """Frames beyond them that it must hear."""
    feature_dim: int
    """Mel bins."""
    carried: tuple[StateSpec, ...]
    """Our states, in the order of the vector."""

    @property
    def metadata(self) -> dict[str, int]:
        """Metadata that sherpa-onnx reads; the lists have one stack."""
        chunk, ahead = SUBSAMPLING * self.chunk_frames, SUBSAMPLING * self.lookahead_frames
        # What is late is not needed yet: the last features of the look-ahead need not be waited for.
        fed = chunk + ahead - LATE_FEATURES if ahead else chunk
        stack = dict.fromkeys(LISTS, 1)
        stack["encoder_dims"] = 2  # 3 * 2 // 4 is the least size above zero of cached_nonlin_attn
        stack["cnn_module_kernels"] = 2
        stack["query_head_dims"] = max(1, sum(size_of(state) for state in self.carried))
        return {**stack, FRAMES_FED: fed, DECODE_CHUNK: chunk}

    @property
    def properties(self) -> dict[str, str]:
        """The same as text."""
        return {name: str(value) for name, value in self.metadata.items()}


def lay_out(states: Sequence[StateSpec], *, chunk_frames: int, lookahead_frames: int, feature_dim: int) -> Layout:
    """Lay out the encoder's states; without look-ahead, the feature that the next call needs travels with them.

    Raises:
        TargetError: a state that float32 cannot carry.
    """
    for state in states:
        if state.dtype == "float64" or abs(state.initial) > _LARGEST:
            raise TargetError(
                f"state {state.name} ({state.dtype}, beginning at {state.initial}) does not fit into the float32 "
                "states of sherpa-onnx"
            )
    carried = [state for state in states if size_of(state)]
    if not lookahead_frames:
        carried.append(StateSpec(LATE_CACHE, (BATCH_AXIS, LATE_FEATURES, feature_dim)))
    return Layout(chunk_frames, lookahead_frames, feature_dim, tuple(carried))


def size_of(state: StateSpec) -> int:
    """Numbers in a state of one stream."""
    return math.prod(int(size) for size in state.shape if size != BATCH_AXIS)


def state_tensors(metadata: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    """Return the states that sherpa-onnx makes from a file's metadata, in the order in which it gives them.

    Raises:
        TargetError: a field is missing or is no list of integers above zero; sherpa-onnx would end the process.
    """
    lists = {name: _integers(metadata, name) for name in LISTS}
    for name in (FRAMES_FED, DECODE_CHUNK):
        _integers(metadata, name)
    stacks = {len(values) for values in lists.values()}
    if len(stacks) != 1:
        raise TargetError(f"the lists in the metadata differ in length: {lists}")
    tensors: list[TensorSpec] = []
    for stack in range(stacks.pop()):
        width, key, value, heads, layers, kernel, left = (lists[name][stack] for name in LISTS)
        for _ in range(layers):
            index = len(tensors) // 6
            convolution = (BATCH_AXIS, width, kernel // 2)
            shapes: dict[str, tuple[int | str, ...]] = {
                "key": (left, BATCH_AXIS, key * heads),
                "nonlin_attn": (1, BATCH_AXIS, left, 3 * width // 4),
                "val1": (left, BATCH_AXIS, value * heads),
                "val2": (left, BATCH_AXIS, value * heads),
                "conv1": convolution,
                "conv2": convolution,
            }
            tensors += [(f"cached_{name}_{index}", shape, "float32") for name, shape in shapes.items()]
    embed: TensorSpec = ("embed_states", (BATCH_AXIS, *_EMBED_STATES), "float32")
    return (*tensors, embed, (PROCESSED, (BATCH_AXIS,), "int64"))


def _integers(metadata: Mapping[str, str], name: str) -> list[int]:
    text = metadata.get(name, "")
    parts = text.split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise TargetError(f"metadata {name} must be integers above zero, found {text or 'nothing'!r}")
    return [int(part) for part in parts]
