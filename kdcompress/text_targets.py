"""What the language models of a recipe say about a batch, and where: the one road from texts to targets."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kdcompress.aligning.aligned import Alignments
from kdcompress.aligning.placing import spans_of, units_at
from kdcompress.errors import AlignmentError, MismatchError
from kdcompress.labels.kinds.base import stacked
from kdcompress.losses.base import UnitShape, UnitTargets
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from kdcompress.data.batch import Batch
    from kdcompress.hearing import Heard
    from kdcompress.recipe import Recipe
    from kdcompress.text_models.unit_labels import UnitLabels
    from kdcompress.text_sources import ModelInfo, TextSource
    from kdcompress_runtime.vocabulary import Vocabulary

KEPT_ITEMS = 20_000
"""Items of which what a language model says is kept in memory; asked again they cost nothing."""


class Known(NamedTuple):
    """What is known of one item."""

    labels: UnitLabels
    spans: NDArray[np.float64] | None
    """Beginning and end of each unit in the manifest's item, ``(U, 2)``; None without an alignment."""


@dataclass(frozen=True)
class TextTeachers:
    """All language models of a recipe, for one student."""

    sources: Mapping[str, TextSource]
    tokens: Mapping[str, NDArray[np.int64] | None]
    """The student's token for each unit, for the models that have the student's units."""
    as_tokens: frozenset[str]
    """Models whose units must be the labels of the student, one by one."""
    alignments: Alignments | None
    frame: Fraction
    """Seconds (or input units) of a frame of the student."""
    known: OrderedDict[tuple[str, int], Known]
    """What was said of items lately; changed by every call."""

    @property
    def shapes(self) -> dict[str, UnitShape]:
        """Sizes for heads."""
        return {
            name: UnitShape(len(source.info.symbols), source.info.state_dim) for name, source in self.sources.items()
        }

    def __call__(self, heard: Heard) -> dict[str, UnitTargets]:
        """What every language model says of the batch, once for every view."""
        return {name: self._targets(name, heard) for name in self.sources}

    def _targets(self, name: str, heard: Heard) -> UnitTargets:
        batch, device = heard.batch, heard.labels.device
        found = self._known(name, batch)
        texts = [one.labels for one in found]
        lens = torch.tensor([len(text.units) for text in texts])
        tokens = self.tokens[name]
        targets = UnitTargets(
            units=stacked([text.units for text in texts], device, torch.int64),
            unit_lens=lens.to(device),
            ids=stacked([text.ids for text in texts], device, torch.int64),
            log_probs=stacked([text.log_probs for text in texts], device, torch.float32),
            num_units=len(self.sources[name].info.symbols),
            frames=self._frames(found, heard),
            states=_states(texts, device),
            tokens=None if tokens is None else torch.from_numpy(tokens).to(device),
        )
        return targets if heard.views == 1 else _repeated(targets, heard.views)

    def _known(self, name: str, batch: Batch) -> list[Known]:
        """What is known of each item; the model is asked about those that are new, all at once."""
        places = batch.items.tolist()
        new = [row for row, place in enumerate(places) if (name, place) not in self.known]
        found = {place: self.known[name, place] for place in places if (name, place) in self.known}
        for row, labels in zip(new, self.sources[name].labels(batch, new), strict=True):
            self._check_tokens(name, labels, batch, row)
            found[places[row]] = Known(labels, self._spans(name, labels, batch, row))
        for place in places:
            self.known[name, place] = found[place]
            self.known.move_to_end((name, place))
        while len(self.known) > KEPT_ITEMS:
            self.known.popitem(last=False)
        return [found[place] for place in places]

    def _check_tokens(self, name: str, labels: UnitLabels, batch: Batch, row: int) -> None:
        tokens = self.tokens[name]
        if name not in self.as_tokens or tokens is None:
            return
        own = batch.labels[row, : int(batch.label_lens[row])].cpu().numpy()
        if not np.array_equal(tokens[labels.units], own):
            raise MismatchError(
                f"{self.sources[name].info.source}: writes {batch.texts[row]!r} in other units than the student, "
                "though both have the same; train a language model on the student's tokens (text.tokens)"
            )

    def _spans(self, name: str, labels: UnitLabels, batch: Batch, row: int) -> NDArray[np.float64] | None:
        if self.alignments is None:
            return None
        aligned = self.alignments.get(int(batch.items[row]))
        if aligned is None:
            return np.zeros((0, 2))
        text, info = (batch.words or batch.texts)[row], self.sources[name].info
        if list(aligned.words) != text.split():
            raise AlignmentError(
                f"{self.alignments.path}, id {aligned.id}: aligned {' '.join(aligned.words)!r}, and the text is "
                f"{text!r}; align the manifest again"
            )
        symbols = [info.symbols[unit] for unit in labels.units]
        try:
            return spans_of(symbols, labels.words, labels.shares, info.units, aligned)
        except ValueError as problem:
            raise AlignmentError(
                f"{self.alignments.path}, id {aligned.id}: {problem}; align the manifest again"
            ) from None

    def _frames(self, found: Sequence[Known], heard: Heard) -> torch.Tensor | None:
        """Unit at the middle of each frame, ``(N, T)``."""
        if self.alignments is None:
            return None
        longest = int(heard.frame_lens.max())
        middles = (np.arange(longest) + 0.5) * float(self.frame)
        rows = []
        for one, (factor, offset) in zip(found, heard.batch.times.tolist(), strict=True):
            spans = one.spans if one.spans is not None else np.zeros((0, 2))
            rows.append(units_at(spans, factor * middles - offset))
        return torch.from_numpy(np.stack(rows)).to(heard.labels.device)


