"""Bundle graph -> the two graphs that sherpa-onnx runs, by surgery: no torch, the same weights, the same operators.

The graph is cut behind its frontend. What is left, the encoder E, maps features and states to log-probabilities and
next states. Our frontend gives Kaldi's features ``LATE_FEATURES`` later than Kaldi does, and E answers
``lookahead_frames`` late; around E stands what undoes both, so that the times of sherpa-onnx are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from kdcompress_export.targets.onnx_writer import Writer
from kdcompress_export.targets.sherpa_encoder import ancestors, apply_encoder, model_like, next_states
from kdcompress_export.targets.sherpa_features import LOG_FLOOR, TAIL_OF_WINDOW
from kdcompress_export.targets.sherpa_layout import (
    CARRIER,
    DECODE_CHUNK,
    FRAMES_FED,
    LATE_CACHE,
    LATE_FEATURES,
    PROCESSED,
    SUBSAMPLING,
    size_of,
    state_tensors,
)
from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.model import LOG_PROBS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto, ValueInfoProto

    from kdcompress_export.targets.sherpa_encoder import Encoder
    from kdcompress_export.targets.sherpa_layout import Layout
    from kdcompress_runtime.bundle import BundleMetadata, StateSpec


def offline_graph(encoder: Encoder, metadata: BundleMetadata, num_tokens: int) -> ModelProto:
    """Build ``zipformer_ctc``: ``x (N, T, F), x_lens (N)`` to ``log_probs (N, T', V), log_probs_len (N)``.

    Every item is treated as our runtime treats a recording: silence behind it, ``ceil(T / 4)`` frames come out.
    """
    writer, bins = Writer(), int(metadata.frontend["num_mel_bins"])
    ahead = metadata.lookahead_frames
    floor = writer.constant(np.float32(LOG_FLOOR))
    count, length = writer.size("x", 0), writer.size("x", 1)
    positions = writer.op("Range", writer.constant(0), writer.op("Squeeze", length), writer.constant(1))
    inside = writer.op("Less", writer.reshape(positions, [1, -1, 1]), writer.reshape("x_lens", [-1, 1, 1]))
    heard = writer.op("Where", inside, "x", floor)
    room = writer.op("Concat", count, writer.constant([SUBSAMPLING * (ahead + 1), bins]), axis=0)
    silence = writer.op("Expand", floor, room)
    whole = writer.op("Concat", _before(writer, heard), heard, silence, axis=1)
    frames = writer.op("Add", _frames(writer, length), writer.constant([ahead]))
    fed = writer.slice(whole, 0, writer.op("Mul", frames, writer.constant([SUBSAMPLING])))
    states = {state.name: _initial(writer, state, count) for state in encoder.states}
    (log_probs,) = apply_encoder(writer, encoder, fed, states, [LOG_PROBS])
    writer.slice(log_probs, ahead, 2**31 - 1, output=LOG_PROBS)
    writer.op("Identity", _frames(writer, "x_lens"), output="log_probs_len")
    inputs = [_tensor("x", [BATCH_AXIS, "T", bins]), _tensor("x_lens", [BATCH_AXIS], TensorProto.INT64)]
    outputs = [
        _tensor(LOG_PROBS, [BATCH_AXIS, "frames", num_tokens]),
        _tensor("log_probs_len", [BATCH_AXIS], TensorProto.INT64),
    ]
    return _finish(encoder, writer, "offline", inputs, outputs)


def streaming_graph(encoder: Encoder, layout: Layout, num_tokens: int) -> ModelProto:
    """Build ``zipformer2_ctc``: ``x (N, T, F)`` and states to ``log_probs (N, chunk, V)`` and next states.

    The encoder's states stay ``lookahead_frames`` ahead of what was answered, so a call computes one chunk and no
    more; the first call of a stream runs the look-ahead before it. Streams in their first call and others may share
    a batch.
    """
    writer = Writer()
    chunk = layout.metadata[DECODE_CHUNK]
    first = writer.op("Equal", PROCESSED, writer.constant([0]))
    carried = _unpack(writer, encoder, layout, first)
    states = {state.name: carried[state.name] for state in encoder.states}
    kept: dict[str, str] = {}
    if layout.lookahead_frames:
        lead = SUBSAMPLING * layout.lookahead_frames - LATE_FEATURES
        states = _heard_ahead(writer, encoder, states, first, lead)
        body = writer.slice("x", lead, lead + chunk)
    else:
        new = writer.reshape(first, [-1, 1, 1])
        cached = writer.op("Where", new, _before(writer, "x"), carried[LATE_CACHE])
        body = writer.op("Concat", cached, writer.slice("x", 0, chunk - LATE_FEATURES), axis=1)
        kept[LATE_CACHE] = writer.slice("x", chunk - LATE_FEATURES, chunk)
    log_probs, *following = apply_encoder(writer, encoder, body, states, [LOG_PROBS, *next_states(encoder)])
    writer.op("Identity", log_probs, output=LOG_PROBS)
    _pack(writer, layout, kept | dict(zip((state.name for state in encoder.states), following, strict=True)))
    tensors = state_tensors(layout.properties)
    inputs = [_tensor("x", [BATCH_AXIS, layout.metadata[FRAMES_FED], layout.feature_dim])]
    inputs += [_tensor(name, shape, _DTYPES[dtype]) for name, shape, dtype in tensors]
    outputs = [_tensor(LOG_PROBS, [BATCH_AXIS, layout.chunk_frames, num_tokens])]
    outputs += [_tensor(f"new_{name}", shape, _DTYPES[dtype]) for name, shape, dtype in tensors]
    return _finish(encoder, writer, "streaming", inputs, outputs)


def _heard_ahead(writer: Writer, encoder: Encoder, states: Mapping[str, str], first: str, lead: int) -> dict[str, str]:
    """States that have heard the look-ahead: streams in their first call hear it now, the others did before."""
    whether = writer.op("Cast", writer.op("ReduceMax", writer.op("Cast", first, to=_INT32), keepdims=0), to=_BOOL)
    begin, go_on = Writer(writer), Writer(writer)
    ahead = begin.op("Concat", _before(begin, "x"), begin.slice("x", 0, lead), axis=1)
    heard = apply_encoder(begin, encoder, ahead, states, next_states(encoder), prefix="first.")
    outputs: list[list[ValueInfoProto]] = [[], []]
    for state, new in zip(encoder.states, heard, strict=True):
        mine = begin.reshape(first, [-1 if size == BATCH_AXIS else 1 for size in state.shape])
        names = (
            begin.op("Where", mine, new, states[state.name]),
            go_on.op("Identity", states[state.name]),
        )
        for side, name in zip(outputs, names, strict=True):
            side.append(_tensor(name, state.shape, _DTYPES[state.dtype]))
    results = [writer.name() for _ in encoder.states]
    writer.ops(
        "If",
        [whether],
        results,
        then_branch=helper.make_graph(begin.nodes, "first_call", [], outputs[0]),
        else_branch=helper.make_graph(go_on.nodes, "later_call", [], outputs[1]),
    )
    return dict(zip((state.name for state in encoder.states), results, strict=True))


def _unpack(writer: Writer, encoder: Encoder, layout: Layout, first: str) -> dict[str, str]:
    """Our states out of the one vector that carries them; empty ones and first values are made here."""
    found = {}
    parts = [writer.name() for _ in layout.carried]
    if parts:
        vector = writer.reshape(CARRIER, [-1, layout.metadata["query_head_dims"]])
        writer.ops("Split", [vector, writer.constant([size_of(s) for s in layout.carried])], parts, axis=1)
    count = writer.size("x", 0)
    for state, part in zip(layout.carried, parts, strict=True):
        axis = state.shape.index(BATCH_AXIS)
        tensor = writer.reshape(part, [-1, *(int(size) for size in state.shape if size != BATCH_AXIS)])
        if axis:
            tensor = writer.op("Transpose", tensor, perm=[*range(1, axis + 1), 0, *range(axis + 1, len(state.shape))])
        if state.dtype != "float32":
            tensor = writer.op("Cast", tensor, to=_DTYPES[state.dtype])
        if state.initial:
            new = writer.reshape(first, [-1 if size == BATCH_AXIS else 1 for size in state.shape])
            tensor = writer.op("Where", new, writer.constant(np.asarray(state.initial, state.dtype)), tensor)
        found[state.name] = tensor
    return {state.name: _initial(writer, state, count) for state in encoder.states if not size_of(state)} | found


def _pack(writer: Writer, layout: Layout, following: Mapping[str, str]) -> None:
    """Our next states into the one vector, and every other state of sherpa-onnx handed through."""
    parts = []
    for state in layout.carried:
        tensor, axis = following[state.name], state.shape.index(BATCH_AXIS)
        if state.dtype != "float32":
            tensor = writer.op("Cast", tensor, to=_DTYPES["float32"])
        if axis:
            tensor = writer.op("Transpose", tensor, perm=[axis, *(i for i in range(len(state.shape)) if i != axis)])
        parts.append(writer.reshape(tensor, [-1, size_of(state)]))
    one = writer.constant(np.float32(1.0))
    for name, _, _ in state_tensors(layout.properties):
        if name == CARRIER and parts:
            vector = writer.op("Concat", *parts, axis=1)
            size = layout.metadata["query_head_dims"]
            writer.op("Reshape", vector, writer.constant([1, -1, size]), output=f"new_{name}")
        elif name == PROCESSED:
            writer.op("Add", name, writer.constant([layout.metadata[DECODE_CHUNK]]), output=f"new_{name}")
        else:
            # An Identity would be optimised away, and an input that is an output is no node of its own any more.
            writer.op("Mul", name, one, output=f"new_{name}")


def _frames(writer: Writer, features: str) -> str:
    """Frames of a number of features, the last one perhaps not full."""
    more = writer.op("Add", features, writer.constant([SUBSAMPLING - 1]))
    return writer.op("Div", more, writer.constant([SUBSAMPLING]))


def _before(writer: Writer, features: str) -> str:
    """What stands before the first feature, ``(N, 1, F)``: our frontend hears silence, then the onset of the first.

    So it is the first feature, weaker by what the window's tail is weaker than the window.
    """
    weaker = writer.op("Add", writer.slice(features, 0, 1), writer.constant(np.float32(TAIL_OF_WINDOW)))
    return writer.op("Max", weaker, writer.constant(np.float32(LOG_FLOOR)))


def _initial(writer: Writer, state: StateSpec, count: str) -> str:
    """A state at the start of ``count`` streams."""
    sizes = [count if size == BATCH_AXIS else writer.constant([int(size)]) for size in state.shape]
    value = writer.constant(np.asarray(state.initial, state.dtype))
    return writer.op("Expand", value, writer.op("Concat", *sizes, axis=0))


def _tensor(name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def _finish(
    encoder: Encoder,
    writer: Writer,
    name: str,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
) -> ModelProto:
    """The model, with the constants that were written and the weights that are read."""
    _, leaves = ancestors(
        encoder.nodes, [LOG_PROBS, *next_states(encoder)], stop=encoder.features.name, outside=encoder.outside
    )
    weights = [tensor for tensor in encoder.model.graph.initializer if tensor.name in leaves]
    graph = helper.make_graph(writer.nodes, name, list(inputs), list(outputs), [*writer.constants.values(), *weights])
    return model_like(encoder.model, graph)


_DTYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
_INT32, _BOOL = TensorProto.INT32, TensorProto.BOOL
