"""A quantised block of the teacher (MVQ-KD, Guo et al., arXiv 2211.00508): one byte a codebook and frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from kdcompress.labels.kinds.base import LabelKind, Layout, frames_of, stacked
from kdcompress.losses.codebook import NO_CODE, encode
from kdcompress.teachers.teacher import Said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.labels.kinds.base import Arrays, Reference
    from kdcompress.losses.base import Answer


class Codebook(LabelKind):
    """Indices ``(T, C)`` uint8. They cannot be averaged, so an item must be heard just as it was labelled."""

    needs: ClassVar[tuple[Answer, ...]] = ("hidden",)
    gives: ClassVar[Answer] = "codes"
    time_may_move: ClassVar[bool] = False

    def __init__(self, codebooks: int, layer: int, centroids: Tensor | None = None) -> None:
        """Quantise block ``layer`` with ``centroids (C, K, D)``, which only reading back does without."""
        self.layer, self.centroids = layer, centroids
        self.layout = {"codes": Layout("frames", "|u1", (codebooks,))}

    def encode(self, said: Said, reference: Reference) -> list[Arrays]:  # noqa: ARG002
        """See ``LabelKind.encode``.

        Raises:
            ValueError: there are no centroids.
        """
        if self.centroids is None:
            raise ValueError("codebooks that were not fitted cannot quantise")
        block = said.hidden[self.layer]
        codes = encode(block, self.centroids.to(block.device)).to(torch.uint8)
        return [{"codes": frames} for frames in frames_of(codes, said.frame_lens)]

    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:  # noqa: ARG002
        """See ``LabelKind.decode``."""
        codes = stacked([item["codes"] for item in items], frame_lens.device, torch.int64, fill=NO_CODE)
        return Said(frame_lens, codes=codes)
