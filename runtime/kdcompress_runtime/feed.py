"""From audio to log-probabilities: resample, cut into fixed chunks, step the model, undo its lag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import AudioError
from kdcompress_runtime.resample import Resampler, check_rate
from kdcompress_runtime.samples import blocks, check_samples, to_float32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kdcompress_runtime.model import CtcModel


class PcmFeed:
    """Feeds one recording to a model, in steps of ``chunk_frames`` counted from its start.

    Because the steps do not depend on how the caller cuts the audio, neither does a single bit of the
    answer; and onnxruntime sees one shape, so its memory stays flat.
    """

    def __init__(self, model: CtcModel, chunk_frames: int) -> None:
        self._model = model
        self._units = model.metadata.input.units_per_frame
        self._chunk = chunk_frames
        self._states = model.init_states()
        self._resampler: Resampler | None = None
        self._source_rate = 0
        self._pending = np.zeros(0, dtype=np.float32)
        self._received = 0
        """Samples at the model's rate."""
        self._stepped = 0
        """Frames that came out of the model, the lag among them."""

    def accept(self, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[np.float32]]:
        """Take samples; yield the log-probabilities that became known, each of shape ``(T, C)``.

        Raises:
            AudioError: see ``check_samples``; or the rate changed since the first samples. Nothing was taken.
            OptionsError: the rate is not a positive integer.
            ModelError: the model failed.
        """
        check_rate(sample_rate)
        check_samples(samples)
        if self._resampler is None:
            self._resampler = Resampler(sample_rate, self._model_rate)
            self._source_rate = sample_rate
        elif sample_rate != self._source_rate:
            raise AudioError(
                f"the stream began at {self._source_rate} Hz and goes on at {sample_rate} Hz; "
                "use one rate for a stream, or open another stream"
            )
        for block in blocks(samples):
            yield from self._push(self._resampler.process(to_float32(block)))

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """Flush the resampler, pad the tail, and yield all that is left."""
        if self._resampler is not None:
            yield from self._push(self._resampler.process(np.zeros(0, dtype=np.float32), last=True))
        frames = -(-self._received // self._units)
        lag = self._model.metadata.lookahead_frames
        while frames and self._stepped < frames + lag:
            surplus = max(self._stepped + self._chunk - frames - lag, 0)
            padding = np.zeros(self._chunk * self._units - len(self._pending), dtype=np.float32)
            log_probs = self._step(np.concatenate([self._pending, padding]))
            self._pending = self._pending[:0]
            yield log_probs[: max(len(log_probs) - surplus, 0)]

    @property
    def _model_rate(self) -> int:
        rate = self._model.metadata.input.sample_rate
        if rate is None:
            raise AudioError("this bundle does not take audio; its input has no sample_rate")
        return rate

    def _push(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Step over every whole chunk; keep the rest."""
        self._received += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        size = self._chunk * self._units
        while len(self._pending) >= size:
            log_probs = self._step(self._pending[:size])
            self._pending = self._pending[size:]
            yield log_probs

    def _step(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """One step; the frames of the lag are dropped."""
        log_probs, self._states = self._model.step(chunk[None], self._states)
        early = max(self._model.metadata.lookahead_frames - self._stepped, 0)
        self._stepped += len(log_probs[0])
        return log_probs[0, early:]
