"""A teacher's answers for entries of a manifest, as a store keeps them: every item heard alone by this teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress.data.batch import collate
from kdcompress.data.items import Item
from kdcompress.data.task import TASKS
from kdcompress.data.text import Encoder, wording
from kdcompress.errors import MismatchError
from kdcompress.hearing import Heard
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
            rows = zip(_lengths(batch), said.frame_lens.tolist(), self.kind.encode(said, reference), strict=True)
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
        encode = Encoder(self.teacher.info.vocabulary, self.teacher.info.units)
        needed = self.kind.needs_reference
        items = []
        for place, entry in entries:
            if entry.duration is None or not self._too_long(entry.duration, entry):
                where = f"{self.recipe.data.train}, item {entry.id}"
                labels = encode(entry.text, where=where) if needed else ()
                items.append(Item(entry, place, labels, round((entry.duration or 0) * rate), 0))
        return items

    def _too_long(self, seconds: float, entry: ManifestEntry) -> bool:
        """Whether to leave an item out."""
        longest = self.recipe.longest
        if seconds <= longest:
            return False
        if self.recipe.data.on_unusable == "skip":
            return True
        raise AudioError(
            f"{self.recipe.data.train}, item {entry.id}: {seconds:.1f} s is longer than data.max_duration "
            f"{longest:.1f} s; correct the manifest, or set data.on_unusable to skip"
        )

    def _batches(self, items: Sequence[Item]) -> Iterator[Batch]:
        """Items as the teacher hears them, longest together."""
        if self.teacher.info.text_units:
            yield from text_batches(items, self.recipe.train.batch_size)
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
    ordered = sorted(items, key=lambda item: len(item.entry.text))
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        yield collate(
            [np.zeros(0, np.float32)] * len(part),
            [()] * len(part),
            [item.entry.text for item in part],
            [0] * len(part),
            items=[item.number for item in part],
            words=[wording(item.entry) for item in part],
        )


def _lengths(batch: Batch) -> list[tuple[int, float]]:
    """Place and length of each item: seconds, or input units where there is no audio."""
    rate = batch.sample_rate or 1
    return [(place, units / rate) for place, units in zip(batch.items.tolist(), batch.input_lens.tolist(), strict=True)]


def as_heard_by(teacher: Teacher, recipe: Recipe) -> Recipe:
    """Return the recipe with the teacher's sample rate, and nothing that changes an item.

    Raises:
        MismatchError: the teacher hears audio, and the items are none.
    """
    rate = teacher.info.sample_rate
    if rate is not None and recipe.frontend.sample_rate is None:
        raise MismatchError(
            f"{teacher.info.source}: hears recordings, and task {recipe.task} has none; name a teacher of that task"
        )
    frontend = recipe.frontend if rate is None else recipe.frontend.model_copy(update={"sample_rate": rate})
    augment = recipe.augment.model_copy(
        update={"speed": (1.0,), "lead_in_s": (0.0, 0.0), "gain_db": (0.0, 0.0), "noise": None, "spec": None}
    )
    return recipe.model_copy(update={"frontend": frontend, "augment": augment})


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
