"""The k most probable tokens of each frame: 4 k bytes a frame, whatever the size of the vocabulary.

What they leave needs no storage, because it is one minus their sum; read back, it is spread evenly over the other
tokens, so that the mass which a student is asked to leave to them is the teacher's (the tail bin of essence
distillation; dropping it and renormalising would teach another distribution).
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from kdcompress.labels.kinds.base import SMALLEST_LOG_PROB, LabelKind, Layout, frames_of, ids_dtype, posteriors, stacked
from kdcompress.teachers.teacher import Said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.labels.kinds.base import Arrays, Reference
    from kdcompress.losses.base import Answer

LEAST_TAIL = 1e-6
"""Mass of the other tokens together where rounding leaves them less: float16 does not know it better."""


class TopK(LabelKind):
    """Ids ``(T, k)`` uint16 (uint32 above 65,536 tokens) and log-probabilities ``(T, k)`` float16."""

    needs: ClassVar[tuple[Answer, ...]] = ("log_probs",)
    gives: ClassVar[Answer] = "log_probs"

    def __init__(self, num_tokens: int, top_k: int) -> None:
        self.num_tokens, self.top_k = num_tokens, min(top_k, num_tokens)
        self.layout = {
            "ids": Layout("frames", ids_dtype(num_tokens - 1), (self.top_k,)),
            "log_probs": Layout("frames", "<f2", (self.top_k,)),
        }

    def encode(self, said: Said, reference: Reference) -> list[Arrays]:  # noqa: ARG002
        """See ``LabelKind.encode``."""
        log_probs, ids = posteriors(said).topk(self.top_k, dim=2)
        kept = frames_of(log_probs.clamp(min=SMALLEST_LOG_PROB).half(), said.frame_lens)
        which = frames_of(ids, said.frame_lens)
        dtype = self.layout["ids"].dtype
        return [{"ids": tokens.astype(dtype), "log_probs": row} for tokens, row in zip(which, kept, strict=True)]

    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:  # noqa: ARG002
        """See ``LabelKind.decode``; every frame sums to one, padding holds anything."""
        device = frame_lens.device
        ids = stacked([item["ids"] for item in items], device, torch.int64)
        kept = stacked([item["log_probs"] for item in items], device, torch.float32)
        return Said(frame_lens, spread(ids, kept, self.num_tokens))


def spread(ids: Tensor, kept: Tensor, num_tokens: int) -> Tensor:
    """Log-probabilities ``(N, T, V)`` of which ``kept (N, T, k)`` belong to ``ids``; the rest shares what is left."""
    others = num_tokens - ids.shape[2]
    mass = kept.exp().sum(dim=2, keepdim=True)
    if not others:
        # padding writes to one token alone
        empty = torch.zeros((*ids.shape[:2], num_tokens), device=ids.device)
        return empty.scatter_(2, ids, kept - mass.log())
    tail = (1 - mass).clamp(min=LEAST_TAIL)
    # rounded to float16, what is kept may sum to more than one
    whole = (mass + tail).log()
    dense = (tail.log() - whole - log(others)).repeat(1, 1, num_tokens)
    return dense.scatter_(2, ids, kept - whole)
