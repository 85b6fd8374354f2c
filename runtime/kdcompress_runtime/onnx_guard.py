"""Refuses model files that would make onnxruntime read other files: ONNX "external data". Needs no onnx package.

Anywhere in an ONNX file a tensor may say "my bytes are in file X, at offset Y" (or even "at this address in memory").
A bundle's model carries its weights inside, so any such tensor is refused before onnxruntime sees the file: in
initialisers, sparse ones too, in attributes of nodes, in subgraphs at any depth, in functions and training graphs.

This walks the protobuf encoding, stepping over everything else by its length; weights are never looked at.
Files in onnxruntime's own format (``.ort``) need no walk: that format has no file names, and onnxruntime verifies
the flatbuffer before it uses it. It tells the two apart by the same four bytes as ``is_ort_format``.
"""

from __future__ import annotations

from kdcompress_runtime.errors import ExternalDataError, ModelError

_ORT_IDENTIFIER = b"ORTM"
_MOST_NESTED = 100
"""Depth at which protobuf itself gives up."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Which fields of which message hold messages that may hold tensors (numbers from onnx.proto).
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _SPARSE, _TENSOR = range(8)
_INSIDE: tuple[dict[int, int], ...] = (
    {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    {5: _ATTRIBUTE},
    {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    {7: _NODE, 11: _ATTRIBUTE},
    {1: _GRAPH, 2: _GRAPH},
    {1: _TENSOR, 2: _TENSOR},
    {},
)
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


class _BrokenError(Exception):
    """The bytes are not a protobuf message."""


def is_ort_format(content: bytes) -> bool:
    """Whether a model file is in onnxruntime's own format."""
    return content[4:8] == _ORT_IDENTIFIER


def refuse_external_data(content: bytes, source: str) -> None:
    """Let an ONNX or ORT file pass only when all its tensors are inside.

    Args:
        content: the file.
        source: its name, for the message.

    Raises:
        ExternalDataError: a tensor refers to data outside of the file.
        ModelError: it is neither an ONNX nor an ORT file.
    """
    if is_ort_format(content):
        return
    try:
        _walk(content, source)
    except (_BrokenError, IndexError) as error:
        why = error if isinstance(error, _BrokenError) else "it ends in the middle of a field"
        raise ModelError(f"{source}: cannot load it (no ONNX graph: {why}); export the bundle again") from error


def _walk(content: bytes, source: str) -> None:
    """Visit every message that could hold a tensor; ``waiting`` is what is still to visit."""
    waiting = [(0, len(content), _MODEL, 0)]
    while waiting:
        at, end, message, depth = waiting.pop()
        if depth > _MOST_NESTED:
            raise _BrokenError(f"messages are nested more than {_MOST_NESTED} deep")
        inside, first = _INSIDE[message], at
        while at < end:
            field, wire, value, at = _field(content, at, end)
            if wire == _BYTES and field in inside:
                waiting.append((value, at, inside[field], depth + 1))
            elif message == _TENSOR and (
                (field == _EXTERNAL_DATA and wire == _BYTES) or (field == _DATA_LOCATION and wire == _VARINT and value)
            ):
                raise ExternalDataError(
                    f"{source}: {_describe(content, first, end)} lies outside of the file, but the model of a bundle "
                    "has its weights inside; save the ONNX file without external data, and export again"
                )


def _field(content: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Read one field: its number, wire type, value (varint) or start of its bytes, and where the next one begins."""
    tag = content[at]
    at += 1
    if tag > 0x7F:
        tag, at = _varint(content, at - 1)
    wire, value = tag & 7, at
    if wire == _BYTES:
        size = content[at]
        at += 1
        if size > 0x7F:
            size, at = _varint(content, at - 1)
        value = at
        at += size
    elif wire == _VARINT:
        value, at = _varint(content, at)
    elif wire == _FIXED32:
        at += 4
    elif wire == _FIXED64:
        at += 8
    else:
        raise _BrokenError(f"wire type {wire} at byte {at - 1}")
    if tag < 8 or tag > 0xFFFFFFFF or at > end:
        raise _BrokenError(f"a field that does not fit at byte {value}")
    return tag >> 3, wire, value, at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length integer; its value, and where the next field begins."""
    value = shift = 0
    while (byte := content[at]) > 0x7F:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise _BrokenError(f"an endless number at byte {at}")
    return value | byte << shift, at + 1


def _describe(content: bytes, at: int, end: int) -> str:
    """Name of a tensor and where it says that its data is."""
    name, location = "", ""
    while at < end:
        field, wire, value, at = _field(content, at, end)
        if wire == _BYTES and field == _TENSOR_NAME:
            name = _text(content[value:at])
        elif wire == _BYTES and field == _EXTERNAL_DATA:
            pair, inner = {}, value
            while inner < at:
                number, kind, start, inner = _field(content, inner, at)
                if kind == _BYTES:
                    pair[number] = content[start:inner]
            if pair.get(_ENTRY_KEY) == b"location":
                location = _text(pair.get(_ENTRY_VALUE, b""))
    return f"the data of tensor {name}" + (f" ({location})" if location else "")


def _text(raw: bytes) -> str:
    return repr(raw[:200].decode("utf-8", errors="replace"))
