"""Cutting a student down: weights of the smaller model from those of the larger one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcompress.pruning.groups import Group, depthwise_name
from kdcompress.students.base import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress.students.base import Student

Weights = dict[str, Tensor]
"""A network's ``state_dict``."""


def without_channels(weights: Mapping[str, Tensor], removed: Sequence[tuple[Group, Tensor]]) -> Weights:
    """Weights without some channels of some groups.

    Args:
        weights: of the larger model; not changed.
        removed: groups, and for each the channels to remove: True in a mask ``(size,)``.
    """
    kept: dict[tuple[str, int], Tensor] = {}
    for group, mask in removed:
        for piece in group.slices:
            whole = torch.ones(weights[piece.tensor].shape[piece.axis], dtype=torch.bool)
            stays = kept.setdefault((piece.tensor, piece.axis), whole)
            stays[piece.offset : piece.offset + group.size] &= ~mask
    smaller = dict(weights)
    for (name, axis), stays in kept.items():
        smaller[name] = smaller[name].index_select(axis, stays.nonzero()[:, 0]).contiguous()
    return smaller


def without_blocks(weights: Mapping[str, Tensor], network: Student, kept: Sequence[int]) -> Weights:
    """Weights with the blocks ``kept`` alone, renumbered.

    The look-ahead of the model stays, so each block that is left looks further ahead. Its kernel moves along: every
    tap stays with the frame that it was trained on, the oldest ones fall out, and new ones for later frames are zero.
    """
    depth, lookahead = len(network.hidden_dims), network.lookahead_frames
    before, after = spread(lookahead, depth), spread(lookahead, len(kept))
    places = {old: new for new, old in enumerate(kept)}
    found: Weights = {}
    for name, tensor in weights.items():
        block = re.match(r"blocks\.(\d+)\.(.*)", name)
        if block is None:
            found[name] = tensor
        elif int(block[1]) in places:
            old, new = int(block[1]), places[int(block[1])]
            moved = block[2] == depthwise_name(network)
            found[f"blocks.{new}.{block[2]}"] = later(tensor, after[new] - before[old]) if moved else tensor
    return found


def later(kernel: Tensor, frames: int) -> Tensor:
    """Kernel over time ``(..., K)`` whose taps are ``frames`` places earlier, zeros behind them."""
    if frames == 0:
        return kernel
    moved = torch.zeros_like(kernel)
    if frames < kernel.shape[-1]:
        moved[..., : kernel.shape[-1] - frames] = kernel[..., frames:]
    return moved
