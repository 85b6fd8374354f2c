"""Scoring many texts at once with a network: by length, side by side, never more than the memory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

BATCH_TOKENS = 8192
"""Tokens that go through a network at once, padding included."""


class Predicted(NamedTuple):
    """What a network says at M places."""

    states: Tensor
    """``(M, D)`` float32."""
    log_probs: Tensor
    """Over the units of the inventory, ``(M, V)`` float32."""


class Readable(Protocol):
    """A network as it is scored with; ids are its own tokens."""

    before: tuple[int, ...]
    """Tokens in front of every text."""
    after: tuple[int, ...]
    """Tokens behind every text, where it reads both ways."""
    mask: int
    """Token in the place of a hidden one."""
    padding: int
    """Token behind the end."""
    batch_tokens: int
    """Tokens at once."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def states(self, ids: Tensor, lens: Tensor) -> Tensor:
        """States ``(N, L, D)`` for tokens ``(N, L)`` of which ``lens (N,)`` are valid."""

    def predict(self, ids: Tensor, lens: Tensor, rows: Tensor, columns: Tensor) -> Predicted:
        """What it says at the places ``(rows, columns)``, each ``(M,)``."""


@torch.no_grad()
def score_causal(network: Readable, texts: Sequence[Tensor]) -> list[Predicted]:
    """Score with a network that reads from left to right: one pass for all places of a text.

    The state of a place is the one it is predicted from: it has read what precedes the unit, not the unit. Where the
    network has no token in front of a text, its first unit has an even distribution and a state of zeros.

    Args:
        network: the network.
        texts: tokens of each text, ``(U,)`` int64, U at least 1, on the CPU.
    """
    found: list[Predicted | None] = [None] * len(texts)
    lead = len(network.before)
    front = torch.tensor(network.before, dtype=torch.int64)
    for places in by_length([len(text) + max(0, lead - 1) for text in texts], network.batch_tokens):
        rows = [torch.cat([front, texts[place]])[: max(1, lead + len(texts[place]) - 1)] for place in places]
        ids, lens = _side_by_side(rows, network)
        said = [torch.arange(max(0, lead - 1), len(row), device=ids.device) for row in rows]
        counts = [len(one) for one in said]
        at = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts)).to(ids.device)
        predicted = network.predict(ids, lens, at, torch.cat(said))
        states, log_probs = (torch.split(part.cpu(), counts) for part in predicted)
        for place, state, log_prob in zip(places, states, log_probs, strict=True):
            found[place] = _from_nothing(state, log_prob, len(texts[place])) if not lead else Predicted(state, log_prob)
    return [one for one in found if one is not None]


def _from_nothing(states: Tensor, log_probs: Tensor, count: int) -> Predicted:
    """Shift by one place: what is said after a unit is of the next one."""
    even = torch.full_like(log_probs[:1], 1.0).log_softmax(dim=1)
    nothing = torch.zeros_like(states[:1])
    return Predicted(torch.cat([nothing, states])[:count], torch.cat([even, log_probs])[:count])


@torch.no_grad()
def score_masked(network: Readable, texts: Sequence[Tensor]) -> list[Predicted]:
    """Score with a network that reads both ways: each unit is hidden in its turn, all others are seen.

    The state of a place is that of one more pass in which nothing is hidden.

    Args:
        network: the network.
        texts: tokens of each text, ``(U,)`` int64, U at least 1, on the CPU.
    """
    front, back = (torch.tensor(part, dtype=torch.int64) for part in (network.before, network.after))
    full = [torch.cat([front, text, back]) for text in texts]
    states = _open_states(network, full)
    # one row for each place of each text
    owner = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(text) for text in texts]))
    place = torch.cat([torch.arange(len(text)) for text in texts]) + len(front)
    lengths = [len(full[int(text)]) for text in owner]
    said = torch.empty(0)
    for chosen in by_length(lengths, network.batch_tokens):
        picked = torch.tensor(chosen)
        columns = place[picked]
        ids, lens = _side_by_side([full[int(text)] for text in owner[picked]], network)
        rows, columns = torch.arange(len(chosen), device=ids.device), columns.to(ids.device)
        ids[rows, columns] = network.mask
        log_probs = network.predict(ids, lens, rows, columns).log_probs.cpu()
        if not len(said):
            said = torch.empty(len(owner), log_probs.shape[1])
        said[picked] = log_probs
    parts = torch.split(said, [len(text) for text in texts])
    return [Predicted(state, part) for state, part in zip(states, parts, strict=True)]


def _open_states(network: Readable, full: Sequence[Tensor]) -> list[Tensor]:
    """States of the texts' own places where nothing is hidden."""
    found: dict[int, Tensor] = {}
    skipped, behind = len(network.before), len(network.after)
    for places in by_length([len(row) for row in full], network.batch_tokens):
        ids, lens = _side_by_side([full[place] for place in places], network)
        states = network.states(ids, lens).cpu()
        for row, place in enumerate(places):
            found[place] = states[row, skipped : len(full[place]) - behind].clone()
    return [found[place] for place in range(len(full))]


def by_length(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of ``lengths`` in groups of like length, each of at most ``most`` with its padding, or of one alone."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if group and (len(group) + 1) * lengths[group[0]] > most:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _side_by_side(rows: Sequence[Tensor], network: Readable) -> tuple[Tensor, Tensor]:
    """Pad rows to ``(N, L)``, with their lengths, on the network's device."""
    ids = pad_sequence(list(rows), batch_first=True, padding_value=network.padding)
    lens = torch.tensor([len(row) for row in rows])
    return ids.to(network.device), lens.to(network.device)
