"""N best texts of a teacher in the student's tokens: the way between units that share no frames (E.14 of the methods).

Texts are searched in the teacher's tokens, read as text, written as the student writes and encoded in its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kdcompress.errors import VocabularyError
from kdcompress.losses.base import Hypotheses
from kdcompress_runtime.decoders import DecoderOptions, build_decoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcompress.bridge.spelling import Spelling
    from kdcompress.data.text import Encoder
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
        # the compiled search where there is one: forty times as fast
        options = DecoderOptions(kind="beam", beam_width=BEAM_WIDTH, blank_skip=1.0)
        decoder = build_decoder(options, self.teacher)
        rows: list[tuple[int, tuple[int, ...], float]] = []
        for item, frames in enumerate(scores.cpu()):
            heard = frames[: int(said_lens[item])].numpy()
            found = decoder.nbest(decoder.advance(decoder.init_state(), heard), SIZE)
            shares = torch.tensor([hypothesis.log_prob for hypothesis in found]).softmax(dim=0).tolist()
            rows += [(item, hypothesis.token_ids, share) for hypothesis, share in zip(found, shares, strict=True)]
        return stacked(rows, log_probs.device)

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


def stacked(rows: Sequence[tuple[int, tuple[int, ...], float]], device: torch.device) -> Hypotheses:
    """Put texts, each with its item and its weight, into tensors; where there are none, an empty one of no weight."""
    items, texts, weights = zip(*(rows or [(0, (), 0.0)]), strict=True)
    lens = torch.tensor([len(tokens) for tokens in texts], device=device)
    labels = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(tokens or (0,), dtype=torch.int64) for tokens in texts], batch_first=True
    )
    return Hypotheses(
        torch.tensor(items, device=device),
        labels.to(device),
        lens,
        torch.tensor(weights, dtype=torch.float32, device=device),
    )
