"""Aligns entries of a manifest with one run: hear a batch, find the best paths, make segments of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kdcompress.aligning.aligned import Aligned, Segment
from kdcompress.aligning.segments import WHOLE_WORDS, Activity, SegmentOptions, spans_on_path, spread
from kdcompress.aligning.spelled import Speller
from kdcompress.aligning.viterbi import best_paths
from kdcompress.data.items import Item
from kdcompress.data.task import TASKS
from kdcompress.data.text import frames_needed
from kdcompress.errors import AlignmentError, VocabularyError
from kdcompress_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.aligning.spelled import SpelledText
    from kdcompress.data.batch import Batch
    from kdcompress.data.lexicon import Lexicon
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe
    from kdcompress.run import TrainedRun
    from kdcompress_runtime.manifest import ManifestEntry

ACTIVITY_SECONDS = 0.01
FAINT = 1e-10
"""Energy below which digital silence does not get quieter."""


class Unusable(NamedTuple):
    """An item that could not be aligned."""

    place: int
    id: str
    problem: str

    def line(self) -> str:
        """One line of JSON, with its end."""
        return json.dumps({"problem": self.problem, "place": self.place, "id": self.id}, ensure_ascii=False) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Unusable:
        """Read a line back."""
        row = json.loads(line)
        return cls(row["place"], row["id"], row["problem"])

    @staticmethod
    def is_line(line: str) -> bool:
        """Whether a line is of this kind, and not of an aligned item."""
        return line.startswith('{"problem"')


class _Task(NamedTuple):
    item: Item
    text: SpelledText


@dataclass(frozen=True)
class Aligner:
    """Aligns entries."""

    network: CtcNetwork
    recipe: Recipe
    """Says how items are read."""
    speller: Speller
    options: SegmentOptions

    @classmethod
    def of(
        cls, run: TrainedRun, options: SegmentOptions | None, lexicon: Lexicon | None, batch_size: int = 16
    ) -> Aligner:
        """Align with a finished run; without options with those that suit its tokens."""
        recipe = run.recipe
        train = recipe.train.model_copy(update={"batch_size": batch_size, "batch_seconds": None})
        speller = Speller.of(run.vocabulary, recipe.data.units, lexicon)
        return cls(run.network, recipe.model_copy(update={"train": train}), speller, options or suiting(speller.kind))

    @property
    def kind(self) -> str:
        """Of the units, see ``Aligned.kind``."""
        return self.speller.kind

    @property
    def hears_audio(self) -> bool:
        """Whether times are seconds."""
        return self.recipe.frontend.sample_rate is not None

    @property
    def frame(self) -> float:
        """Seconds of an output frame; input units where there is no audio."""
        return float(self.recipe.frontend.exact_shift() * self.network.subsampling_factor)

    def align(
        self,
        entries: Sequence[tuple[int, ManifestEntry]],
        manifest: str,
        *,
        skip: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> list[Aligned | Unusable]:
        """Align entries, given with their places.

        Args:
            entries: some of them; those of like length are heard together.
            manifest: names the place in messages.
            skip: return what cannot be aligned as such, and go on.
            between: called after each batch; may raise to stop.

        Raises:
            InputError, VocabularyError, AlignmentError: an item cannot be aligned, without ``skip``.
        """
        found: dict[int, Aligned | Unusable] = {}
        tasks = []
        for place, entry in entries:
            task = self._task(place, entry, manifest, skip=skip)
            if isinstance(task, Unusable):
                found[place] = task
            else:
                tasks.append(task)
        tasks.sort(key=lambda task: -task.item.units)
        size = self.recipe.train.batch_size
        for start in range(0, len(tasks), size):
            for item in self._together(tasks[start : start + size], manifest, skip=skip):
                found[item.place] = item
            between()
        return [found[place] for place in sorted(found)]

    def _task(self, place: int, entry: ManifestEntry, manifest: str, *, skip: bool) -> _Task | Unusable:
        try:
            text = self.speller(entry, f"{manifest}, item {entry.id}")
        except (VocabularyError, AlignmentError) as error:
            return _left_out(place, entry, error, skip=skip)
        units = round((entry.duration or 0.0) * self.recipe.frontend.units_per_second)
        return _Task(Item(entry, place, text.labels, units, 0), text)

    def _together(self, tasks: list[_Task], manifest: str, *, skip: bool) -> Iterator[Aligned | Unusable]:
        """Align a batch; one by one where an item of it cannot be read."""
        texts = {task.item.number: task for task in tasks}
        try:
            for batch in TASKS[self.recipe.task].evaluation_batches([task.item for task in tasks], self.recipe):
                yield from self._batch(batch, texts, manifest, skip=skip)
        except InputError as error:
            if len(tasks) > 1:
                for task in tasks:
                    yield from self._together([task], manifest, skip=skip)
            else:
                item = tasks[0].item
                yield _left_out(item.number, item.entry, error, skip=skip)

    @torch.no_grad()
    def _batch(
        self, batch: Batch, tasks: dict[int, _Task], manifest: str, *, skip: bool
    ) -> Iterator[Aligned | Unusable]:
        device = self.network.feature_norm.mean.device
        moved = batch.to(device)
        lens, blank = self.network.frame_lens(moved.input_lens), self.speller.vocabulary.blank_id
        log_probs = self.network(self.network.features(moved.inputs), lens, moved.labels, moved.label_lens)
        sought = log_probs.clone()
        sought[:, :, blank] -= self.options.blank_penalty
        paths = best_paths(sought, lens, moved.labels, moved.label_lens, blank)
        scores = _mean_scores(log_probs, paths.states, moved.labels, lens, blank)
        rows = zip(batch.items.tolist(), paths.states.cpu().numpy(), lens.tolist(), scores, paths.fits, strict=True)
        for row, (place, states, frames, score, fits) in enumerate(rows):
            task = tasks[place]
            if not fits:
                where = f"{manifest}, item {task.item.entry.id}"
                yield _left_out(place, task.item.entry, _does_not_fit(where, task.text, frames), skip=skip)
                continue
            heard = batch.inputs[row, : int(batch.input_lens[row])]
            yield self._aligned(task, states[:frames], score, heard, batch.sample_rate)

    def _aligned(
        self, task: _Task, states: NDArray[np.int64], score: float, heard: Tensor, sample_rate: int | None
    ) -> Aligned:
        duration, text = len(heard) / (sample_rate or 1), task.text
        options, activity = self.options, None
        if sample_rate is None:
            options = options.scaled(self.recipe.frontend.units_per_second)
        else:
            activity = loudness(heard.numpy(), sample_rate)
        on_path = spans_on_path(states, self.frame, duration)
        spans = spread(on_path, text.word_of, text.letters, duration, options=options, activity=activity)
        rows = zip(text.units, spans.tolist(), text.word_of.tolist(), strict=True)
        segments = tuple(Segment(unit, start, end, word) for unit, (start, end), word in rows)
        entry = task.item.entry
        return Aligned(entry.id, task.item.number, self.kind, text.words, segments, duration, score)


def suiting(kind: str) -> SegmentOptions:
    """Options for units of a kind."""
    return WHOLE_WORDS if kind == "words" else SegmentOptions()


def loudness(samples: NDArray[np.float32], sample_rate: int) -> Activity:
    """Log energy every 10 ms of audio ``(n,)``; an incomplete last frame is left out."""
    hop = round(sample_rate * ACTIVITY_SECONDS)
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    return Activity(np.log(np.square(frames, dtype=np.float32).mean(axis=1) + FAINT), hop / sample_rate)


def _mean_scores(log_probs: Tensor, states: Tensor, labels: Tensor, lens: Tensor, blank: int) -> list[float]:
    """Mean log-probability a frame of each path, without the blank's penalty."""
    tokens = labels.gather(1, states.clamp(min=0)).where(states >= 0, labels.new_tensor(blank))
    on_path = log_probs.gather(2, tokens[:, :, None])[:, :, 0]
    inside = torch.arange(log_probs.shape[1], device=lens.device) < lens[:, None]
    total = torch.where(inside, on_path, 0.0).double().sum(dim=1)
    means: list[float] = (total / lens.clamp(min=1)).tolist()
    return means


def _does_not_fit(where: str, text: SpelledText, frames: int) -> AlignmentError:
    needed = frames_needed(text.labels)
    if needed > frames:
        return AlignmentError(f"{where}: the reference needs {needed} frames, the input has {frames}")
    return AlignmentError(f"{where}: the run gives {' '.join(text.words)!r} no probability at all")


def _left_out(place: int, entry: ManifestEntry, error: Exception, *, skip: bool) -> Unusable:
    if skip:
        return Unusable(place, entry.id, str(error))
    if isinstance(error, AlignmentError):
        raise AlignmentError(f"{error}; correct the manifest, or leave such items out (--on-unusable skip)") from error
    raise error
