"""Repair: SmoothQuant. Moves the spread of activations into the weights that read them; exact in float32.

Xiao et al., arXiv 2211.10438. Where only matrix products read a layer norm, its gain and bias are divided by
``s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)`` for each channel j and the rows of the weights multiplied by it. One
large channel then takes less of the range that all share. Nothing is added to the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import arrays, consumers, set_array
from kdcompress_export.quantization.calibration import StepReader
from kdcompress_export.quantization.repairs import Repair
from kdcompress_runtime.model import LOG_PROBS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from kdcompress_export.inputs import Units
    from kdcompress_export.quantization.calibration import Calibration
    from kdcompress_runtime.model import CtcModel

ALPHA = 0.5
"""Share of the spread that goes into the weights; the paper's."""
ATOL = 1e-3
"""Largest difference of log-probabilities that is still rounding of float32."""
_LIMITS = (1e-3, 1e3)


@dataclass(frozen=True)
class Smoothed:
    """A float32 file whose layer norms are smoother."""

    content: bytes
    """ONNX."""
    norms: tuple[str, ...]
    """Weights, by initializer name, that took up the spread of the layer norm before them."""
    max_abs_diff: float
    """Largest difference of log-probabilities to the file that came in, over the recordings."""


def smooth(content: bytes, model: CtcModel, recordings: Iterable[Units], alpha: float = ALPHA) -> Smoothed:
    """Divide what flows from layer norms into matrix products by a factor a channel, and multiply the weights by it.

    Args:
        content: the float32 file.
        model: the same, loaded.
        recordings: training inputs, ``(units, ...)`` each.
        alpha: see the file.

    Raises:
        QuantizationError: there is no recording, or the result differs by more than float32 rounds.
    """
    feeds = list(_feeds(model, recordings))
    changed = onnx.load_from_string(content)
    graph = changed.graph
    pairs = list(_pairs(graph))
    largest = _largest(content, [norm.output[0] for norm, _ in pairs], feeds)
    values = {name: value.astype(np.float64) for name, value in arrays(graph).items() if value.dtype == np.float32}
    norms: list[str] = []
    for index, (norm, products) in enumerate(pairs):
        weights = [values[product.input[1]] for product in products]
        factors = _factors(largest[norm.output[0]], np.max([np.abs(w).max(axis=1) for w in weights], axis=0), alpha)
        for place in range(1, len(norm.input)):
            # New names: layer norms share their gains and biases while these are equal.
            name = f"smoothed_{index}_{place}"
            set_array(graph, name, (values[norm.input[place]] / factors).astype(np.float32))
            norm.input[place] = name
        for product, weight in zip(products, weights, strict=True):
            set_array(graph, product.input[1], (weight * factors[:, None]).astype(np.float32))
            norms.append(product.input[1])
    _drop_unread(changed)
    after = changed.SerializeToString()
    difference = _difference(content, after, feeds)
    if difference > ATOL:
        raise QuantizationError(f"smoothing changed log-probabilities by {difference:.1e}, more than {ATOL:.0e}")
    return Smoothed(after, tuple(norms), difference)


def _before(content: bytes, calibration: Calibration) -> bytes:
    return smooth(content, calibration.model, calibration.recordings).content


SMOOTHING = Repair("smoothing", before=_before, kinds=("static", "dynamic"))
"""For models with layer norms; others come out as they went in."""


def _pairs(graph: GraphProto) -> Iterable[tuple[NodeProto, list[NodeProto]]]:
    """Layer norms with a gain, whose output nothing but products with weights of their own reads."""
    values, read = arrays(graph), consumers(graph)
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type != "LayerNormalization" or node.output[0] in outputs:
            continue
        products = read.get(node.output[0], [])
        if products and all(_is_product(product, node.output[0], values, read) for product in products):
            yield node, products


def _is_product(
    node: NodeProto, name: str, values: dict[str, NDArray[np.generic]], read: dict[str, list[NodeProto]]
) -> bool:
    """Whether a node multiplies ``name`` by a matrix that nobody else reads."""
    if node.op_type != "MatMul" or node.input[0] != name:
        return False
    weight = values.get(node.input[1])
    return weight is not None and weight.ndim == 2 and len(read[node.input[1]]) == 1


def _factors(activations: NDArray[np.float64], weights: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """``max|x|^alpha / max|w|^(1 - alpha)``, scaled to a geometric mean of one; dead channels are left alone."""
    alive = (activations > 0) & (weights > 0)
    factors = np.ones_like(activations)
    factors[alive] = activations[alive] ** alpha / weights[alive] ** (1 - alpha)
    factors /= np.exp(np.log(factors).mean())
    return np.asarray(factors.clip(*_LIMITS))


def _feeds(model: CtcModel, recordings: Iterable[Units]) -> Iterable[dict[str, NDArray[np.float32]]]:
    reader = StepReader(model, recordings)
    while (feed := reader.get_next()) is not None:
        yield feed


def _largest(
    content: bytes, names: list[str], feeds: list[dict[str, NDArray[np.float32]]]
) -> dict[str, NDArray[np.float64]]:
    """Largest absolute value of each channel (last axis) of the tensors."""
    if not names:
        return {}
    exposed = onnx.load_from_string(content)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    found: dict[str, NDArray[np.float64]] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(names, feed), strict=True):
            seen = np.abs(np.asarray(value, dtype=np.float64)).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found.get(name, 0.0), seen)
    return found


def _difference(before: bytes, after: bytes, feeds: list[dict[str, NDArray[np.float32]]]) -> float:
    sessions = [ort.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (before, after)]
    worst = 0.0
    for feed in feeds:
        old, new = (session.run([LOG_PROBS], feed)[0] for session in sessions)
        worst = max(worst, float(np.abs(old - new).max()))
    return worst


def _drop_unread(model: ModelProto) -> None:
    """Remove the initializers that nobody reads any more, in place."""
    read = consumers(model.graph)
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in read]:
        model.graph.initializer.remove(tensor)
