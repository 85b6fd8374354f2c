"""A stream: audio in pieces of any size, results at any time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from kdcompress_runtime.errors import PicklingRefusedError, StreamStateError
from kdcompress_runtime.feed import MAX_WHOLE_SECONDS, open_feed
from kdcompress_runtime.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.base import Decoder
    from kdcompress_runtime.model import CtcModel


class Stream:
    """One recording on its way through a recogniser; made by ``Recognizer.create_stream``.

    Results are the same however the audio is cut. Belongs to one thread at a time. A model that takes whole
    recordings answers at ``input_finished``; until then the audio is kept, up to ``max_whole_seconds``.
    """

    def __init__(
        self,
        model: CtcModel,
        decoder: Decoder[Any],
        chunk_frames: int,
        max_whole_seconds: float = MAX_WHOLE_SECONDS,
    ) -> None:
        self._model = model
        self._decoder = decoder
        self._feed = open_feed(model, chunk_frames, max_whole_seconds)
        self._state = decoder.init_state()
        self._frames = 0
        self._finished = False
        self._in_use = threading.Lock()

    @property
    def frames_decoded(self) -> int:
        """Frames that the results take into account."""
        return self._frames

    def accept_waveform(self, samples: NDArray[Any], sample_rate: int) -> None:
        """Take the next samples and decode as far as they reach.

        Args:
            samples: mono, shape ``(n,)``, float32 or float64 in [-1, 1], or int16; ``n`` may be 0.
            sample_rate: Hz, the same for the whole stream; resampled where it is not the model's.

        Raises:
            AudioError: samples that cannot be used; nothing of them was taken.
            AudioTooLongError: more than ``max_whole_seconds`` for a model that takes whole recordings; nothing of
                these samples was taken.
            OptionsError: the rate is not a positive integer.
            StreamStateError: the input was finished, or another thread is using the stream.
            MissingDependencyError: the rate must be changed and soxr is not installed.
            ModelError: the model failed.
        """
        with self._alone():
            if self._finished:
                raise StreamStateError("audio after input_finished(); open a new stream for it")
            self._decode(self._feed.accept(samples, sample_rate))

    def input_finished(self) -> None:
        """Say that no more audio comes, and decode the tail; a second call changes nothing.

        Raises:
            StreamStateError: another thread is using the stream.
            ModelError: the model failed.
        """
        with self._alone():
            if not self._finished:
                self._finished = True
                self._decode(self._feed.finish())

    def partial_result(self) -> Result:
        """What is recognised so far; later audio may change it.

        Empty until ``input_finished`` where the model takes whole recordings.
        """
        return Result.of(self._decoder.best(self._state), self._model.vocabulary, self._model.metadata)

    def result(self) -> Result:
        """The final result.

        Raises:
            StreamStateError: ``input_finished`` was not called.
        """
        self._check_finished("result()")
        return self.partial_result()

    def nbest(self, count: int) -> tuple[Result, ...]:
        """Up to ``count`` results, best first; the greedy decoder knows one.

        Raises:
            StreamStateError: ``input_finished`` was not called.
        """
        self._check_finished("nbest()")
        found = self._decoder.nbest(self._state, count)
        return tuple(Result.of(one, self._model.vocabulary, self._model.metadata) for one in found)

    def __reduce__(self) -> NoReturn:
        raise PicklingRefusedError(
            "a Stream cannot be pickled or copied: it belongs to one recogniser and one thread; "
            "send the audio to where the stream is"
        )

    def _decode(self, pieces: Iterator[NDArray[np.float32]]) -> None:
        for log_probs in pieces:
            self._state = self._decoder.advance(self._state, log_probs)
            self._frames += len(log_probs)

    def _check_finished(self, what: str) -> None:
        if not self._finished:
            raise StreamStateError(f"{what} before input_finished(); call it, or ask for partial_result()")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise StreamStateError("the stream is in use by another thread; give each thread its own stream")
        try:
            yield
        finally:
            self._in_use.release()
