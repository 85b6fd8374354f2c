"""What channels and blocks are worth, measured on training batches.

Channels by the first-order Taylor criterion (Molchanov et al., arXiv 1906.10771): how much the loss would change if all
weights of a channel were zero, ``(sum of weight * gradient)^2``, added up over batches. Blocks by trying: the one
without which the loss is lowest goes first, then the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcompress.losses.ctc import ctc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcompress.hearing import Heard
    from kdcompress.network import CtcNetwork
    from kdcompress.pruning.groups import Group


def loss_on(network: CtcNetwork, heard: Heard, blank_id: int) -> Tensor:
    """CTC loss of one batch, a mean over frames."""
    said = network.outputs(heard.features, heard.frame_lens, heard.labels, heard.label_lens)
    return ctc(said.log_probs, heard.frame_lens, heard.labels, heard.label_lens, blank_id)


def channel_scores(
    network: CtcNetwork, groups: Sequence[Group], batches: Sequence[Heard], blank_id: int
) -> list[Tensor]:
    """Score every channel of every group, ``(size,)`` each; the network is left as it was."""
    parameters = dict(network.named_parameters())
    wanted = {name: parameters[name] for group in groups for name in _names(group) if name in parameters}
    before = {name: parameter.requires_grad for name, parameter in wanted.items()}
    for parameter in wanted.values():
        parameter.requires_grad_(True)
    scores = [torch.zeros(group.size) for group in groups]
    for heard in batches:
        gradients = torch.autograd.grad(loss_on(network, heard, blank_id), list(wanted.values()))
        change = {name: wanted[name].detach() * slope for name, slope in zip(wanted, gradients, strict=True)}
        found = [_summed(group, change) ** 2 for group in groups]
        scores = [score + more for score, more in zip(scores, found, strict=True)]
    for name, parameter in wanted.items():
        parameter.requires_grad_(before[name])
    return scores


def _names(group: Group) -> set[str]:
    return {piece.tensor for piece in group.slices}


def _summed(group: Group, change: dict[str, Tensor]) -> Tensor:
    """First-order change of the loss for each channel of a group."""
    total = torch.zeros(group.size)
    for piece in group.slices:
        if piece.tensor in change:
            part = change[piece.tensor].narrow(piece.axis, piece.offset, group.size)
            total += part.movedim(piece.axis, 0).flatten(1).sum(dim=1) if part.ndim > 1 else part
    return total


def mean_loss(network: CtcNetwork, batches: Sequence[Heard], blank_id: int) -> float:
    """CTC loss over the batches, no gradient."""
    with torch.no_grad():
        return sum(float(loss_on(network, heard, blank_id)) for heard in batches) / len(batches)
