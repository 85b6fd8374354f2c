"""Sequence distillation on the teacher's N best texts (Takashima et al., 2018 and 2019): CTC on each, by its weight.

The sum of weighted CTC losses is from there; that the weights are a softmax over the scores of the N best is ours (how
they were normalised was not seen). The texts come from a beam search on the CPU in every update, which is slow: keep
``beam_width`` small. The reference is not looked at, so this also teaches from audio whose text is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.base import Answer, Hypotheses, LossConfig
from kdcompress_runtime.decoders import DecoderOptions, build_decoder
from kdcompress_runtime.vocabulary import BLANK, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcompress.losses.base import Signals


def best_hypotheses(
    log_probs: Tensor, frame_lens: Tensor, *, size: int = 4, beam_width: int = 8, blank_id: int = 0
) -> Hypotheses:
    """Search the most probable texts of each item.

    Args:
        log_probs: the teacher's, ``(N, T, V)``.
        frame_lens: valid frames, ``(N,)`` int64.
        size: texts for each item; fewer where the search drops more.
        beam_width: prefixes kept in the search.
        blank_id: id of the blank.

    Returns:
        The texts, weighted by the softmax over their log-probabilities; on the device of ``log_probs``.
    """
    # the compiled search where there is one: many times as fast
    symbols = tuple(BLANK if index == blank_id else str(index) for index in range(log_probs.shape[2]))
    options = DecoderOptions(kind="beam", beam_width=beam_width, blank_skip=1.0)
    decoder = build_decoder(options, Vocabulary(symbols))
    rows: list[tuple[int, tuple[int, ...], float]] = []
    for item, frames in enumerate(log_probs.detach().float().cpu()):
        heard = frames[: int(frame_lens[item])].numpy()
        found = decoder.nbest(decoder.advance(decoder.init_state(), heard), size)
        shares = torch.tensor([hypothesis.log_prob for hypothesis in found]).softmax(dim=0).tolist()
        rows += [(item, hypothesis.token_ids, share) for hypothesis, share in zip(found, shares, strict=True)]
    return stacked(rows, log_probs.device)


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


def nbest(log_probs: Tensor, frame_lens: Tensor, hypotheses: Hypotheses, blank_id: int = 0) -> Tensor:
    """``sum of w * CTC(hypothesis)``, divided by the number of valid frames.

    Args:
        log_probs: the student's, ``(N, T, V)``.
        frame_lens: valid frames, ``(N,)`` int64.
        hypotheses: see ``best_hypotheses``.
        blank_id: id of the blank.

    Returns:
        Scalar, float32. A hypothesis that needs more frames than there are adds nothing; an empty one asks for blanks.
    """
    nll = F.ctc_loss(
        log_probs.float()[hypotheses.items].transpose(0, 1),
        hypotheses.labels,
        frame_lens[hypotheses.items],
        hypotheses.label_lens,
        blank=blank_id,
        reduction="none",
        zero_infinity=True,
    )
    return (hypotheses.weights * nll).sum() / frame_lens.sum()


class NbestLoss(LossConfig):
    """CTC on the teacher's N best texts."""

    needs_teacher: ClassVar[bool] = True
    learns_from: ClassVar[tuple[Answer, ...]] = ("hypotheses", "log_probs")

    kind: Literal["nbest"] = "nbest"
    """Selects this loss."""
    size: int = Field(default=4, ge=1)
    """Texts for each item; with one these are pseudo-labels."""
    beam_width: int = Field(default=8, ge=1)
    """Prefixes kept in the search for them."""

    @model_validator(mode="after")
    def _check(self) -> NbestLoss:
        if self.beam_width < self.size:
            raise ValueError(f"nbest: a beam_width of {self.beam_width} cannot hold {self.size} texts")
        return self

    def __call__(self, signals: Signals) -> Tensor:
        """See ``nbest``."""
        hypotheses = signals.taught().hypotheses
        if hypotheses is None:
            hypotheses = best_hypotheses(
                signals.posteriors(),
                signals.frame_lens,
                size=self.size,
                beam_width=self.beam_width,
                blank_id=signals.blank_id,
            )
        return nbest(signals.log_probs, signals.frame_lens, hypotheses, signals.blank_id)
