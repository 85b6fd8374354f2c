"""The language models of a recipe, opened: asked while training, or read from a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from kdcompress.data.text import wordings
from kdcompress.errors import RecipeError
from kdcompress.labels.kinds.units import Units
from kdcompress.labels.store import LabelStore
from kdcompress.losses.representation import RepresentationLoss
from kdcompress.teachers.opening import is_store
from kdcompress.teachers.stored import check_manifest
from kdcompress.text_models.unit_labels import UnitLabels, unit_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kdcompress.data.batch import Batch
    from kdcompress.recipe import Recipe
    from kdcompress.text_models.text_model import TextModel


class ModelInfo(NamedTuple):
    """What a language model says of itself."""

    source: Path
    name: str
    kind: str
    fingerprint: str
    units: str
    symbols: tuple[str, ...]
    state_dim: int


class TextSource(ABC):
    """What a language model says of the items of a manifest."""

    info: ModelInfo

    @abstractmethod
    def labels(self, batch: Batch, rows: Sequence[int]) -> list[UnitLabels]:
        """What it says of those items of the batch."""

    def check(self, recipe: Recipe) -> None:  # noqa: B027 (a model suits any manifest)
        """Raise where this source knows nothing of the training items of ``recipe``."""


class LiveText(TextSource):
    """A language model that is asked while training."""

    def __init__(self, path: Path, model: TextModel, top_k: int, *, states: bool) -> None:
        self.model, self.top_k, self.states = model, top_k, states
        inventory = model.inventory
        self.info = ModelInfo(
            path, model.name, model.kind, model.fingerprint, inventory.kind, inventory.symbols, model.state_dim
        )

    def labels(self, batch: Batch, rows: Sequence[int]) -> list[UnitLabels]:
        """See ``TextSource.labels``."""
        texts = [(batch.words or batch.texts)[row] for row in rows]
        return unit_labels(self.model, texts, self.top_k, states=self.states, where=str(self.info.source))


class StoredText(TextSource):
    """What ``kdcompress label`` has stored of a language model."""

    def __init__(self, path: Path, top_k: int) -> None:
        """Open the store.

        Raises:
            LabelStoreError: it is unfinished or damaged.
            RecipeError: it holds what an acoustic teacher said.
        """
        self.store, self.top_k = LabelStore(path), top_k
        told, kind = self.store.plan.teacher, self.store.kind
        if not isinstance(kind, Units):
            raise RecipeError(
                f"distill.language_models: {path} holds labels of {told['kind']}, which is no language model; "
                "name it in distill.teachers"
            )
        self.kind = kind
        width = told["state_dim"] if kind.states else 0
        symbols = tuple(told["vocabulary"][1:])
        self.info = ModelInfo(
            path, told["name"], told["kind"], self.store.index["checksum"], told["text_units"], symbols, width
        )

    def check(self, recipe: Recipe) -> None:
        """See ``TextSource.check``.

        Raises:
            LabelStoreError: the labels are about another manifest.
        """
        check_manifest(self.info.source, self.store.plan, recipe.data.train)

    def labels(self, batch: Batch, rows: Sequence[int]) -> list[UnitLabels]:
        """See ``TextSource.labels``.

        Raises:
            LabelStoreError: an item has no labels, or they are damaged.
        """
        found = [self.kind.read(self.store.item(int(batch.items[row]))[1]) for row in rows]
        return [
            text._replace(ids=text.ids[:, : self.top_k], log_probs=text.log_probs[:, : self.top_k]) for text in found
        ]


def open_text_source(path: Path, top_k: int, texts: Iterable[str], *, states: bool) -> TextSource:
    """Open a language model, or a store of what one has said.

    ``texts`` are those that it will be asked about: a Hugging Face model is brought to the tokens that they use.

    Raises:
        TextModelError: there is no language model, or it cannot be used.
        LabelStoreError, RecipeError: see ``StoredText``.
    """
    if path.is_dir() and is_store(path):
        return StoredText(path, top_k)
    from kdcompress.text_models.opening import open_text_model

    return LiveText(path, open_text_model(path, texts=texts), top_k, states=states)


def open_text_sources(recipe: Recipe) -> dict[str, TextSource]:
    """Open the language models of a recipe; none without.

    Raises:
        TextModelError, LabelStoreError, RecipeError: see ``open_text_source``.
        LabelStoreError: what was stored is about another manifest.
    """
    if recipe.distill is None:
        return {}
    wanted = {loss.reads for loss in recipe.losses if isinstance(loss, RepresentationLoss)}
    found = {
        name: open_text_source(path, recipe.distill.top_k, wordings(recipe.data.train), states=name in wanted)
        for name, path in recipe.distill.language_models.items()
    }
    for source in found.values():
        source.check(recipe)
    return found
