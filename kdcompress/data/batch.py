"""Batches: what the training loop sees, whatever the inputs are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Padded items side by side."""

    inputs: Tensor
    """Inputs padded with zeros; for speech ``(N, samples)`` float32 in [-1, 1], for features ``(N, frames, F)``."""
    input_lens: Tensor
    """Valid units of each input, ``(N,)`` int64."""
    labels: Tensor
    """Token ids padded with zeros, ``(N, U)`` int64."""
    label_lens: Tensor
    """Valid labels, ``(N,)`` int64."""
    texts: tuple[str, ...]
    """References as the manifest gives them."""
    seeds: tuple[int, ...]
    """Seed of each item's randomness in this step, so that masks do not depend on how a batch is divided."""
    streams: Tensor
    """Which teacher's answer each item is paired with under ``multi_stream``, ``(N,)`` int64; zeros otherwise."""
    items: Tensor
    """Place of each item among the entries of its manifest, from 0, ``(N,)`` int64."""
    times: Tensor
    """``(N, 2)`` float64, factor and offset: what is heard at time t (seconds for audio, input units elsewhere) is at
    ``factor * t - offset`` in the item as the manifest has it: its speed, and its lead-in."""
    sample_rate: int | None = None
    """Hz of ``inputs``; None for inputs that are no audio."""
    words: tuple[str, ...] = ()
    """References in words, where ``texts`` are phones or the like; see ``wording``. Empty: they are ``texts``."""
    sources: tuple[str, ...] = ()
    """Inputs as the manifest gives them, where they are sentences."""
    others: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Inputs and their lengths at the other sample rates that teachers hear at."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            input_lens=self.input_lens.to(device),
            labels=self.labels.to(device),
            label_lens=self.label_lens.to(device),
            streams=self.streams.to(device),
            others={rate: (inputs.to(device), lens.to(device)) for rate, (inputs, lens) in self.others.items()},
        )

    def part(self, start: int, stop: int) -> Batch:
        """Return the items from ``start`` to ``stop``, padded as they are here."""
        chosen = slice(start, stop)
        return replace(
            self,
            inputs=self.inputs[chosen],
            input_lens=self.input_lens[chosen],
            labels=self.labels[chosen],
            label_lens=self.label_lens[chosen],
            texts=self.texts[chosen],
            seeds=self.seeds[chosen],
            streams=self.streams[chosen],
            items=self.items[chosen],
            times=self.times[chosen],
            words=self.words[chosen],
            sources=self.sources[chosen],
            others={rate: (inputs[chosen], lens[chosen]) for rate, (inputs, lens) in self.others.items()},
        )

    def padded(self, units: int) -> Batch:
        """Return the batch with ``inputs`` padded to ``units``, at least what they are."""
        short = units - self.inputs.shape[1]
        if not short:
            return self
        silence = self.inputs.new_zeros((len(self.inputs), short, *self.inputs.shape[2:]))
        return replace(self, inputs=torch.cat([self.inputs, silence], dim=1))

    def at_rate(self, sample_rate: int) -> Batch:
        """Return the batch as a teacher of that sample rate hears it; the same noise, the same moments.

        Raises:
            KeyError: it was not read for that rate.
        """
        if sample_rate == self.sample_rate:
            return self
        inputs, lens = self.others[sample_rate]
        return replace(self, inputs=inputs, input_lens=lens, sample_rate=sample_rate)


def collate(
    inputs: Sequence[NDArray[np.float32]],
    labels: Sequence[Sequence[int]],
    texts: Sequence[str],
    seeds: Sequence[int],
    *,
    items: Sequence[int],
    times: Sequence[tuple[float, float]] | None = None,
    streams: Sequence[int] | None = None,
    sample_rate: int | None = None,
    words: Sequence[str] = (),
    sources: Sequence[str] = (),
    others: Mapping[int, Sequence[NDArray[np.float32]]] | None = None,
) -> Batch:
    """Pad inputs (along their first axis) and labels to the longest of the batch; no ``times``: as in the manifest."""
    ids = np.zeros((len(labels), max(1, *(len(item) for item in labels))), dtype=np.int64)
    for row, item_labels in zip(ids, labels, strict=True):
        row[: len(item_labels)] = item_labels
    return Batch(
        inputs=_padded(inputs),
        input_lens=torch.tensor([len(item) for item in inputs]),
        labels=torch.from_numpy(ids),
        label_lens=torch.tensor([len(item) for item in labels]),
        texts=tuple(texts),
        seeds=tuple(seeds),
        streams=torch.tensor(streams or [0] * len(inputs)),
        items=torch.tensor(items),
        times=torch.tensor(times or [(1.0, 0.0)] * len(inputs), dtype=torch.float64),
        sample_rate=sample_rate,
        words=tuple(words),
        sources=tuple(sources),
        others={
            rate: (_padded(heard), torch.tensor([len(item) for item in heard]))
            for rate, heard in (others or {}).items()
        },
    )


def _padded(inputs: Sequence[NDArray[np.float32]]) -> Tensor:
    longest = max(len(item) for item in inputs)
    padded = np.zeros((len(inputs), longest, *inputs[0].shape[1:]), dtype=np.float32)
    for row, item in zip(padded, inputs, strict=True):
        row[: len(item)] = item
    return torch.from_numpy(padded)
