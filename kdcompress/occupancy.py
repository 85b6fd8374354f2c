"""Where a CTC posterior puts each label of a reference: forward-backward over the lattice (Graves et al., 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from kdcompress.layers import frame_mask

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -1e30
"""Log-probability of what cannot happen; finite, so that no gradient is NaN."""


def label_occupancy(
    log_probs: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor, blank_id: int = 0
) -> Tensor:
    """Posterior probability that frame t belongs to label u, given the reference.

    The gradient of the log-likelihood with respect to the log-emission of a lattice state is that state's posterior:
    one forward recursion and autograd give it exactly, also where a label is repeated.

    Args:
        log_probs: ``(N, T, V)`` natural-log probabilities; no gradient flows back.
        frame_lens: valid frames, ``(N,)`` int64.
        labels: ``(N, U)`` int64.
        label_lens: valid labels, ``(N,)`` int64.
        blank_id: id of the blank.

    Returns:
        ``(N, T, U)`` float32; sums to at most one over u (the rest is blank), and is zero in padding, and for an
        item whose reference does not fit into its frames.
    """
    items, frames, _ = log_probs.shape
    longest = labels.shape[1]
    if not longest:
        return torch.zeros((items, frames, 0), device=log_probs.device)
    states = 2 * longest + 1
    tokens = torch.full((items, states), blank_id, dtype=torch.int64, device=labels.device)
    tokens[:, 1::2] = labels
    # a label may follow another without a blank between only if the two differ
    skip = torch.zeros((items, states), dtype=torch.bool, device=labels.device)
    skip[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    with torch.enable_grad():
        emission = log_probs.detach().float().clamp(min=NEVER).gather(2, tokens[:, None, :].expand(-1, frames, -1))
        emission.requires_grad_()
        alpha = F.pad(emission[:, 0, :2], (0, states - 2), value=NEVER)
        for t in range(1, frames):
            stay = alpha
            step = F.pad(alpha[:, :-1], (1, 0), value=NEVER)
            jump = F.pad(alpha[:, :-2], (2, 0), value=NEVER).masked_fill(~skip, NEVER)
            following = torch.stack([stay, step, jump]).logsumexp(dim=0) + emission[:, t]
            alpha = torch.where((t < frame_lens)[:, None], following, alpha)
        last = torch.stack([2 * label_lens, (2 * label_lens - 1).clamp(min=0)], dim=1)
        ends = alpha.gather(1, last)
        ends = torch.where((label_lens > 0)[:, None], ends, torch.stack([ends[:, 0], ends[:, 0] + NEVER], dim=1))
        likelihood = ends.logsumexp(dim=1)
        fits = likelihood > NEVER / 2
        (posterior,) = torch.autograd.grad(likelihood[fits].sum(), emission)
    occupancy = posterior[:, :, 1::2] * frame_mask(label_lens, longest)[:, None, :]
    return torch.where(fits[:, None, None], occupancy, torch.zeros_like(occupancy))


def pooled_over_labels(values: Tensor, occupancy: Tensor) -> Tensor:
    """Average of ``values (N, T, D)`` over the frames of each label: ``(N, U, D)``; zero for a label without frames."""
    weights = occupancy / occupancy.sum(dim=1, keepdim=True).clamp(min=1e-30)
    return torch.einsum("ntu,ntd->nud", weights, values)
