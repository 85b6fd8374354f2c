"""From whole inputs to results, by kind of input: audio here, through a stream; the others in ``whole_answers``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kdcompress_runtime.errors import InputError, OptionsError
from kdcompress_runtime.feed import open_feed, run_feed
from kdcompress_runtime.input_kinds import KINDS
from kdcompress_runtime.resample import check_rate
from kdcompress_runtime.samples import check_samples
from kdcompress_runtime.stream import Stream
from kdcompress_runtime.tail import tail_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders.base import Decoder
    from kdcompress_runtime.model import CtcModel
    from kdcompress_runtime.result import Result

WHOLE_STEP_SECONDS = 30.0
"""Longest step over a recording for a model that streams: bounds its memory, however long the recording."""


class Asked(NamedTuple):
    """One value of the caller."""

    value: Any
    """As ``Recognizer.recognize`` takes it."""
    sample_rate: int | None = None
    """Hz, for audio."""
    where: str = ""
    """Its name in messages; empty where it is the only one."""


class Answers(Protocol):
    """Answers to whole inputs of one kind."""

    def item(self, item: Any, where: str) -> Asked:  # noqa: ANN401 - whatever the caller gave
        """Read an item of ``Recognizer.recognize_batch``."""

    def log_probs(self, asked: Asked) -> NDArray[np.float32]:
        """Natural-log probabilities, ``(T, C)``."""

    def results(self, asked: Sequence[Asked], decoder: Decoder[Any]) -> list[Result]:
        """A result for each input, in their order."""

    def nbest(self, asked: Asked, decoder: Decoder[Any], count: int) -> tuple[Result, ...]:
        """Up to ``count`` results with different texts, best first."""


class AudioAnswers:
    """Recordings, one by one, as streams answer."""

    def __init__(
        self, model: CtcModel, calibration: Calibration | None, max_whole_seconds: float, tail_seconds: float
    ) -> None:
        self._model, self._calibration = model, calibration
        self._max_whole_seconds, self._tail_seconds = max_whole_seconds, tail_seconds

    def item(self, item: Any, where: str) -> Asked:  # noqa: ANN401 - as in ``Answers``
        """See ``Answers.item``: samples and their rate.

        Raises:
            OptionsError: it is something else.
        """
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise OptionsError(f"{where}: a recording is (samples, sample_rate), found {type(item).__name__}")
        return Asked(item[0], item[1], where)

    def log_probs(self, asked: Asked) -> NDArray[np.float32]:
        """See ``Answers.log_probs``; without the tail behind the end."""
        feed = open_feed(self._model, self._step(asked), self._max_whole_seconds)
        nothing = np.zeros((0, len(self._model.vocabulary)), dtype=np.float32)
        return np.concatenate([nothing, *run_feed(self._model, feed, asked.value, asked.sample_rate or 0)])

    def results(self, asked: Sequence[Asked], decoder: Decoder[Any]) -> list[Result]:
        """See ``Answers.results``."""
        return [self._heard(one, decoder).result() for one in asked]

    def nbest(self, asked: Asked, decoder: Decoder[Any], count: int) -> tuple[Result, ...]:
        """See ``Answers.nbest``."""
        return self._heard(asked, decoder).nbest(count)

    def _heard(self, asked: Asked, decoder: Decoder[Any]) -> Stream:
        """Return a stream that has had all of a recording."""
        with named(asked):
            stream = Stream(
                self._model,
                decoder,
                self._step(asked),
                self._max_whole_seconds,
                calibration=self._calibration,
                tail_seconds=self._tail_seconds,
            )
            stream.accept_waveform(asked.value, asked.sample_rate or 0)
            stream.input_finished()
            return stream

    def _step(self, asked: Asked) -> int:
        """Frames for a step over everything, but no more than ``WHOLE_STEP_SECONDS``."""
        samples, rate, metadata = asked.value, asked.sample_rate, self._model.metadata
        if rate is None:
            raise OptionsError("audio needs its sample_rate in Hz; give it behind the samples")
        check_rate(rate)
        check_samples(samples)
        model_samples = -(-len(samples) * (metadata.input.sample_rate or rate) // rate)
        frames = -(-model_samples // metadata.input.units_per_frame) + metadata.lookahead_frames
        frames += tail_frames(metadata, self._tail_seconds)
        longest = int(WHOLE_STEP_SECONDS * 1000 / metadata.frame_shift_ms)
        return max(1, min(frames, longest))


@contextmanager
def named(asked: Asked) -> Iterator[None]:
    """Put the name of an input among others before what is said about it."""
    try:
        yield
    except InputError as error:
        if not asked.where:
            raise
        raise type(error)(f"{asked.where}: {error}") from error


def answers_of(
    model: CtcModel, calibration: Calibration | None, max_whole_seconds: float, tail_seconds: float
) -> Answers:
    """Return what answers to the inputs of a model; the seconds are for audio."""
    if KINDS[model.metadata.input.kind].streams:
        return AudioAnswers(model, calibration, max_whole_seconds, tail_seconds)
    from kdcompress_runtime.whole_answers import WholeAnswers  # who hears audio does not pay for it

    return WholeAnswers(model, calibration)
