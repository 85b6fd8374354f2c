"""What a kind of stored label is: an answer becomes a few arrays for each item, and these become an answer again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.losses.base import Answer
    from kdcompress.teachers.teacher import Said

    Arrays = dict[str, NDArray[Any]]
    """What is stored of one item, by the names of ``LabelKind.layout``."""

SMALLEST_LOG_PROB = -60000.0
"""Just within float16; the logarithm of nothing would otherwise be minus infinity."""


class Layout(NamedTuple):
    """One of the arrays that are stored of an item."""

    axis: str
    """What its rows are: ``frames``, or something else that several arrays may share."""
    dtype: str
    """As numpy writes it, little-endian."""
    shape: tuple[int, ...] = ()
    """Of one row."""


@dataclass(frozen=True)
class Reference:
    """Texts of a batch in the teacher's tokens."""

    labels: Tensor
    """``(N, U)`` int64."""
    label_lens: Tensor
    """``(N,)`` int64."""
    blank_id: int
    """Of the teacher."""


class LabelKind(ABC):
    """A way to store a teacher's answers; one small file each."""

    needs: ClassVar[tuple[Answer, ...]]
    """Fields of a teacher's answers any one of which will do."""
    gives: ClassVar[Answer]
    """Field of the answers that are read back."""
    needs_reference: ClassVar[bool] = False
    """Whether the reference must be written in the teacher's tokens."""
    time_may_move: ClassVar[bool] = True
    """Whether an item may be heard faster, slower or later than it was labelled."""
    layout: dict[str, Layout]
    """The arrays of an item."""

    @abstractmethod
    def encode(self, said: Said, reference: Reference) -> list[Arrays]:
        """Return what to store of each item of an answer."""

    @abstractmethod
    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:
        """Turn stored items into an answer on the device of ``frame_lens``.

        Args:
            items: as ``encode`` made them.
            frame_lens: frames of each, ``(N,)`` int64.
            labels: width of the batch's references, for answers about them.
        """


def posteriors(said: Said) -> Tensor:
    """Log-probabilities of an answer, ``(N, T, V)``.

    Raises:
        ValueError: it has none.
    """
    if said.log_probs is None:
        raise ValueError("these labels are made from posteriors, and the teacher gives none")
    return said.log_probs


def frames_of(tensor: Tensor, frame_lens: Tensor) -> list[NDArray[Any]]:
    """Valid frames of each item of ``(N, T, ...)``, on the CPU."""
    rows = tensor.cpu().numpy()
    return [row[:length] for row, length in zip(rows, frame_lens.tolist(), strict=True)]


def stacked(rows: Sequence[NDArray[Any]], device: torch.device, dtype: torch.dtype, fill: float = 0) -> Tensor:
    """Items of different lengths side by side, padded with ``fill``: ``(N, longest, ...)``."""
    longest = max(len(row) for row in rows)
    # torch computes little with unsigned integers
    kept = np.int64 if rows[0].dtype.kind == "u" else rows[0].dtype
    padded = np.full((len(rows), longest, *rows[0].shape[1:]), fill, dtype=kept)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded).to(device=device, dtype=dtype)


def ids_dtype(largest: int) -> str:
    """Return the smallest of two unsigned types that holds ids up to ``largest``."""
    return "<u2" if largest <= np.iinfo(np.uint16).max else "<u4"
