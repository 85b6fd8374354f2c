"""The encoder in a bundle's graph: found behind the frontend, and copied into other graphs with the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, checker, helper, shape_inference

from kdcompress_export.errors import TargetError
from kdcompress_export.graphs import FEATURE_NORM_MARK, before_feature_norm
from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.model import LOG_PROBS, NEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_export.targets.onnx_writer import Writer
    from kdcompress_runtime.bundle import BundleMetadata, StateSpec


@dataclass(frozen=True)
class Features:
    """The tensor between frontend and encoder."""

    name: str
    """In the bundle's graph."""
    dtype: int
    """ONNX dtype."""
    bins_first: bool
    """``(N, F, T)``, as the quantizer leaves it; else ``(N, T, F)``."""


@dataclass(frozen=True)
class Encoder:
    """The part of a bundle's graph that begins at the features."""

    model: ModelProto
    """The whole graph, for its weights and opsets."""
    nodes: tuple[NodeProto, ...]
    """What computes the outputs from features and states, sorted."""
    features: Features
    """Where the frontend ends."""
    states: tuple[StateSpec, ...]
    """States that the encoder reads; those of the frontend are gone."""
    outside: Mapping[str, tuple[int, ...]]
    """Tensors of the frontend of which only the shape is read: its sizes, the batch left out; -1 for samples."""
    hop: int
    """Samples a feature."""


def cut(model: ModelProto, metadata: BundleMetadata) -> Encoder:
    """Find the encoder in a bundle's graph.

    Raises:
        TargetError: the place where the frontend ends is not marked, or the encoder reads more than features.
    """
    features = find_features(model, int(metadata.frontend["num_mel_bins"]))
    source = metadata.input
    outside: dict[str, tuple[int, ...]] = {source.name: (-1,)}
    specs = {state.name: state for state in metadata.states}
    for name, state in specs.items():
        if state.shape[0] == BATCH_AXIS:
            outside[name] = tuple(int(size) for size in state.shape[1:])
    wanted, read = [LOG_PROBS], set[str]()
    constants = {tensor.name for tensor in model.graph.initializer}
    while True:
        nodes, leaves = ancestors(model.graph.node, wanted, stop=features.name, outside=outside)
        found = {name for name in leaves if name in specs}
        if source.name in leaves or leaves - found - constants - {features.name}:
            raise TargetError(
                "the encoder reads the samples beside the features, so the graph cannot be cut behind its frontend; "
                "only bundles of students with a log_mel frontend can be made into sherpa-onnx models"
            )
        if found == read:
            break
        read, wanted = found, [LOG_PROBS, *(NEXT + name for name in specs if name in found)]
    if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for n in nodes for attribute in n.attribute):
        raise TargetError("the encoder holds control flow (If, Loop, Scan), which this target does not copy")
    states = tuple(state for state in metadata.states if state.name in read)
    outside = {name: sizes for name, sizes in outside.items() if name not in read}
    hop = source.units_per_frame // metadata.subsampling_factor
    return Encoder(model, tuple(nodes), features, states, outside, hop)


def find_features(model: ModelProto, num_mel_bins: int) -> Features:
    """Find the tensor at which the frontend ends: what the feature norm's mean is subtracted from.

    Raises:
        TargetError: no node reads the statistics, more than one tensor could be meant, or it holds no features.
    """
    name = _before_norm(model.graph)
    for value in shape_inference.infer_shapes(model).graph.value_info:
        if value.name == name:
            tensor = value.type.tensor_type
            dims = [axis.dim_value for axis in tensor.shape.dim]
            if len(dims) == 3 and (dims[1] == num_mel_bins) != (dims[2] == num_mel_bins):
                return Features(name, int(tensor.elem_type), bins_first=dims[1] == num_mel_bins)
            raise TargetError(f"the features {name!r} have dimensions {dims}, which hold {num_mel_bins} bins not once")
    raise TargetError(f"the dtype of the features {name!r} cannot be told; export the bundle again")


def _before_norm(graph: GraphProto) -> str:
    found = before_feature_norm(graph)
    if len(found) != 1:
        raise TargetError(
            f"the graph names no single tensor before its feature norm ({sorted(found) or 'none'} found by weights "
            f"with {FEATURE_NORM_MARK!r} in their names), so frontend and encoder cannot be told apart"
        )
    (name,) = found
    return str(name)


