"""A teacher's answers for entries of a manifest, as a store keeps them: every item heard alone by this teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress.data.batch import collate
from kdcompress.data.items import Item, check_kind
from kdcompress.data.task import TASKS
from kdcompress.data.text import Encoder, wording
from kdcompress.hearing import Heard
from kdcompress.labels.hearing import as_heard_by, length_of
from kdcompress.labels.kinds.base import Reference
from kdcompress_runtime.errors import AudioError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcompress.data.batch import Batch
    from kdcompress.labels.kinds.base import Arrays, LabelKind
    from kdcompress.recipe import Recipe
    from kdcompress.teachers.teacher import Said, Teacher
    from kdcompress_runtime.manifest import ManifestEntry

    Labelled = tuple[float, int, Arrays | None]
    """Length of the item, frames of the answer, and what is stored of it; nothing of an item that cannot be used."""

UNUSABLE: Labelled = (0.0, 0, None)


@dataclass(frozen=True)
class Answers:
    """Asks the teacher."""

    recipe: Recipe
    """Says how items are read, how many at a time, and what to do with one that cannot be used."""
    teacher: Teacher
    kind: LabelKind
    """What is kept of the answers."""
    device: torch.device
    """Where the teacher is."""

    def of(
        self, entries: Sequence[tuple[int, ManifestEntry]], between: Callable[[], None] = lambda: None
    ) -> list[Labelled]:
        """Label entries, given with their places.

        Args:
            entries: a shard of them; items of like length are asked about together.
            between: called after each batch; may raise to stop.

        Raises:
            InputError: an item cannot be read, or is too long (``data.on_unusable`` is ``error``).
            VocabularyError: the teacher needs the reference, and does not know a symbol of it.
        """
        found = dict.fromkeys((place for place, _ in entries), UNUSABLE)
        for batch, said in self.said(entries):
            reference = Reference(batch.labels, batch.label_lens, self.teacher.info.vocabulary.blank_id)
            rows = zip(self._lengths(batch), said.frame_lens.tolist(), self.kind.encode(said, reference), strict=True)
            found |= {place: (length, frames, arrays) for (place, length), frames, arrays in rows}
            between()
        return list(found.values())

    def said(self, entries: Sequence[tuple[int, ManifestEntry]]) -> Iterator[tuple[Batch, Said]]:
        """Yield batches of the entries that can be used, and what the teacher says of them; for errors see ``of``."""
        for batch in self._batches(self._items(entries)):
            moved = batch.to(self.device)
            with torch.no_grad():
                said = self.teacher.answer(heard_alone(moved, self.recipe))
            yield moved, said

    def _items(self, entries: Sequence[tuple[int, ManifestEntry]]) -> list[Item]:
        rate = as_heard_by(self.teacher, self.recipe).frontend.units_per_second
        told = self.recipe.frontend.measure == "s"
        encode = Encoder(self.teacher.info.vocabulary, self.teacher.info.units)
        needed = self.kind.needs_reference
        items = []
        for place, entry in entries:
            self._check_kind(entry)
            if entry.duration is None or not (told and self._too_long(entry.duration, entry)):
                where = f"{self.recipe.data.train}, item {entry.id}"
                labels = encode(entry.text, where=where) if needed else ()
                items.append(Item(entry, place, labels, round((entry.duration or 0) * rate), 0))
        return items

    def _check_kind(self, entry: ManifestEntry) -> None:
        """Refuse an entry that the teacher cannot hear; one that reads texts looks at nothing else."""
        if not self.teacher.info.text_units:
            check_kind(entry, TASKS[self.recipe.task].inputs, self.recipe.data.train)

    def _too_long(self, length: float, entry: ManifestEntry) -> bool:
        """Whether to leave an item out."""
        longest, measure = self.recipe.longest, self.recipe.frontend.measure
        if length <= longest:
            return False
        if self.recipe.data.on_unusable == "skip":
            return True
        raise (AudioError if self.recipe.task == "speech" else InputError)(
            f"{self.recipe.data.train}, item {entry.id}: {length:.1f} {measure} is longer than data.max_duration "
            f"{longest:.1f} {measure}; correct the manifest, or set data.on_unusable to skip"
        )

    def _lengths(self, batch: Batch) -> list[tuple[int, float]]:
        """Place and length of each item."""
        places = batch.items.tolist()
        return [(place, length_of(batch, row, self.teacher)) for row, place in enumerate(places)]

    def _batches(self, items: Sequence[Item]) -> Iterator[Batch]:
        """Items as the teacher hears them, longest together."""
        if self.teacher.info.text_units:
            yield from text_batches(items, self.recipe.train.batch_size)
            return
        if self.teacher.reads_sources:
            yield from source_batches(items, self.recipe.train.batch_size)
            return
        recipe = as_heard_by(self.teacher, self.recipe)
        size = recipe.train.batch_size
        ordered = sorted(items, key=lambda item: -item.units)
        for start in range(0, len(ordered), size):
            usable = ordered[start : start + size]
            try:
                batches = list(TASKS[recipe.task].evaluation_batches(usable, recipe))
            except InputError as error:
                usable = [item for item in usable if self._readable(item, recipe, error)]
                batches = list(TASKS[recipe.task].evaluation_batches(usable, recipe)) if usable else []
            by_place = {item.number: item for item in usable}
            for batch in batches:
                rate = recipe.frontend.units_per_second
                heard = zip(batch.items.tolist(), batch.input_lens.tolist(), strict=True)
                kept = [item for item in heard if not self._too_long(item[1] / rate, by_place[item[0]].entry)]
                if len(kept) == len(batch.texts):
                    yield batch
                elif kept:
                    left = [by_place[place] for place, _ in kept]
                    yield from TASKS[recipe.task].evaluation_batches(left, recipe)

    def _readable(self, item: Item, recipe: Recipe, error: InputError) -> bool:
        if self.recipe.data.on_unusable != "skip":
            raise error
        try:
            list(TASKS[recipe.task].evaluation_batches([item], recipe))
        except InputError:
            return False
        return True


def text_batches(items: Sequence[Item], size: int) -> Iterator[Batch]:
    """Items for a teacher that hears nothing: their texts, shortest first."""
    for part in _parts(sorted(items, key=lambda item: len(item.entry.text)), size):
        yield replace(_unheard(part), words=tuple(wording(item.entry) for item in part))


def source_batches(items: Sequence[Item], size: int) -> Iterator[Batch]:
    """Items for a teacher that reads their sources as they are written, longest first."""
    for part in _parts(sorted(items, key=lambda item: -len(item.entry.input)), size):
        yield replace(_unheard(part), sources=tuple(item.entry.input for item in part))


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _unheard(items: Sequence[Item]) -> Batch:
    """Items without inputs."""
    return collate(
        [np.zeros(0, np.float32)] * len(items),
        [()] * len(items),
        [item.entry.text for item in items],
        [0] * len(items),
        items=[item.number for item in items],
    )


def heard_alone(batch: Batch, recipe: Recipe) -> Heard:
    """Show a batch to a teacher that has no student: there are no features but those that it makes itself."""
    plain = recipe.model_copy(update={"augment": recipe.augment.model_copy(update={"spec": None})})
    return Heard(
        batch=batch,
        recipe=plain,
        features=batch.inputs.new_zeros((len(batch.texts), 0, 1)),
        frame_lens=torch.zeros_like(batch.input_lens),
        labels=batch.labels,
        label_lens=batch.label_lens,
        views=1,
    )