def _states(texts: Sequence[UnitLabels], device: torch.device) -> torch.Tensor | None:
    width = max((text.states.shape[1] for text in texts if text.states is not None), default=0)
    if not width:
        return None
    rows = [np.zeros((0, width), np.float32) if text.states is None else text.states for text in texts]
    return stacked(rows, device, torch.float32)


def _repeated(targets: UnitTargets, views: int) -> UnitTargets:
    def copies(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.repeat(views, *[1] * (tensor.ndim - 1))

    return replace(
        targets,
        units=targets.units.repeat(views, 1),
        unit_lens=targets.unit_lens.repeat(views),
        ids=targets.ids.repeat(views, 1, 1),
        log_probs=targets.log_probs.repeat(views, 1, 1),
        frames=copies(targets.frames),
        states=copies(targets.states),
    )


def text_teachers(
    recipe: Recipe, sources: Mapping[str, TextSource], vocabulary: Vocabulary, frame: Fraction
) -> TextTeachers | None:
    """Bring language models to a student; None for a recipe without.

    Raises:
        MismatchError: a loss needs a model over the student's tokens, and its units are others.
        AlignmentError: the alignment cannot be read, or is of another manifest.
    """
    if recipe.distill is None or not sources:
        return None
    path = recipe.distill.alignment
    alignments = None if path is None else Alignments.read(path, manifest=recipe.data.train)
    tokens = {name: tokens_of(source.info.symbols, vocabulary) for name, source in sources.items()}
    for loss in recipe.losses:
        if loss.reads and loss.needs_own_tokens and tokens[loss.reads] is None:
            raise _mismatch(loss.key, sources[loss.reads].info, vocabulary)
    as_tokens = frozenset(loss.reads for loss in recipe.losses if loss.reads and loss.needs_own_tokens)
    return TextTeachers(sources, tokens, as_tokens, alignments, frame, OrderedDict())


def tokens_of(symbols: Sequence[str], vocabulary: Vocabulary) -> NDArray[np.int64] | None:
    """Student's token for each unit, ``(units,)``; None where one has none. ``AH`` and ``▁AH`` are one phone."""
    ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols) if index != vocabulary.blank_id}
    for mark in ("", WORD_SEPARATOR):
        if all(mark + symbol in ids for symbol in symbols):
            return np.array([ids[mark + symbol] for symbol in symbols], dtype=np.int64)
    return None


def _mismatch(key: str, info: ModelInfo, vocabulary: Vocabulary) -> MismatchError:
    strange = sorted(set(info.symbols) - set(vocabulary.symbols))[:5]
    return MismatchError(
        f"losses.{key}: {info.source} predicts {info.units} such as {', '.join(map(repr, strange))}, which are no "
        "tokens of the student; train a language model on the student's tokens (text.tokens), or use lm_head, which "
        "has a layer of its own"
    )
