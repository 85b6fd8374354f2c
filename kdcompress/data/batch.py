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
    streams: Tensor
    """Which teacher's answer each item is paired with under ``multi_stream``, ``(N,)`` int64; zeros otherwise."""
    teacher_inputs: Tensor | None = None
    """The same items as teachers hear them, where that differs: speech of a higher sample rate."""
    teacher_input_lens: Tensor | None = None
    """Valid units of each of these, ``(N,)`` int64."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            input_lens=self.input_lens.to(device),
            labels=self.labels.to(device),
            label_lens=self.label_lens.to(device),
            streams=self.streams.to(device),
            teacher_inputs=None if self.teacher_inputs is None else self.teacher_inputs.to(device),
            teacher_input_lens=None if self.teacher_input_lens is None else self.teacher_input_lens.to(device),
        )

    def as_the_teacher_hears_it(self) -> Batch:
        """Return the batch with the teachers' inputs in place of the student's, if they have some of their own."""
        if self.teacher_inputs is None or self.teacher_input_lens is None:
            return self
        return replace(self, inputs=self.teacher_inputs, input_lens=self.teacher_input_lens)


def collate(
    inputs: Sequence[NDArray[np.float32]],
    labels: Sequence[Sequence[int]],
    texts: Sequence[str],
    seeds: Sequence[int],
    *,
    streams: Sequence[int] | None = None,
    teacher_inputs: Sequence[NDArray[np.float32]] | None = None,
) -> Batch:
    """Pad inputs (along their first axis) and labels to the longest of the batch."""
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
        teacher_inputs=_padded(teacher_inputs) if teacher_inputs else None,
        teacher_input_lens=torch.tensor([len(item) for item in teacher_inputs]) if teacher_inputs else None,
    )


def _padded(inputs: Sequence[NDArray[np.float32]]) -> Tensor:
    longest = max(len(item) for item in inputs)
    padded = np.zeros((len(inputs), longest, *inputs[0].shape[1:]), dtype=np.float32)
    for row, item in zip(padded, inputs, strict=True):
        row[: len(item)] = item
    return torch.from_numpy(padded)
