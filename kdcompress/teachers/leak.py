"""Leak tests: does an Oracle Teacher listen, or does it copy the reference it is shown?

Each test changes one of its two inputs and counts how many words of a reference come out all the same.
These are no recognition rates: the teacher has seen the reference. A network that sees no reference cannot copy;
for it, noise and shuffled frames say what comes out by chance, and the padding test counts all the same.

Words come out by chance, too: frequent ones, and all of a small vocabulary. How many is known from the same outputs,
compared with the reference of another item, and the verdict goes by what is above that. It goes by what the teacher
writes when it has both inputs, too: one that is half trained writes few words, and may copy most of them.
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
"""Share of words from pure noise, in percent of those that input and reference give together and chance does not, from
which the verdict is that the teacher copies."""


@dataclass(frozen=True)
class LeakReport:
    """Shares in percent of reference words that come out; None where there is no other reference to show."""

    noise_source: float
    """Of the given reference, when the input is noise: copied (or chance), since nothing was said."""
    shuffled_frames: float
    """Of the given reference, when the input's frames (columns, source tokens) are in random order."""
    empty_reference_true: float | None
    """Of the true text, when no reference is given: heard."""
    wrong_reference_given: float | None
    """Of a wrong reference that is given with the input: copied."""
    wrong_reference_true: float | None
    """Of the true text under a wrong reference: heard against the reference."""
    padding_difference: float
    """Largest change of a log-probability when padding is added on both sides; must be near zero."""
    noise_chance: float | None = None
    """Of the reference of another item, when the input is noise: what ``noise_source`` is by chance."""
    wrong_reference_chance: float | None = None
    """Of a wrong reference, in the true text: what ``wrong_reference_given`` is of a perfect answer."""

    both_true: float | None = None
    """Of the reference, when it and the input are the right ones: what the other shares are to be held against."""

    @property
    def copied(self) -> float:
        """Words that come out of pure noise, in percent of those that input and reference give; without chance."""
        chance = self.noise_chance or 0.0
        given = (100.0 if self.both_true is None else self.both_true) - chance
        return min(100.0, max(0.0, 100 * (self.noise_source - chance) / max(given, LEAST_GIVEN)))

    @property
    def verdict(self) -> str:
        """One line: listens or copies, and by what."""
        noise = f"{self.noise_source:.0f} % of the words come out of pure noise"
        by_chance = "" if self.noise_chance is None else f"; by chance {self.noise_chance:.0f} %"
        if self.empty_reference_true is None:
            return f"cannot copy: it sees no reference; {noise}{by_chance}"
        word = "copies" if self.copied >= COPIES_FROM else "listens"
        if self.wrong_reference_given is None or self.wrong_reference_chance is None:
            return f"{word}: {noise}{by_chance}"
        wrong = f"{self.wrong_reference_given:.0f} % of a wrong reference"
        both = "" if self.both_true is None else f"; {self.both_true:.0f} % with input and reference"
        return f"{word}: {noise}, {wrong}{by_chance} and {self.wrong_reference_chance:.0f} %{both}"

    def to_json(self) -> dict[str, float | str | None]:
        """Fields and verdict; shares to compare with are left out where they were not measured."""
        known = {name: share for name, share in asdict(self).items() if share is not None or name not in COMPARED}
        return {**known, "verdict": self.verdict}


LEAST_GIVEN = 1.0
"""Percent above chance that input and reference give at least: below, nothing was learned."""
COMPARED = ("noise_chance", "wrong_reference_chance", "both_true")
"""Fields that others are compared with."""
OTHER_REFERENCES = ("empty_reference_true", "wrong_reference_given", "wrong_reference_true", *COMPARED)
"""Fields of the tests that show none, or the reference of another item, or compare with it."""


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
        from_noise = texts(noise, batch)
        _collect(words, "noise_source", batch.texts, from_noise)
        if len(batch.texts) > 1:
            _collect(words, "noise_chance", _others(batch), from_noise)
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
    """Show the reference, none, and each item that of another; alone, an item would be given its own."""
    _collect(words, "both_true", batch.texts, texts(batch))
    _collect(words, "empty_reference_true", batch.texts, texts(replace(batch, label_lens=0 * batch.label_lens)))
    if len(batch.texts) > 1:
        shown = replace(batch, labels=batch.labels.roll(1, dims=0), label_lens=batch.label_lens.roll(1))
        under_wrong = texts(shown)
        _collect(words, "wrong_reference_given", _others(batch), under_wrong)
        _collect(words, "wrong_reference_chance", _others(batch), batch.texts)
        _collect(words, "wrong_reference_true", batch.texts, under_wrong)


def _others(batch: Batch) -> list[str]:
    """For each item the reference of its neighbour, which is about as long: batches are sorted."""
    return [batch.texts[index - 1] for index in range(len(batch.texts))]


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
    """Feature frames of each item in random order, those of one input unit together; padding stays where it is."""
    shuffled, together = features.clone(), network.frontend.features_per_unit
    for index, length in enumerate((lens * network.subsampling_factor).tolist()):
        units = torch.randperm(length // together, generator=generator)
        order = (units[:, None] * together + torch.arange(together)).flatten().to(features.device)
        shuffled[index, : len(order)] = features[index, order]
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
