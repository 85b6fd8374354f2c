"""What an ONNX file says about itself, read off its protobuf encoding; no onnx package, no weights in memory."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_runtime.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
# Numbers from onnx.proto: ModelProto, GraphProto, TensorProto, StringStringEntryProto.
_GRAPH, _METADATA = 7, 14
_INITIALIZER, _INPUT = 5, 11
_DIMS, _DATA_TYPE = 1, 2
_NAME = 1
_KEY, _VALUE = 1, 2
_WEIGHTS = frozenset({1, 2, 3, 10, 11, 16, 21, 22})
"""Data types that weights have: float32, uint8, int8, float16, float64, bfloat16, uint4, int4."""


@dataclass(frozen=True)
class OnnxFile:
    """The outside of a model."""

    metadata: dict[str, str]
    """``metadata_props``."""
    inputs: tuple[str, ...]
    """Names of the graph's inputs."""
    parameters: int
    """Elements of the weights that are tensors of the graph; scalars are settings and do not count."""


def read_onnx(path: Path) -> OnnxFile:
    """Look at a model.

    Raises:
        ModelError: missing, or no ONNX file.
    """
    metadata: dict[str, str] = {}
    inputs: list[str] = []
    parameters = 0
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for number, value, start, end in _fields(content, 0, len(content)):
                if number == _METADATA and value is None:
                    entry = {n: content[s:e].decode(errors="replace") for n, _, s, e in _fields(content, start, end)}
                    metadata[entry.get(_KEY, "")] = entry.get(_VALUE, "")
                elif number == _GRAPH and value is None:
                    for part, inner, first, last in _fields(content, start, end):
                        if part == _INITIALIZER and inner is None:
                            parameters += _elements(content, first, last)
                        elif part == _INPUT and inner is None:
                            inputs += [
                                content[s:e].decode() for n, _, s, e in _fields(content, first, last) if n == _NAME
                            ]
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: cannot be read as an ONNX file ({error}); copy or export it again") from error
    return OnnxFile(metadata, tuple(inputs), parameters)


def _elements(content: mmap.mmap, start: int, end: int) -> int:
    """Elements of a tensor, 0 where it is a scalar or holds no weights."""
    dims: list[int] = []
    kind = 0
    for number, value, first, last in _fields(content, start, end):
        if number == _DIMS and value is not None:
            dims.append(value)
        elif number == _DIMS:
            at = first
            while at < last:
                size, at = _varint(content, at)
                dims.append(size)
        elif number == _DATA_TYPE and value is not None:
            kind = value
    return math.prod(dims) if dims and kind in _WEIGHTS else 0


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int | None, int, int]]:
    """Number of each field of a message, its value when it is a varint, and where its bytes begin and end."""
    while at < end:
        tag, at = _varint(content, at)
        wire, value, start = tag & 7, None, at
        if wire == _VARINT:
            value, at = _varint(content, at)
        elif wire == _BYTES:
            size, start = _varint(content, at)
            at = start + size
        elif wire in _SIZES:
            at += _SIZES[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at > end:
            raise ValueError(f"a field beyond its message at byte {start}")
        yield tag >> 3, value, start, at


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Read a variable-length integer; its value, and where the next field begins."""
    value = shift = 0
    while (byte := content[at]) > 0x7F:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise ValueError(f"an endless number at byte {at}")
    return value | byte << shift, at + 1
