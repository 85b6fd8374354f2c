"""Measurements on held-out items while training: loss for every network, error rates for those that listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jiwer
import torch

from kdcompress.losses.ctc import ctc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork
    from kdcompress_runtime.vocabulary import Vocabulary


@torch.no_grad()
def measure(
    network: CtcNetwork, batches: Iterable[Batch], vocabulary: Vocabulary, *, sees_labels: bool
) -> dict[str, float]:
    """Mean CTC loss a frame, and greedy word and character error rates in percent.

    Error rates are left out for a network that sees the labels: it has seen the answer.
    """
    device = network.feature_norm.mean.device
    training = network.training
    network.eval()
    loss, frames = 0.0, 0
    references: list[str] = []
    hypotheses: list[str] = []
    for batch in (item.to(device) for item in batches):
        frame_lens = network.frame_lens(batch.input_lens)
        log_probs = network(network.features(batch.inputs), frame_lens, batch.labels, batch.label_lens)
        total = int(frame_lens.sum())
        loss += float(ctc(log_probs, frame_lens, batch.labels, batch.label_lens, vocabulary.blank_id)) * total
        frames += total
        references += batch.texts
        hypotheses += greedy_texts(log_probs, frame_lens, vocabulary)
    network.train(training)
    measured = {"ctc": loss / frames}
    return measured if sees_labels else measured | error_rates(references, hypotheses)


def greedy_texts(log_probs: Tensor, frame_lens: Tensor, vocabulary: Vocabulary) -> list[str]:
    """Text of the best path of each item; log_probs ``(N, T, V)``."""
    best = log_probs.argmax(dim=2).cpu()
    texts = []
    for ids, length in zip(best, frame_lens.tolist(), strict=True):
        collapsed = torch.unique_consecutive(ids[:length]).tolist()
        texts.append(vocabulary.text(index for index in collapsed if index != vocabulary.blank_id))
    return texts


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Word and character error rate in percent, summed over items; items without a reference are left out."""
    pairs = [(ref, hyp) for ref, hyp in zip(references, hypotheses, strict=True) if ref.strip()]
    if not pairs:
        return {}
    refs, hyps = [ref for ref, _ in pairs], [hyp for _, hyp in pairs]
    return {"wer": 100 * float(jiwer.wer(refs, hyps)), "cer": 100 * float(jiwer.cer(refs, hyps))}
