"""N best texts of a teacher in the student's tokens: the way between units that share no frames (E.14 of the methods).

Texts are searched in the teacher's tokens, read as text, written as the student writes and encoded in its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kdcompress.errors import VocabularyError
from kdcompress.losses.nbest import best_hypotheses, stacked

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.bridge.spelling import Spelling
    from kdcompress.data.text import Encoder
    from kdcompress.losses.base import Hypotheses
    from kdcompress_runtime.vocabulary import Vocabulary

SIZE = 4
"""Texts of each item, as the loss ``nbest`` takes them."""
BEAM_WIDTH = 8
"""Prefixes kept in the search for them."""


@dataclass(frozen=True)
class Texts:
    """Writes a teacher's texts in the student's tokens."""

    teacher: Vocabulary
    spelling: Spelling
    encode: Encoder
    dropped: Tensor
    """Tokens of the teacher that no text holds, ``(V',)`` bool."""

    def searched(self, log_probs: Tensor, said_lens: Tensor) -> Hypotheses:
        """Search the most probable texts, in the teacher's tokens; ``log_probs (N, T', V')``."""
        scores = log_probs.float()
        if bool(self.dropped.any()):
            scores = scores.masked_fill(self.dropped.to(scores.device), -torch.inf).log_softmax(dim=2)
            silence = torch.full_like(scores[0, 0], -torch.inf)
            silence[self.teacher.blank_id] = 0
            scores = torch.where(scores.isnan(), silence, scores)
        blank = self.teacher.blank_id
        return best_hypotheses(scores, said_lens, size=SIZE, beam_width=BEAM_WIDTH, blank_id=blank)

    def __call__(self, hypotheses: Hypotheses) -> tuple[Hypotheses, int]:
        """Write texts in the student's tokens.

        Returns:
            Those that can be written; texts of an item that become the same are one, and weights sum to one again. An
            item may be left without any. If nothing can be written at all, there is one empty text of weight zero: a
            loss needs one to return something. And the number of those that were left out.
        """
        weights: dict[tuple[int, tuple[int, ...]], float] = {}
        lost = 0
        rows = zip(
            hypotheses.items.tolist(),
            hypotheses.labels.tolist(),
            hypotheses.label_lens.tolist(),
            hypotheses.weights.tolist(),
            strict=True,
        )
        for item, labels, length, weight in rows:
            tokens = self._written(labels[:length])
            if tokens is None:
                lost += 1
            else:
                weights[item, tokens] = weights.get((item, tokens), 0.0) + weight
        total: dict[int, float] = {}
        for (item, _), weight in weights.items():
            total[item] = total.get(item, 0.0) + weight
        shares = [(item, tokens, weight / max(total[item], 1e-30)) for (item, tokens), weight in weights.items()]
        return stacked(shares, hypotheses.items.device), lost

    def _written(self, labels: list[int]) -> tuple[int, ...] | None:
        text = self.spelling.text(self.teacher.text(labels))
        if text is None:
            return None
        try:
            return self.encode(text)
        except VocabularyError:
            return None
