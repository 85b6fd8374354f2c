"""Writes ONNX nodes one after another and names their tensors."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from onnx import NodeProto, TensorProto

_MARK = "around."
"""Begins every name made here; none made by torch begins so."""


class Writer:
    """Collects the nodes of one graph or branch, sorted as they are written."""

    def __init__(self, parent: Writer | None = None) -> None:
        """Begin a graph; or, with ``parent``, a branch that shares its constants and sees its tensors."""
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = parent.constants if parent else {}
        self.numbers: Iterator[int] = parent.numbers if parent else itertools.count()

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as ONNX has it
        """Write a node with one output and return the output's name."""
        return self.ops(kind, inputs, [output or self.name()], **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> list[str]:  # noqa: ANN401
        """Write a node with several outputs."""
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), self.name(), **attributes))
        return list(outputs)

    def name(self) -> str:
        """Return a name that nothing has yet."""
        return f"{_MARK}{next(self.numbers)}"

    def constant(self, value: object) -> str:
        """Return an initializer; Python integers become int64."""
        array: NDArray[Any] = np.asarray(value)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, self.name())
        return self.constants[key].name

    def size(self, tensor: str, axis: int) -> str:
        """Size of an axis, shape ``(1,)``."""
        return self.op("Shape", tensor, start=axis, end=axis + 1)

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        """Reshape to constant sizes, one of which may be -1."""
        return self.op("Reshape", tensor, self.constant(list(shape)))

    def slice(self, tensor: str, start: int, end: int | str, output: str = "") -> str:
        """Take ``start`` to ``end`` of the second axis; a tensor ``(1,)`` may say where it ends."""
        bounds = [at if isinstance(at, str) else self.constant([at]) for at in (start, end)]
        return self.op("Slice", tensor, *bounds, self.constant([1]), output=output)
