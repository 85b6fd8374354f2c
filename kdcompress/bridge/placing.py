"""Where the characters of tokens stand: around their token's spike, in order, a blank between equal ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Sequences(NamedTuple):
    """Characters of the best paths of a batch, one after the other, and the tokens that they spell."""

    item: Tensor
    """``(M,)`` int64."""
    character: Tensor
    """In the student's tokens, ``(M,)`` int64."""
    run: Tensor
    """Token of the path that each belongs to, ``(M,)`` int64."""
    slot: Tensor
    """Its place in the token, ``(M,)`` int64."""
    spike: Tensor
    """When each token was heard, in the student's frames, ``(R,)`` float64."""
    run_item: Tensor
    """Item of each token, ``(R,)`` int64."""

    def kept(self, which: Tensor) -> Sequences:
        """Those characters for which ``which (M,)`` is true."""
        return self._replace(
            item=self.item[which], character=self.character[which], run=self.run[which], slot=self.slot[which]
        )


def place(sequences: Sequences, frame_lens: Tensor) -> Tensor:
    """Choose a frame for each character.

    Wished for is an even spread over the token's segment, from the middle between its spike and the one before to the
    middle between its spike and the one after, but no wider than is usual in the item: pauses are not spelled into. A
    single character stays at its spike. Where wishes collide the neighbours give way on both sides, no farther than
    they must (isotonic regression in the maximum norm).

    Returns:
        ``(M,)`` int64; rising in each item, by two between equal characters. All must fit, see ``without_excess``.
    """
    item = sequences.item
    taken = _taken(sequences)
    last = _last(item, taken, len(frame_lens))
    room = frame_lens - 1 - last
    # above all positions of the items before, so that one running maximum serves all items
    high = int(frame_lens.max()) * 2 * (item + 1)
    wish = _wishes(sequences, frame_lens).floor().long() - taken
    wish = torch.minimum(wish.clamp(min=0), room[item]) + high
    before = wish.cummax(0).values
    after = wish.flip(0).cummin(0).values.flip(0)
    return (before + after) // 2 - high + taken


def single_spaced(sequences: Sequences, separator: int) -> Sequences:
    """Leave out the ``separator`` at the ends of texts, and all but the first of several in a row."""
    item, space = sequences.item, sequences.character == separator
    if not bool(space.any()):
        return sequences
    follows_letter = torch.zeros_like(space)
    follows_letter[1:] = ~space[:-1] & (item[1:] == item[:-1])
    places = torch.arange(len(space), device=space.device)
    last_letter = torch.full((int(item[-1]) + 1,), -1, device=space.device)
    last_letter.scatter_reduce_(0, item, places.where(~space, -1), "amax")
    return sequences.kept(~space | (follows_letter & (places < last_letter[item])))


def without_excess(sequences: Sequences, confidence: Tensor, frame_lens: Tensor, separator: int) -> Sequences:
    """Leave out whole tokens, the least certain first, where an item has fewer frames than its characters need.

    Args:
        sequences: what is to be placed.
        confidence: of each token, ``(R,)``.
        frame_lens: of each item, ``(N,)`` int64.
        separator: space between words, of which none is left where it has lost a neighbour; -1 if there is none.
    """
    while len(sequences.item):
        taken = _taken(sequences)
        excess = _last(sequences.item, taken, len(frame_lens)) - (frame_lens - 1)
        crowded = (excess > 0)[sequences.item]
        if not bool(crowded.any()):
            break
        runs = len(sequences.run_item)
        letters = torch.bincount(sequences.run, minlength=runs)
        order = confidence.argsort(stable=True)
        order = order[sequences.run_item[order].argsort(stable=True)]
        item = sequences.run_item[order]
        gone = letters[order].cumsum(0)
        before = gone - letters[order]
        start = torch.zeros_like(frame_lens).scatter_reduce_(0, item, before, "amin", include_self=False)
        out = torch.zeros(runs, dtype=torch.bool, device=item.device)
        out[order] = before - start[item] < excess[item]
        sequences = single_spaced(sequences.kept(~out[sequences.run]), separator)
    return sequences


def _taken(sequences: Sequences) -> Tensor:
    """Earliest frame of each character, if the item's first stands in frame 0; ``(M,)`` int64."""
    item, character = sequences.item, sequences.character
    gap = torch.ones_like(item)
    gap[1:] += character[1:] == character[:-1]
    begins = torch.ones_like(item, dtype=torch.bool)
    begins[1:] = item[1:] != item[:-1]
    total = gap.cumsum(0)
    return total - total[begins][begins.cumsum(0) - 1]


def _last(item: Tensor, taken: Tensor, items: int) -> Tensor:
    """``taken`` of the last character of each item, ``(N,)``; -1 where there is none."""
    return torch.full((items,), -1, device=item.device).scatter_reduce_(0, item, taken, "amax")


def _wishes(sequences: Sequences, frame_lens: Tensor) -> Tensor:
    """Where each character would stand if it had no neighbours, ``(M,)`` float64."""
    run_item, spike, run = sequences.run_item, sequences.spike, sequences.run
    begins = torch.ones_like(run_item, dtype=torch.bool)
    begins[1:] = run_item[1:] != run_item[:-1]
    ends = begins.roll(-1)
    half = (spike - spike.roll(1)) / 2
    left, right = spike - half, spike + half.roll(-1)
    length = frame_lens[run_item].double()
    # at its ends an item may hold silence: a token reaches as far outwards as inwards
    outer_left = torch.where(ends, torch.zeros_like(spike), 2 * spike - right)
    outer_right = torch.where(begins, length, 2 * spike - left)
    left = torch.where(begins, outer_left.clamp(min=0), left)
    right = torch.where(ends, torch.minimum(outer_right, length), right)
    letters = torch.bincount(run, minlength=len(spike))
    spacing = (right - left) / letters.clamp(min=1)
    spacing = torch.minimum(spacing, _median(spacing, run_item, len(frame_lens))[run_item])
    reach = letters * spacing / 2
    middle = torch.where(letters == 1, spike, torch.maximum(torch.minimum(spike, right - reach), left + reach))
    begin = torch.full_like(letters, len(run)).scatter_reduce_(
        0, run, torch.arange(len(run), device=run.device), "amin"
    )
    place = torch.arange(len(run), device=run.device) - begin[run]
    return middle[run] + (place - (letters[run] - 1) / 2) * spacing[run]


def _median(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Lower median of the values of each group, ``(groups,)``; groups lie together, those without values get zero."""
    order = values.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    counts = torch.bincount(group, minlength=groups)
    middle = counts.cumsum(0) - counts + (counts - 1).clamp(min=0) // 2
    if not len(values):
        return values.new_zeros(groups)
    return torch.where(counts > 0, values[order][middle.clamp(max=len(values) - 1)], values.new_zeros(()))
