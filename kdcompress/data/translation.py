"""Translation: manifests of sentence pairs -> batches of source ids. Input units are source tokens."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from kdcompress.data.batch import Batch, collate
from kdcompress.data.batches import StepBatches, items_of, read_together
from kdcompress.data.subwords import train_subwords
from kdcompress.token_frontend import TokensConfig
from kdcompress_runtime.errors import SourceTextError
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.source_text import HIDDEN, MAX_TOKENS, UNKNOWN, SourceTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from kdcompress.data.items import Item, Items
    from kdcompress.recipe import AnyFrontend, Recipe
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.vocabulary import Vocabulary


logger = logging.getLogger(__name__)

NAMED = 12
"""Unknown characters that a warning names."""


class SentenceBatches(StepBatches):
    """Source sentences as ids."""

    def __init__(
        self,
        recipe: Recipe,
        vocabulary: Vocabulary,
        *,
        units_per_frame: int,
        teacher_rates: Sequence[int] = (),
        streams: int = 1,
        rank: int = 0,
        world: int = 1,
        keep: Path | None = None,
    ) -> None:
        del teacher_rates  # teachers of audio are refused before
        self.table = table_of(recipe)
        items = sentence_items(recipe.data.train, recipe, vocabulary, units_per_frame, keep)
        super().__init__(recipe, items, streams=streams, rank=rank, world=world)

    def read(self, items: Sequence[Item], seeds: Sequence[int], streams: Sequence[int]) -> Batch:
        """See ``StepBatches.read``."""
        return _collated(items, self.table, seeds, streams)


def sentence_items(
    manifest: Path, recipe: Recipe, vocabulary: Vocabulary, units_per_frame: int, keep: Path | None = None
) -> Items:
    """Items of a manifest of sentence pairs; see ``items_of``. What the table does not know is counted and told."""
    config, seen = settings_of(recipe), SourceTally(table_of(recipe), manifest, recipe.longest)
    items = items_of(
        manifest,
        recipe,
        vocabulary,
        units_per_frame,
        keep,
        kind="text",
        seconds=seen.tokens,
        frames_per_unit=config.upsampling,
        remedy="raise frontend.upsampling",
    )
    seen.tell()
    return items


class SourceTally:
    """Counts the tokens of sources, and what a table does not know of them."""

    def __init__(self, table: SourceTable, manifest: Path, longest: float) -> None:
        self.table, self.manifest, self.longest = table, manifest, longest
        self.known = set(table.symbols)
        self.unknown = Counter[str]()
        """Characters, by the sentences that hold them."""
        self.sentences = 0
        """Those with such characters."""

    def tokens(self, entry: ManifestEntry) -> float:
        """Tokens of a source, also of one that is too long to be read; characters of what is no word.

        Raises:
            SourceTextError: it is empty; or too long to be read, and not too long for the recipe.
        """
        try:
            ids = self.table.encode(entry.input, where=f"{self.manifest}, item {entry.id}")
        except SourceTextError:
            words = entry.input.split()
            if not words or self.longest >= MAX_TOKENS:
                raise
            return float(sum(len(word if len(word) > MAX_TOKENS else self.table.encode(word)) for word in words))
        if self.table.symbols.index(UNKNOWN) in ids:
            characters = set("".join(unicodedata.normalize("NFC", entry.input).split()))
            self.unknown.update(characters - self.known)
            self.sentences += 1
        return len(ids)

    def tell(self) -> None:
        """Warn of unknown characters."""
        if self.sentences:
            named = ", ".join(f"{character!r}" for character, _ in self.unknown.most_common(NAMED))
            logger.warning(
                "%s: %d sources hold characters that the table of source tokens does not know, read as %s: %s%s",
                self.manifest,
                self.sentences,
                UNKNOWN,
                named,
                " and others" if len(self.unknown) > NAMED else "",
            )


def sentence_evaluation_batches(items: Sequence[Item], recipe: Recipe, rates: Sequence[int] = ()) -> Iterator[Batch]:
    """Batches without augmentation, longest items together; every item once. ``rates`` are those of audio."""
    del rates
    table = table_of(recipe)
    for part in read_together(items, recipe):
        yield _collated(part, table, [0] * len(part))


def with_source_table(recipe: Recipe, taught_by: Iterable[AnyFrontend]) -> Recipe:
    """Return the recipe with its source table: its own, else that of the first teacher (or start), else learned.

    Raises:
        VocabularyError: the sources are too few for so many subwords, or of too many characters.
        MissingDependencyError: the package ``tokenizers`` is not there.
    """
    config = settings_of(recipe)
    if config.symbols is not None:
        return recipe
    found = next((theirs.symbols for theirs in taught_by if isinstance(theirs, TokensConfig)), None)
    return recipe.model_copy(
        update={"frontend": config.model_copy(update={"symbols": found or " ".join(_learned(recipe, config))})}
    )


def without_source_table(recipe: Recipe) -> Recipe:
    """Return the recipe as it was before ``with_source_table``, had it none of its own."""
    return recipe.model_copy(update={"frontend": settings_of(recipe).model_copy(update={"symbols": None})})


def _learned(recipe: Recipe, config: TokensConfig) -> list[str]:
    entries = list(read_manifest(recipe.data.train))
    texts = (unicodedata.normalize("NFC", entry.input) for entry in entries)
    both = chain(texts, (entry.text for entry in entries)) if config.joint else texts
    return [HIDDEN, UNKNOWN, *train_subwords(both, config.subwords - 2, key="frontend.subwords")]


def settings_of(recipe: Recipe) -> TokensConfig:
    """Settings of the frontend of a recipe for sentences."""
    if not isinstance(recipe.frontend, TokensConfig):
        raise TypeError(f"{recipe.name}: task {recipe.task} has no sentences")  # recipes are checked; a caller is wrong
    return recipe.frontend


def table_of(recipe: Recipe) -> SourceTable:
    """Source table of a recipe that has one."""
    return SourceTable(settings_of(recipe).table(), source=f"{recipe.name}, frontend.symbols")


def _collated(
    items: Sequence[Item], table: SourceTable, seeds: Sequence[int], streams: Sequence[int] | None = None
) -> Batch:
    return collate(
        [table.encode(item.entry.input, where=f"item {item.entry.id}").astype(np.float32) for item in items],
        [item.labels for item in items],
        [item.entry.text for item in items],
        seeds,
        items=[item.number for item in items],
        streams=streams,
        sources=[item.entry.input for item in items],
    )
