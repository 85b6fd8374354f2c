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
    valid = frame_mask(label_lens, labels.shape[1])
    tokens = labels.new_full((len(labels), 2 * labels.shape[1] + 1), blank_id)
    tokens[:, 1::2] = torch.where(valid, labels, blank_id)
    # a label may follow another without a blank between only if the two differ
    skip = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.device)
    skip[:, 3::2] = tokens[:, 3::2] != tokens[:, 1:-2:2]
    found = best_states(log_probs, frame_lens, tokens, skip, 2 * label_lens)
    states = torch.where(found.states % 2 == 1, found.states // 2, -1)
    return Paths(states, found.scores, found.fits)


@torch.no_grad()
def best_states(log_probs: Tensor, frame_lens: Tensor, tokens: Tensor, skip: Tensor, last: Tensor) -> Paths:
    """Find the most plausible way through states that follow each other; a way begins and ends in either of two.

    Args:
        log_probs: ``(N, T, V)`` scores of what a state may stand for; padding may hold anything.
        frame_lens: valid frames, ``(N,)`` int64.
        tokens: what each state stands for, ``(N, S)`` int64; a way begins in state 0 or 1.
        skip: whether a state may follow the one before the state before it, ``(N, S)`` bool; of the first two ignored.
        last: the way ends here or one state before, ``(N,)`` int64; an item without frames fits if it is 0.

    Returns:
        As of ``best_paths``, but ``states`` are those of ``tokens``; -1 in padding and where nothing fits.
    """
    items, frames, _ = log_probs.shape
    if not items or not frames:
        scores = torch.zeros(items, device=log_probs.device).masked_fill(last != 0, -torch.inf)
        return Paths(tokens.new_full((items, frames), -1), scores, last == 0)
    cost = torch.where(skip, 0.0, NEVER)
    cost[:, :REACH] = NEVER
    alphas = _forward(log_probs, tokens, cost)
    scores, end = _ends(alphas, frame_lens, last)
    fits = scores > NEVER / 2
    states = _backtrace(alphas, cost, end, frame_lens)
    inside = fits[:, None] & frame_mask(frame_lens, frames)
    return Paths(torch.where(inside, states, -1), scores.masked_fill(~fits, -torch.inf), fits)


def _forward(log_probs: Tensor, tokens: Tensor, skip: Tensor) -> Tensor:
    """Best score of every state at every frame, ``(T, N, REACH + S)``; ``REACH`` in front are never reached."""
    items, states = tokens.shape
    emission = log_probs.detach().float().gather(2, tokens[:, None, :].expand(-1, log_probs.shape[1], -1))
    emission = emission.clamp_(min=NEVER).transpose(0, 1).contiguous()
    alphas = emission.new_full((len(emission), items, REACH + states), NEVER)
    alphas[0, :, REACH : REACH + 2] = emission[0, :, :2]
    for t in range(1, len(emission)):
        before, now = alphas[t - 1], alphas[t, :, REACH:]
        torch.maximum(before[:, 2:], before[:, 1:-1], out=now)
        torch.maximum(now, before[:, :-2] + skip, out=now)
        now += emission[t]
    return alphas


def _ends(alphas: Tensor, frame_lens: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the best way of each item, and the state that it ends in."""
    rows = torch.arange(alphas.shape[1], device=alphas.device)
    ends = alphas[(frame_lens - 1).clamp(min=0), rows]
    # before the first state there is one that is never reached
    before, at = (ends.gather(1, (last + REACH - back)[:, None])[:, 0] for back in (1, 0))
    scores, end = torch.maximum(at, before), last - (before > at).long()
    silent = torch.where(last == 0, 0.0, NEVER).to(scores)
    return torch.where(frame_lens > 0, scores, silent), end


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
