"""Activation checkpointing: keep the inputs of each block, and compute the rest again in the backward pass.

After Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), by ``torch.utils.checkpoint``.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from kdcompress.conformer_layers import ConformerBlock
from kdcompress.layers import BothWays, DenseConvBlock, FeatureMaps, SeparableConvBlock, Subsampling
from kdcompress.teachers.oracle import FusionBlock, LabelBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

BLOCKS = (
    Subsampling,
    SeparableConvBlock,
    DenseConvBlock,
    FeatureMaps,
    ConformerBlock,
    BothWays,
    FusionBlock,
    LabelBlock,
)
"""What is computed again as a whole; none of them holds another one."""


def recompute_blocks(model: nn.Module) -> None:
    """Let each block of ``model`` keep only its inputs while it trains, in place.

    Gradients are the same to the bit: the same dropout is drawn again, and batch norms neither count the second pass
    nor move their running statistics by it. Without gradients, and in evaluation, nothing changes.
    """
    for block in model.modules():
        if isinstance(block, BLOCKS):
            block.forward = _recomputed(block, block.forward)  # type: ignore[method-assign]


def _recomputed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_apart(block)

    def again(*given: Any) -> Any:  # noqa: ANN401 (whatever a block takes and gives)
        if not (block.training and torch.is_grad_enabled()):
            return forward(*given)
        return checkpoint(forward, *given, use_reentrant=False, context_fn=contexts)

    return again


@contextmanager
def _statistics_apart(block: nn.Module) -> Iterator[None]:
    """Let the batch norms inside ``block`` write their statistics into copies."""
    norms = [norm for norm in block.modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)]
    kept = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
