"""Which slices of which tensors are one channel of a student, so that they go together or not at all.

The dependency graph of DepGraph (Fang et al., arXiv 2301.12900), written down for each family by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.errors import RunError
from kdcompress.students.chunked_conformer import ChunkedConformerStudent
from kdcompress.students.cnn import CnnStudent
from kdcompress.students.separable_conv import SeparableConvStudent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcompress.students.base import Student

_NORM = ("weight", "bias", "running_mean", "running_var")
_LAYER_NORM = ("weight", "bias")


@dataclass(frozen=True)
class Slice:
    """A stretch of one axis of a tensor that belongs to the channels of a group, one entry a channel."""

    tensor: str
    """Name in the network's ``state_dict``."""
    axis: int
    offset: int = 0
    """First entry; others of the axis belong to other groups."""


@dataclass(frozen=True)
class Group:
    """Channels that exist in several tensors at once."""

    size: int
    """Channels."""
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Groups:
    """All channels of a student that can be removed; the same share goes from every group of a kind."""

    inner: tuple[Group, ...]
    """Channels inside a block, which nothing else reads."""
    width: tuple[Group, ...]
    """Channels of the stream that runs through all blocks, and what must be as wide."""


def groups_of(network: Student) -> Groups:
    """Return the groups of a student.

    Raises:
        RunError: a family for which nobody has written them down.
    """
    if isinstance(network, SeparableConvStudent):
        return _separable(network)
    if isinstance(network, CnnStudent):
        return _cnn(network)
    if isinstance(network, ChunkedConformerStudent):
        return _conformer(network)
    raise RunError(f"{type(network).__name__}: cannot be pruned; its groups of channels are not known")


def depthwise_name(network: Student) -> str:
    """Name, inside a block, of the kernel over time that looks ahead."""
    if isinstance(network, ChunkedConformerStudent):
        return "convolution.depthwise.weight"
    return "conv.weight" if isinstance(network, CnnStudent) else "depthwise.weight"


def _slices(axis: int, *names: str, offset: int = 0) -> list[Slice]:
    return [Slice(name, axis, offset) for name in names]


def _norms(names: Iterable[str], parts: tuple[str, ...] = _NORM) -> list[Slice]:
    return _slices(0, *(f"{name}.{part}" for name in names for part in parts))


def _separable(network: SeparableConvStudent) -> Groups:
    inner, stream = (
        [],
        [
            *_slices(0, "subsampling.conv.weight"),
            *_norms(["subsampling.norm"]),
            *_slices(1, "head.weight"),
        ],
    )
    shapes = network.state_dict()
    for index in range(len(network.blocks)):
        block = f"blocks.{index}"
        stream += [
            *_slices(0, f"{block}.depthwise.weight", f"{block}.project.weight"),
            *_slices(1, f"{block}.expand.weight"),
            *_norms([f"{block}.depthwise_norm", f"{block}.project_norm"]),
        ]
        slices = _slices(0, f"{block}.expand.weight", f"{block}.expand.bias") + _slices(1, f"{block}.project.weight")
        inner.append(Group(len(shapes[f"{block}.expand.bias"]), tuple(slices)))
    return Groups(tuple(inner), (Group(network.head.in_channels, tuple(stream)),))


def _cnn(network: CnnStudent) -> Groups:
    maps = [("first_maps", "second_maps.conv"), ("second_maps", "join")]
    inner = [
        Group(
            network.second_maps.conv.in_channels,
            (*_slices(0, f"{name}.conv.weight"), *_norms([f"{name}.norm"]), *_slices(1, f"{reader}.weight")),
        )
        for name, reader in maps
    ]
    blocks = [f"blocks.{index}" for index in range(len(network.blocks))]
    kernels = [f"{block}.conv.weight" for block in blocks]
    stream = [
        *_slices(0, "join.weight", *kernels),
        *_slices(1, *kernels, "head.weight"),
        *_norms(["join_norm", *(f"{block}.norm" for block in blocks)]),
    ]
    return Groups(tuple(inner), (Group(network.head.in_channels, tuple(stream)),))


def _conformer(network: ChunkedConformerStudent) -> Groups:
    shapes = network.state_dict()
    inner: list[Group] = []
    others: list[Group] = []
    stream = [
        *_slices(0, "subsampling.project.weight", "subsampling.project.bias"),
        *_norms(["subsampling.norm", "norm"], _LAYER_NORM),
        *_slices(1, "head.weight"),
    ]
    for index in range(len(network.blocks)):
        block = f"blocks.{index}"
        parts = [f"{block}.{part}" for part in ("before", "attention", "convolution", "after")]
        readers = [f"{block}.{name}.weight" for name in ("before.expand", "convolution.expand", "after.expand")]
        stream += [
            *_norms([f"{part}.norm" for part in parts], _LAYER_NORM),
            *_slices(0, *(f"{part}.project.{kind}" for part in parts for kind in ("weight", "bias"))),
            *_slices(1, *readers, f"{block}.attention.query_key_value.weight"),
        ]
        for part in (parts[0], parts[3]):
            slices = _slices(0, f"{part}.expand.weight", f"{part}.expand.bias") + _slices(1, f"{part}.project.weight")
            inner.append(Group(len(shapes[f"{part}.expand.bias"]), tuple(slices)))
        others += [*_attention(parts[1], network.width, network.heads), _gated(parts[2], network.width)]
    return Groups(tuple(inner), (Group(network.width, tuple(stream)), *others))


def _attention(name: str, width: int, heads: int) -> list[Group]:
    """Dimensions of queries and keys, and of values, of each head: every head keeps as many."""
    mixed = (f"{name}.query_key_value.weight", f"{name}.query_key_value.bias")
    size = width // heads
    found = []
    for start in range(0, width, size):
        scores = _slices(0, *mixed, offset=start) + _slices(0, *mixed, offset=width + start)
        values = _slices(0, *mixed, offset=2 * width + start) + _slices(1, f"{name}.project.weight", offset=start)
        found += [Group(size, tuple(scores)), Group(size, tuple(values))]
    return found


def _gated(name: str, width: int) -> Group:
    """Channels between the gate and the way out of a gated convolution."""
    mixed = (f"{name}.expand.weight", f"{name}.expand.bias")
    slices = [
        *_slices(0, *mixed),
        *_slices(0, *mixed, offset=width),
        *_slices(0, f"{name}.depthwise.weight"),
        *_norms([f"{name}.depthwise_norm"]),
        *_slices(1, f"{name}.project.weight"),
    ]
    return Group(width, tuple(slices))
