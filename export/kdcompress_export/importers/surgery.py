"""What a foreign graph goes through until it is a graph of a bundle. Functions change the model in place.

Graphs may hold subgraphs (``If``, ``Loop``) that read names from outside; every function here looks into them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # comes with onnx
from onnx import TensorProto, checker, helper, inliner, numpy_helper, version_converter
from onnx.external_data_helper import load_external_data_for_tensor

from kdcompress_export.convert import FRAMES_AXIS, OPSET, check_graph
from kdcompress_export.errors import ForeignModelError, GraphError, UnsupportedModelError
from kdcompress_export.graphs import arrays, fold_batch_norm, producers, strip
from kdcompress_export.inputs import inputs_for
from kdcompress_export.prove import FLOAT
from kdcompress_export.signature import METADATA_KEY, geometry
from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.model import LOG_PROBS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto
    from onnx import TensorProto as Tensor

    from kdcompress_runtime.bundle import BundleMetadata

QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul")
_WEIGHTED = ("MatMul", "Gemm", "Conv")
_DOMAINS = ("", "ai.onnx")


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Return a graph and every subgraph in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from graphs(inner)


def load_graph(file: Path) -> ModelProto:
    """Read an ONNX file, the data it keeps in files beside it included; functions are inlined.

    Raises:
        ForeignModelError: no such file, no ONNX, or its data is missing, cut short, or outside the file's folder.
    """
    try:
        model = onnx.load_from_string(file.read_bytes())
    except OSError as error:
        raise ForeignModelError(f"{file}: cannot be read ({error.strerror}); give an ONNX file") from error
    except DecodeError as error:
        raise ForeignModelError(f"{file} is no ONNX file, or is damaged ({error})") from error
    if not model.graph.node or not model.graph.output:
        raise ForeignModelError(f"{file} is no ONNX file: it holds no graph")
    for tensor in _tensors(model.graph):
        _embed(tensor, file)
    if model.functions:
        model = inliner.inline_local_functions(model)
    return model


def _tensors(graph: GraphProto) -> Iterator[Tensor]:
    for each in graphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _embed(tensor: Tensor, file: Path) -> None:
    if tensor.data_location != TensorProto.EXTERNAL:
        return
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = file.parent.resolve()
    beside = (folder / location).resolve()
    if not location or "\\" in location or not beside.is_relative_to(folder) or beside == folder:
        raise ForeignModelError(f"{file}: the data of {tensor.name} lies at {location!r}, outside the file's folder")
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise ForeignModelError(
            f"{file}: the data of {tensor.name} cannot be read from {location} ({error})"
        ) from error
    found, size = len(tensor.raw_data), _size(tensor)
    if found != size:
        raise ForeignModelError(f"{file}: {location} holds {found} of the {size} bytes of {tensor.name}; copy it again")
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _size(tensor: Tensor) -> int:
    count = int(np.prod(list(tensor.dims), dtype=np.int64))
    bits = 4 if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) else 0
    if bits:
        return (count * bits + 7) // 8
    return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def to_opset(model: ModelProto, file: str) -> ModelProto:
    """Return the model in the exporter's opset, with no other operator set.

    Raises:
        UnsupportedModelError: operators of other sets, int8 operators, or an operator that cannot be converted.
    """
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in _DOMAINS})
    if foreign:
        raise UnsupportedModelError(
            f"{file} needs operators beyond ONNX ({', '.join(foreign)}); export it without them"
        )
    quantized = sorted({node.op_type for node in nodes if node.op_type in QUANTIZED})
    if quantized:
        raise UnsupportedModelError(
            f"{file} is quantized already ({', '.join(quantized)}); give the float32 file, kdcompress quantizes itself"
        )
    kept = [entry for entry in model.opset_import if entry.domain in _DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    if len(kept) == 1 and kept[0].version == OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, checker.ValidationError) as error:
        versions = ", ".join(str(entry.version) for entry in kept) or "none"
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedModelError(
            f"{file} has opset {versions}, which cannot become {OPSET} ({reason}); export it with opset {OPSET}"
        ) from error


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors everywhere, subgraphs included."""
    for each in graphs(graph):
        for tensor in each.initializer:
            tensor.name = names.get(tensor.name, tensor.name)
        for value in [*each.input, *each.output, *each.value_info]:
            value.name = names.get(value.name, value.name)
        for node in each.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def lift_constants(graph: GraphProto) -> None:
    """Make weights that stand in ``Constant`` nodes initializers, where the quantizer looks for them."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        if value is not None and value.ByteSize():
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            graph.node.remove(node)


def drop_identities(graph: GraphProto) -> None:
    """Remove ``Identity`` nodes, which hide weights from whoever looks for them; the graph's outputs stay."""
    fixed = {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "Identity"]:
        if node.output[0] not in fixed:
            rename(graph, {node.output[0]: node.input[0]})
            graph.node.remove(node)


def name_weights(graph: GraphProto) -> None:
    """Give weights that the exporter numbered (``onnx::MatMul_12``) the name of the module they belong to."""
    taken = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        scope = node.name.strip("/").rpartition("/")[0].replace("/", ".")
        numbered = len(node.input) > 1 and "::" in node.input[1] and node.input[1] in taken
        if node.op_type in _WEIGHTED and scope and numbered and f"{scope}.weight" not in taken:
            taken.add(f"{scope}.weight")
            rename(graph, {node.input[1]: f"{scope}.weight"})


