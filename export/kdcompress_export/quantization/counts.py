"""What a file really computes in, read back from the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import FRONTEND_MARK, producers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import NodeProto

WEIGHTED = ("Conv", "MatMul", "Gemm")
FORBIDDEN = ("ConvInteger",)
"""Five times slower than float32."""
_INTEGER = {"MatMulInteger", "MatMulNBits", "QLinearMatMul", "QLinearConv", "ConvInteger"}
_THROUGH = {"Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class OperatorCounts:
    """Layers of a file by operator type."""

    small: Mapping[str, int]
    """Layers whose weight is stored, and computed with, in fewer than 32 bits; the frontend's are not layers."""
    floating: Mapping[str, int]
    """Layers with a stored weight that compute in float32."""

    @property
    def total(self) -> int:
        """Small layers."""
        return sum(self.small.values())


def count_operators(content: bytes) -> OperatorCounts:
    """Count the layers of a file behind the frontend.

    Raises:
        QuantizationError: an operator is there that must never ship.
    """
    model = onnx.load_from_string(content)
    forbidden = sorted({node.op_type for node in model.graph.node if node.op_type in FORBIDDEN})
    if forbidden:
        raise QuantizationError(f"the graph holds {', '.join(forbidden)}, which is slower than float32: never shipped")
    small: Counter[str] = Counter()
    floating: Counter[str] = Counter()
    written = producers(model.graph)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if any(FRONTEND_MARK in name for name in node.input):
            continue
        if node.op_type in _INTEGER:
            small[node.op_type] += 1
        elif node.op_type in WEIGHTED:
            kind = _kind(node, written, types)
            if kind is not None:
                (small if kind else floating)[node.op_type] += 1
    return OperatorCounts(dict(small), dict(floating))


def check_counts(content: bytes, asked: int) -> OperatorCounts:
    """Count, and compare with what was asked for.

    Raises:
        QuantizationError: more or fewer layers are small than were asked for, or as ``count_operators``.
    """
    found = count_operators(content)
    if found.total != asked:
        raise QuantizationError(
            f"{asked} layers were to be made smaller, the file holds {found.total} ({dict(found.small)}); "
            f"{dict(found.floating)} stayed float32"
        )
    return found


def _kind(node: NodeProto, written: Mapping[str, NodeProto], types: Mapping[str, int]) -> bool | None:
    """Whether a layer computes in fewer bits; None where it holds no weight (a product of two activations)."""
    origins = [_origin(name, written) for name in node.input[:2]]
    dequantized = [name in written and written[name].op_type == "DequantizeLinear" for name in origins]
    stored = [name in types or _is_stored(name, written, types) for name in origins]
    if not any(stored):
        return None
    return all(dequantized) or any(types.get(name) == TensorProto.FLOAT16 for name in origins)


def _origin(name: str, written: Mapping[str, NodeProto]) -> str:
    """Follow a tensor back through operators that leave every value as it is."""
    while name in written and written[name].op_type in _THROUGH:
        name = written[name].input[0]
    return name


def _is_stored(name: str, written: Mapping[str, NodeProto], types: Mapping[str, int]) -> bool:
    """Whether a dequantized tensor comes out of the file."""
    return name in written and written[name].op_type == "DequantizeLinear" and written[name].input[0] in types
