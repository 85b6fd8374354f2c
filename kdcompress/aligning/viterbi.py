"""The most plausible CTC path for a reference: Viterbi over the lattice of labels and blanks (Graves et al., 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcompress.layers import frame_mask
from kdcompress.occupancy import NEVER

if TYPE_CHECKING:
    from torch import Tensor

REACH = 2
"""States that a path can skip forward by: from a label over the blank to the next one."""


class Paths(NamedTuple):
    """Best paths of a batch."""

    states: Tensor
    """Label that each frame belongs to, ``(N, T)`` int64: its place in the reference, from 0; -1 for blank, padding,
    and everywhere in an item whose reference does not fit."""
    scores: Tensor
    """Log-probability of each path, ``(N,)`` float32, natural; minus infinity where there is none."""
    fits: Tensor
    """Whether there is a path of probability above zero, ``(N,)`` bool; not with more labels than frames."""


@torch.no_grad()
def best_paths(log_probs: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor, blank_id: int = 0) -> Paths:
    """Find the most plausible path of each item; exact. Of equal ones that which stays longer in later labels.

    Args:
        log_probs: ``(N, T, V)`` natural-log scores; they need not be normalised, padding may hold anything.
        frame_lens: valid frames, ``(N,)`` int64.
        labels: ``(N, U)`` int64; padding may hold anything.
        label_lens: valid labels, ``(N,)`` int64.
        blank_id: id of the blank.

    Returns:
        See ``Paths``; without gradient, where ``log_probs`` are.
    """
    items, frames, _ = log_probs.shape
    if not items or not frames:
        fits = label_lens == 0
        scores = torch.zeros(items, device=log_probs.device).masked_fill(~fits, -torch.inf)
        return Paths(labels.new_full((items, frames), -1), scores, fits)
    valid = frame_mask(label_lens, labels.shape[1])
    tokens = labels.new_full((items, 2 * labels.shape[1] + 1), blank_id)
    tokens[:, 1::2] = torch.where(valid, labels, blank_id)
    alphas, skip = _forward(log_probs, tokens)
    scores, last = _ends(alphas, frame_lens, label_lens)
    fits = scores > NEVER / 2
    states = _backtrace(alphas, skip, last, frame_lens)
    states = torch.where(fits[:, None] & (states % 2 == 1), states // 2, -1)
    return Paths(states, scores.masked_fill(~fits, -torch.inf), fits)


def _forward(log_probs: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recursion.

    Returns:
        Best score of every state at every frame, ``(T, N, REACH + S)`` with ``REACH`` in front that are never reached;
        and what skipping the blank before a state costs, ``(N, S)``: nothing before a label unlike the one before it.
    """
    items, states = tokens.shape
    skip = torch.full((items, states), NEVER, device=log_probs.device)
    skip[:, 3::2].masked_fill_(tokens[:, 3::2] != tokens[:, 1:-2:2], 0.0)
    emission = log_probs.detach().float().gather(2, tokens[:, None, :].expand(-1, log_probs.shape[1], -1))
    emission = emission.clamp_(min=NEVER).transpose(0, 1).contiguous()
    alphas = emission.new_full((len(emission), items, REACH + states), NEVER)
    alphas[0, :, REACH : REACH + 2] = emission[0, :, :2]
    for t in range(1, len(emission)):
        before, now = alphas[t - 1], alphas[t, :, REACH:]
        torch.maximum(before[:, 2:], before[:, 1:-1], out=now)
        torch.maximum(now, before[:, :-2] + skip, out=now)
        now += emission[t]
    return alphas, skip


def _ends(alphas: Tensor, frame_lens: Tensor, label_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the best path of each item, and the state that it ends in: the last label, or the blank after it."""
    rows = torch.arange(alphas.shape[1], device=alphas.device)
    ends = alphas[(frame_lens - 1).clamp(min=0), rows]
    # where there is no label, the state before the first blank is one that is never reached
    label = ends.gather(1, (2 * label_lens - 1 + REACH)[:, None])[:, 0]
    blank = ends.gather(1, (2 * label_lens + REACH)[:, None])[:, 0]
    scores, last = torch.maximum(blank, label), 2 * label_lens - (label > blank).long()
    silent = torch.where(label_lens == 0, 0.0, NEVER).to(scores)
    return torch.where(frame_lens > 0, scores, silent), last


def _backtrace(alphas: Tensor, skip: Tensor, last: Tensor, frame_lens: Tensor) -> Tensor:
    """State of each frame on the best path, ``(N, T)`` int64; 0, a blank, in padding."""
    steps, rows = torch.arange(REACH + 1, device=alphas.device), torch.arange(len(last), device=alphas.device)
    found = last.new_zeros((len(alphas), len(last)))
    state = last
    for t in range(len(alphas) - 1, 0, -1):
        inside = t < frame_lens
        found[t] = torch.where(inside, state, 0)
        sources = alphas[t - 1].gather(1, state[:, None] + REACH - steps)
        sources[:, 2] += skip[rows, state]
        state = torch.where(inside, state - sources.argmax(dim=1), state).clamp(min=0)
    found[0] = torch.where(frame_lens > 0, state, 0)
    return found.transpose(0, 1)
