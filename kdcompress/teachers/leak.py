"""Leak tests: does an Oracle Teacher listen, or does it copy the reference it is shown?

Each test changes one of its two inputs and counts how many words of a reference come out all the same.
These are no recognition rates: the teacher has seen the reference. A network that sees no reference cannot copy;
for it, noise and shuffled frames say what comes out by chance, and the padding test counts all the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import jiwer
import torch

from kdcompress.layers import frame_mask
from kdcompress.measure import greedy_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork
    from kdcompress_runtime.vocabulary import Vocabulary

COPIES_FROM = 20.0
"""Share of words from pure noise, in percent, from which the verdict is that the teacher copies."""


@dataclass(frozen=True)
class LeakReport:
    """Shares in percent of reference words that come out; None where there is no other reference to show."""

    noise_source: float
    """Of the given reference, when the input is noise: copied (or chance), since nothing was said."""
    shuffled_frames: float
    """Of the given reference, when the input's frames are in random order."""
    empty_reference_true: float | None
    """Of the true text, when no reference is given: heard."""
    wrong_reference_given: float | None
    """Of a wrong reference that is given with the input: copied."""
    wrong_reference_true: float | None
    """Of the true text under a wrong reference: heard against the reference."""
    padding_difference: float
    """Largest change of a log-probability when padding is added on both sides; must be near zero."""

    @property
    def verdict(self) -> str:
        """One line: listens or copies, and by what."""
        noise = f"{self.noise_source:.0f} % of the words come out of pure noise"
        if self.empty_reference_true is None:
            return f"cannot copy: it sees no reference; {noise}"
        word = "copies" if self.noise_source >= COPIES_FROM else "listens"
        wrong = self.wrong_reference_given
        return f"{word}: {noise}" + ("" if wrong is None else f", {wrong:.0f} % of a wrong reference")

    def to_json(self) -> dict[str, float | str | None]:
        """Fields and verdict."""
        return {**asdict(self), "verdict": self.verdict}


OTHER_REFERENCES = ("empty_reference_true", "wrong_reference_given", "wrong_reference_true")
"""Fields of the tests that show none, or the reference of another item."""


@torch.no_grad()
def leak_report(
    network: CtcNetwork, batches: Iterable[Batch], vocabulary: Vocabulary, seed: int = 0, *, sees_labels: bool = True
) -> LeakReport:
    """Run every leak test on held-out batches; the network is left in evaluation mode.

    Args:
        network: what is tested.
        batches: each with several items, so that one can be shown the reference of another.
        vocabulary: of the network.
        seed: of noise and order.
        sees_labels: whether the network looks at the reference; the tests that change it are left out if not.
    """
    network.eval()
    device = network.feature_norm.mean.device
    generator = torch.Generator().manual_seed(seed)
    words: dict[str, list[tuple[str, str]]] = {}
    difference = 0.0
    for batch in (item.to(device) for item in batches):
        features, lens = network.features(batch.inputs), network.frame_lens(batch.input_lens)
        texts = _reader(network, lens, vocabulary)
        noise = network.frontend.noise_like(features, generator)
        _collect(words, "noise_source", batch.texts, texts(noise, batch))
        _collect(words, "shuffled_frames", batch.texts, texts(_shuffled(features, lens, network, generator), batch))
        if sees_labels:
            _with_other_references(words, batch, partial(texts, features))
        difference = max(difference, _padding_difference(network, batch))
    return LeakReport(
        noise_source=_share(words.get("noise_source", [])),
        shuffled_frames=_share(words.get("shuffled_frames", [])),
        padding_difference=difference,
        **{name: _share(words[name]) if name in words else None for name in OTHER_REFERENCES},
    )


def _with_other_references(
    words: dict[str, list[tuple[str, str]]], batch: Batch, texts: Callable[[Batch], list[str]]
) -> None:
    """Show no reference, and each item the reference of another; alone, an item would be given its own."""
    _collect(words, "empty_reference_true", batch.texts, texts(replace(batch, label_lens=0 * batch.label_lens)))
    if len(batch.texts) > 1:
        other = torch.roll(torch.arange(len(batch.texts)), 1)
        under_wrong = texts(replace(batch, labels=batch.labels[other], label_lens=batch.label_lens[other]))
        _collect(words, "wrong_reference_given", [batch.texts[index] for index in other.tolist()], under_wrong)
        _collect(words, "wrong_reference_true", batch.texts, under_wrong)


def _reader(network: CtcNetwork, lens: Tensor, vocabulary: Vocabulary) -> Callable[[Tensor, Batch], list[str]]:
    """Return a function from features and the batch whose labels are shown to the texts that come out."""

    def texts(features: Tensor, shown: Batch) -> list[str]:
        return greedy_texts(network(features, lens, shown.labels, shown.label_lens), lens, vocabulary)

    return texts


def _collect(
    words: dict[str, list[tuple[str, str]]], name: str, references: Sequence[str], hypotheses: Sequence[str]
) -> None:
    words.setdefault(name, []).extend(zip(references, hypotheses, strict=True))


def _share(pairs: Sequence[tuple[str, str]]) -> float:
    """Percent of reference words that stand at their place in the alignment; 0 where there is no word."""
    kept = [(reference, hypothesis) for reference, hypothesis in pairs if reference.strip()]
    if not kept:
        return 0.0
    counts = jiwer.process_words([reference for reference, _ in kept], [hypothesis for _, hypothesis in kept])
    return 100 * counts.hits / (counts.hits + counts.substitutions + counts.deletions)


def _shuffled(features: Tensor, lens: Tensor, network: CtcNetwork, generator: torch.Generator) -> Tensor:
    """Feature frames of each item in random order; padding stays where it is."""
    shuffled = features.clone()
    for index, length in enumerate((lens * network.subsampling_factor).tolist()):
        order = torch.randperm(length, generator=generator).to(features.device)
        shuffled[index, :length] = features[index, order]
    return shuffled


def _padding_difference(network: CtcNetwork, batch: Batch) -> float:
    """Compare log-probabilities inside the items before and after padding inputs and labels further."""
    lens = network.frame_lens(batch.input_lens)
    plain = network(network.features(batch.inputs), lens, batch.labels, batch.label_lens)
    inputs = batch.padded(batch.inputs.shape[1] + 5 * network.units_per_frame).inputs
    labels = torch.nn.functional.pad(batch.labels, (0, 3), value=1)
    padded = network(network.features(inputs), lens, labels, batch.label_lens)[:, : plain.shape[1]]
    inside = frame_mask(lens, plain.shape[1])
    difference = (plain - padded)[inside].abs()
    # NaN would pass for no difference, and infinity is no JSON
    return float(difference.nan_to_num(nan=torch.finfo(difference.dtype).max).max())
