"""Batches: what the training loop sees, whatever the inputs are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Padded items side by side."""

    inputs: Tensor
    """Raw inputs padded with zeros; for speech ``(N, samples)`` float32 in [-1, 1]."""
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

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            input_lens=self.input_lens.to(device),
            labels=self.labels.to(device),
            label_lens=self.label_lens.to(device),
        )


def collate(
    inputs: Sequence[NDArray[np.float32]],
    labels: Sequence[Sequence[int]],
    texts: Sequence[str],
    seeds: Sequence[int],
) -> Batch:
    """Pad inputs (along their first axis) and labels to the longest of the batch."""
    longest = max(len(item) for item in inputs)
    padded = np.zeros((len(inputs), longest, *inputs[0].shape[1:]), dtype=np.float32)
    for row, item in zip(padded, inputs, strict=True):
        row[: len(item)] = item
    ids = np.zeros((len(labels), max(1, *(len(item) for item in labels))), dtype=np.int64)
    for row, item_labels in zip(ids, labels, strict=True):
        row[: len(item_labels)] = item_labels
    return Batch(
        inputs=torch.from_numpy(padded),
        input_lens=torch.tensor([len(item) for item in inputs]),
        labels=torch.from_numpy(ids),
        label_lens=torch.tensor([len(item) for item in labels]),
        texts=tuple(texts),
        seeds=tuple(seeds),
    )