def prune(graph: GraphProto, output: str) -> None:
    """Remove what does not lead to ``output``."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(node.input)
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                for each in graphs(inner):
                    needed.update(name for one in each.node for name in one.input)
                    needed.update(value.name for value in each.output)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)


def unfold_batch_norm(model: ModelProto) -> None:
    """Fold batch norms into convolutions where they follow one; write the others as a product and a sum."""
    fold_batch_norm(model)
    graph = model.graph
    left = [node for node in graph.node if node.op_type == "BatchNormalization"]
    if not left:
        return
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in [*inferred.value_info, *inferred.input]}
    values = arrays(graph)
    for node in left:
        rank = ranks.get(node.input[0], 0)
        if rank < 2 or any(name not in values for name in node.input[1:5]):
            continue
        gain, shift, mean, variance = (values[name].astype(np.float64) for name in node.input[1:5])
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale = gain / np.sqrt(variance + epsilon)
        shape = (-1, *[1] * (rank - 2))
        names = [f"{node.output[0]}_scale", f"{node.output[0]}_shift"]
        for name, value in zip(names, (scale, shift - mean * scale), strict=True):
            graph.initializer.append(numpy_helper.from_array(value.reshape(shape).astype(np.float32), name))
        place = list(graph.node).index(node)
        product = helper.make_node("Mul", [node.input[0], names[0]], [f"{node.output[0]}_scaled"])
        total = helper.make_node("Add", [product.output[0], names[1]], [node.output[0]])
        graph.node.remove(node)
        graph.node.insert(place, total)
        graph.node.insert(place, product)


def append_scores(graph: GraphProto, output: str, scores: str) -> None:
    """Turn ``output`` into ``log_probs``: ``scores`` is ``log_probs``, ``logits`` or ``probabilities``."""
    writer = producers(graph).get(output)
    if scores == "log_probs" and writer is not None and writer.op_type == "LogSoftmax":
        rename(graph, {output: LOG_PROBS})
        return
    if scores == "probabilities":
        tiny = numpy_helper.from_array(np.array(np.finfo(np.float32).tiny, dtype=np.float32), "least_probability")
        graph.initializer.append(tiny)
        graph.node.append(helper.make_node("Max", [output, tiny.name], ["positive_probabilities"]))
        graph.node.append(helper.make_node("Log", ["positive_probabilities"], [LOG_PROBS]))
        return
    node = helper.make_node("Identity", [output], [LOG_PROBS])
    if scores == "logits":
        node = helper.make_node("LogSoftmax", [output], [LOG_PROBS], axis=-1)
    graph.node.append(node)


def prepend(graph: GraphProto, nodes: list[NodeProto], tensors: list[Tensor]) -> None:
    """Put nodes and weights before those of the graph."""
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(tensors)


def free_names(graph: GraphProto, names: set[str]) -> None:
    """Rename tensors of the graph that would be mistaken for ``names``."""
    used = {name for each in graphs(graph) for node in each.node for name in (*node.input, *node.output)}
    used.update(tensor.name for tensor in graph.initializer)
    rename(graph, {name: f"{name}_before" for name in names if name in used})


def finish(model: ModelProto, metadata: BundleMetadata, num_tokens: int) -> bytes:
    """Give the graph the inputs, outputs and properties of a bundle's graph, and check what came out.

    Raises:
        GraphError: what came out is not what was asked for, or is too large for one file.
    """
    graph = model.graph
    prune(graph, LOG_PROBS)
    nested = len(list(graphs(graph))) > 1
    if not nested:
        unfold_batch_norm(model)
    del graph.input[:], graph.output[:], graph.value_info[:], model.metadata_props[:]
    fed = inputs_for(metadata.input)
    axes: list[str | int | None] = [BATCH_AXIS, fed.units, *fed.trailing]
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(fed.dtype))
    graph.input.append(helper.make_tensor_value_info(metadata.input.name, dtype, axes))
    shape: list[str | int | None] = [BATCH_AXIS, FRAMES_AXIS, num_tokens]
    graph.output.append(helper.make_tensor_value_info(LOG_PROBS, TensorProto.FLOAT, shape))
    if nested:
        model.doc_string = graph.doc_string = ""
    else:
        strip(model)
    properties = json.dumps(geometry(metadata, FLOAT), ensure_ascii=False, sort_keys=True)
    helper.set_model_props(model, {METADATA_KEY: properties})
    check_graph(model, metadata.input, metadata.states, num_tokens)
    try:
        checker.check_model(model)
        content: bytes = model.SerializeToString()
    except (checker.ValidationError, ValueError) as error:
        raise GraphError(f"the graph that came out is not valid ONNX of at most 2 GB ({error})") from error
    return content


def count_parameters(graph: GraphProto) -> int:
    """Count the float weights that a MatMul, a convolution, a norm or an embedding may have trained."""
    return sum(value.size for value in arrays(graph).values() if value.dtype == np.float32 and value.size > 1)


def traced_scores(graph: GraphProto, output: str) -> str | None:
    """Read from the graph whether ``output`` holds log-probabilities or probabilities; None when it cannot be told."""
    written, kinds = producers(graph), {"LogSoftmax": "log_probs", "Softmax": "probabilities"}
    passing = ("Identity", "Transpose", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Slice")
    node = written.get(output)
    while node is not None and node.op_type in passing:
        node = written.get(node.input[0])
    if node is not None and node.op_type == "Log":
        before = written.get(node.input[0])
        return "log_probs" if before is not None and before.op_type == "Softmax" else None
    if node is None:
        return None
    linear = node.op_type in {"MatMul", "Gemm", "Conv"} or (node.op_type == "Add" and _reads_product(graph, node))
    return kinds.get(node.op_type, "logits" if linear else None)


def _reads_product(graph: GraphProto, node: NodeProto) -> bool:
    written = producers(graph)
    return any(name in written and written[name].op_type in {"MatMul", "Conv"} for name in node.input)
