"""Batches of texts by length; which comes at a step follows from the seed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kdcompress.text_models.settings import MaskedTransformerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from kdcompress.text_models.networks import TextNetwork
    from kdcompress.text_models.settings import NetworkSettings

ELSEWHERE = -100
"""Target of places that are not learned from; what torch ignores."""
RANDOM_SHARE = SEEN_SHARE = 0.1
"""Of the hidden units, how many another one stands in the place of, and how many stay; as BERT has them."""


class TextBatch(NamedTuple):
    """What an update learns from."""

    ids: Tensor
    """Tokens of the network ``(N, L)`` int64."""
    lens: Tensor
    """How many are valid, ``(N,)`` int64."""
    targets: Tensor
    """Unit, or ``</s>``, to predict at each place, ``ELSEWHERE`` where none is; ``(N, L)`` int64."""


def batch_places(lengths: Sequence[int], most: int, seed: int) -> Iterator[list[int]]:
    """Yield places of texts, batch after batch, without end; each epoch holds every text once.

    Args:
        lengths: of the texts, with their marks.
        most: units of a batch, padding included; a longer text is alone.
        seed: decides the order.
    """
    sizes, epoch = np.asarray(lengths), 0
    while True:
        rng = np.random.default_rng((seed, epoch))
        mixed = rng.permutation(len(sizes))
        order = mixed[np.argsort(sizes[mixed], kind="stable")]
        groups: list[list[int]] = [[]]
        for place in order.tolist():
            if groups[-1] and (len(groups[-1]) + 1) * lengths[place] > most:
                groups.append([])
            groups[-1].append(place)
        for index in rng.permutation(len(groups)):
            yield groups[index]
        epoch += 1


def causal_batch(texts: Sequence[Sequence[int]], network: TextNetwork) -> TextBatch:
    """``<s> a b`` in, ``a b </s>`` out."""
    lens = torch.tensor([len(text) + 1 for text in texts])
    ids = torch.full((len(texts), int(lens.max())), network.padding)
    targets = torch.full_like(ids, ELSEWHERE)
    for row, text in enumerate(texts):
        ids[row, : len(text) + 1] = torch.tensor([network.sentence, *text])
        targets[row, : len(text) + 1] = torch.tensor([*text, network.sentence])
    return TextBatch(ids, lens, targets)


def masked_batch(
    texts: Sequence[Sequence[int]], network: TextNetwork, share: tuple[float, float], generator: torch.Generator
) -> TextBatch:
    """``<s> a _ </s>`` in, ``b`` out at its place; at least one unit of each text is hidden."""
    ids, lens = _enclosed(texts, network)
    drawn = torch.rand(ids.shape, generator=generator).masked_fill(ids >= network.num_units, 2.0)
    rate = share[0] + (share[1] - share[0]) * torch.rand(len(texts), 1, generator=generator)
    hidden = (drawn < rate) | (drawn == drawn.amin(dim=1, keepdim=True))
    targets = torch.where(hidden, ids, ELSEWHERE)
    fate = torch.rand(ids.shape, generator=generator)
    other = torch.randint(network.num_units, ids.shape, generator=generator)
    shown = torch.where(fate < RANDOM_SHARE, other, torch.where(fate < RANDOM_SHARE + SEEN_SHARE, ids, network.mask))
    return TextBatch(torch.where(hidden, shown, ids), lens, targets)


def text_batch(
    texts: Sequence[Sequence[int]], network: TextNetwork, settings: NetworkSettings, generator: torch.Generator
) -> TextBatch:
    """Batch for a kind of network."""
    if isinstance(settings, MaskedTransformerSettings):
        return masked_batch(texts, network, settings.hidden_share, generator)
    return causal_batch(texts, network)


def probe_batches(
    texts: Sequence[Sequence[int]], network: TextNetwork, most: int, every: int = 7
) -> Iterator[TextBatch]:
    """Batches that measure a network quickly, always the same; each unit is predicted once.

    Of a network that reads both ways one unit in ``every`` is hidden at a time.
    """
    order = sorted((place for place, text in enumerate(texts) if len(text)), key=lambda place: len(texts[place]))
    size = max(1, most // (max(map(len, texts), default=1) + 2))
    for start in range(0, len(order), size):
        rows = [texts[place] for place in order[start : start + size]]
        if not network.reads_both_ways:
            yield causal_batch(rows, network)
            continue
        ids, lens = _enclosed(rows, network)
        for first in range(every):
            hidden = (torch.arange(ids.shape[1]) % every == first)[None] & (ids < network.num_units)
            if bool(hidden.any()):
                yield TextBatch(torch.where(hidden, network.mask, ids), lens, torch.where(hidden, ids, ELSEWHERE))


def _enclosed(texts: Sequence[Sequence[int]], network: TextNetwork) -> tuple[Tensor, Tensor]:
    """Texts between sentence marks ``(N, L)``, and their lengths with these."""
    lens = torch.tensor([len(text) + 2 for text in texts])
    ids = torch.full((len(texts), int(lens.max())), network.padding)
    for row, text in enumerate(texts):
        ids[row, : len(text) + 2] = torch.tensor([network.sentence, *text, network.sentence])
    return ids, lens
