"""The N best texts of each item with their scores: some bytes an item, and the search is done once for all epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from kdcompress.labels.kinds.base import LabelKind, Layout, ids_dtype, posteriors, stacked
from kdcompress.losses.base import Hypotheses
from kdcompress.losses.nbest import best_hypotheses
from kdcompress.teachers.teacher import Said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.labels.kinds.base import Arrays, Reference
    from kdcompress.losses.base import Answer


class Nbest(LabelKind):
    """Tokens of all texts one after the other, their lengths, and the logarithms of their weights, float32."""

    needs: ClassVar[tuple[Answer, ...]] = ("log_probs", "hypotheses")
    gives: ClassVar[Answer] = "hypotheses"

    def __init__(self, num_tokens: int, size: int, beam_width: int) -> None:
        self.size, self.beam_width = size, beam_width
        self.layout = {
            "tokens": Layout("tokens", ids_dtype(num_tokens - 1)),
            "token_lens": Layout("texts", "<u4"),
            "scores": Layout("texts", "<f4"),
        }

    def encode(self, said: Said, reference: Reference) -> list[Arrays]:
        """See ``LabelKind.encode``."""
        found = said.hypotheses
        if found is None:
            found = best_hypotheses(
                posteriors(said),
                said.frame_lens,
                size=self.size,
                beam_width=self.beam_width,
                blank_id=reference.blank_id,
            )
        return [self._texts(found, item) for item in range(len(said.frame_lens))]

    def _texts(self, found: Hypotheses, item: int) -> Arrays:
        mine = (found.items == item).nonzero()[:, 0]
        best = mine[found.weights[mine].argsort(descending=True, stable=True)[: self.size]]
        lens = found.label_lens[best].cpu().numpy()
        labels = found.labels[best].cpu().numpy()
        tokens = [row[:length] for row, length in zip(labels, lens, strict=True)]
        return {
            "tokens": np.concatenate([*tokens, np.zeros(0, dtype=np.int64)]).astype(self.layout["tokens"].dtype),
            "token_lens": lens.astype("<u4"),
            "scores": found.weights[best].clamp(min=1e-30).log().cpu().numpy().astype("<f4"),
        }

    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:  # noqa: ARG002
        """See ``LabelKind.decode``; the weights of an item sum to one."""
        device = frame_lens.device
        lens = np.concatenate([item["token_lens"] for item in items]).astype(np.int64)
        texts = np.split(np.concatenate([item["tokens"] for item in items]), lens.cumsum()[:-1])[: len(lens)]
        weights = [torch.from_numpy(item["scores"].astype(np.float32)).softmax(dim=0) for item in items]
        owners = np.repeat(np.arange(len(items)), [len(item["token_lens"]) for item in items])
        tokens = [text if len(text) else np.zeros(1, dtype=text.dtype) for text in texts]
        hypotheses = Hypotheses(
            torch.from_numpy(owners).to(device),
            stacked(tokens, device, torch.int64) if tokens else torch.zeros((0, 1), dtype=torch.int64, device=device),
            torch.from_numpy(lens).to(device),
            torch.cat(weights).to(device),
        )
        return Said(frame_lens, hypotheses=hypotheses)