def frontend(model: ModelProto, metadata: BundleMetadata) -> ModelProto:
    """Return the frontend alone, input and frontend states to features ``(N, T, F)``, for comparisons."""
    size = int(metadata.frontend["num_mel_bins"])
    features = find_features(model, size)
    nodes, leaves = ancestors(model.graph.node, [features.name], stop="", outside={})
    order = [0, 2, 1] if features.bins_first else [0, 1, 2]
    nodes.append(helper.make_node("Transpose", [features.name], ["features"], perm=order))
    kept = [value for value in model.graph.input if value.name in leaves]
    output = helper.make_tensor_value_info("features", features.dtype, [BATCH_AXIS, "T", size])
    constants = [tensor for tensor in model.graph.initializer if tensor.name in leaves]
    return model_like(model, helper.make_graph(nodes, "frontend", kept, [output], constants))


def apply_encoder(
    writer: Writer,
    encoder: Encoder,
    features: str,
    states: Mapping[str, str],
    wanted: Sequence[str],
    *,
    prefix: str = "",
) -> list[str]:
    """Write a copy of the encoder's nodes, as far as ``wanted`` needs them; return what they are called there.

    Weights are shared between copies. Where the graph reads the shape of the samples, it is given the shape that
    the samples of these features would have.
    """
    nodes, _ = ancestors(encoder.nodes, wanted, stop=encoder.features.name, outside=encoder.outside)
    given = features
    if encoder.features.dtype != TensorProto.FLOAT:
        given = writer.op("Cast", given, to=encoder.features.dtype)
    if encoder.features.bins_first:
        given = writer.op("Transpose", given, perm=[0, 2, 1])
    names = {encoder.features.name: given, **states}
    for node in nodes:
        names.update({name: f"encoder.{prefix}{name}" for name in node.output if name})
    sizes = None
    for node in nodes:
        if _reads_shape(node, encoder.outside):
            sizes = sizes or (writer.size(features, 0), _times(writer, writer.size(features, 1), encoder.hop))
            _write_shape(writer, node, sizes, encoder.outside[node.input[0]], names[node.output[0]])
            continue
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = writer.name()
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        writer.nodes.append(copy)
    return [names[name] for name in wanted]


def _write_shape(writer: Writer, node: NodeProto, sizes: tuple[str, str], axes: tuple[int, ...], output: str) -> None:
    """Write what ``Shape`` of a tensor ``(N, *axes)`` of the frontend would give; -1 stands for the samples."""
    parts = [sizes[0], *(sizes[1] if size < 0 else writer.constant([size]) for size in axes)]
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    parts = parts[bounds.get("start", 0) : bounds.get("end", len(parts))]
    writer.op("Concat", *parts, axis=0, output=output)


def _times(writer: Writer, size: str, factor: int) -> str:
    return writer.op("Mul", size, writer.constant([factor]))


def next_states(encoder: Encoder) -> list[str]:
    """Names of the encoder's outputs beside the log-probabilities."""
    return [NEXT + state.name for state in encoder.states]


def ancestors(
    nodes: Sequence[NodeProto], wanted: Sequence[str], *, stop: str, outside: Mapping[str, tuple[int, ...]]
) -> tuple[list[NodeProto], set[str]]:
    """Nodes that ``wanted`` needs, sorted as they were, and the tensors that none of them writes.

    Nothing before ``stop`` is followed, nor what only tells a shape of ``outside``.
    """
    live, found = set(wanted), []
    for node in reversed(nodes):
        written = set(node.output) - {stop}
        if live.isdisjoint(written):
            continue
        live -= written
        found.append(node)
        if not _reads_shape(node, outside):
            live.update(name for name in node.input if name)
    return found[::-1], live


def _reads_shape(node: NodeProto, outside: Mapping[str, tuple[int, ...]]) -> bool:
    return node.op_type == "Shape" and node.input[0] in outside


def model_like(model: ModelProto, graph: GraphProto) -> ModelProto:
    """Make a checked model of ``graph`` with the opsets of ``model``."""
    made = helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=model.ir_version
    )
    checker.check_model(made, full_check=True)
    return made
