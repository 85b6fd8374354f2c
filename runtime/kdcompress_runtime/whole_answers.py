"""Answers to inputs that are taken whole: images and sentences, those of equal length in one call of the model."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.answers import Asked, named
from kdcompress_runtime.batching import MAX_BATCH
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.input_kinds import KINDS
from kdcompress_runtime.inputs import intake_of, place_of
from kdcompress_runtime.result import Result, distinct

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders.base import Decoder, Hypothesis
    from kdcompress_runtime.inputs import Given
    from kdcompress_runtime.model import CtcModel

MAX_BATCH_UNITS = 16_000
"""Most columns or tokens in one call of the model, unless one input alone has more: bounds its memory."""


class WholeAnswers:
    """Images and sentences; those of equal length share calls of the model, where it answers each as it would alone."""

    def __init__(self, model: CtcModel, calibration: Calibration | None) -> None:
        self._model, self._calibration = model, calibration
        self._intake = intake_of(model)

    def item(self, item: Any, where: str) -> Asked:  # noqa: ANN401 - as in ``Answers``
        """See ``Answers.item``: the value itself."""
        return Asked(item, None, where)

    def log_probs(self, asked: Asked) -> NDArray[np.float32]:
        """See ``Answers.log_probs``."""
        rows: NDArray[np.float32] = self._step([self._take(asked)])[0]
        return rows

    def results(self, asked: Sequence[Asked], decoder: Decoder[Any]) -> list[Result]:
        """See ``Answers.results``."""
        given = [self._take(one) for one in asked]
        found: dict[int, Result] = {}
        for group in self._groups(given):
            for index, rows in zip(group, self._step([given[index] for index in group]), strict=True):
                state = decoder.advance(decoder.init_state(), rows)
                found[index] = self._spell(decoder.best(state, final=True), given[index])
        return [found[index] for index in range(len(given))]

    def nbest(self, asked: Asked, decoder: Decoder[Any], count: int) -> tuple[Result, ...]:
        """See ``Answers.nbest``."""
        given = self._take(asked)
        state = decoder.advance(decoder.init_state(), self._step([given])[0])
        best = distinct(self._model.vocabulary, lambda wanted: decoder.nbest(state, wanted), count)
        return tuple(self._spell(one, given) for one in best)

    def _take(self, asked: Asked) -> Given:
        if asked.sample_rate is not None:
            items = KINDS[self._model.metadata.input.kind].items
            raise OptionsError(f"this bundle takes {items}, and only audio has a sample rate; leave it out")
        with named(asked):
            return self._intake.take(asked.value)

    def _groups(self, given: Sequence[Given]) -> Iterator[list[int]]:
        """Indices of inputs that share a call."""
        alike: dict[int, list[int]] = defaultdict(list)
        for index, one in enumerate(given):
            alike[len(one.units)].append(index)
        for length, indices in alike.items():
            together = max(1, min(MAX_BATCH, MAX_BATCH_UNITS // length)) if self._model.rows_apart else 1
            for start in range(0, len(indices), together):
                yield indices[start : start + together]

    def _step(self, given: Sequence[Given]) -> NDArray[np.float32]:
        """Log-probabilities of inputs of one length, ``(N, T, C)``."""
        return self._model.step(np.stack([one.units for one in given]), {})[0]

    def _spell(self, found: Hypothesis, given: Given) -> Result:
        return Result.of(
            found,
            self._model.vocabulary,
            self._model.metadata,
            confidence=self._calibration,
            stable_tokens=len(found.token_ids),
            place=place_of(given, self._model.metadata),
        )
