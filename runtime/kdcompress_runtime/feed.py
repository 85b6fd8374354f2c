"""From audio to log-probabilities: resample, cut into fixed chunks or keep whole, step the model, undo its lag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kdcompress_runtime.errors import AudioError, AudioTooLongError
from kdcompress_runtime.resample import Resampler, check_rate
from kdcompress_runtime.samples import blocks, check_samples, to_float32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.model import CtcModel

MAX_WHOLE_SECONDS = 300.0
"""Longest recording for a model that takes it whole, unless the caller says otherwise. The memory of attention grows
with the square of it, and a stream that nobody ends would fill the rest."""


class Feed(Protocol):
    """Feeds one recording to a model."""

    def accept(self, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[np.float32]]:
        """Take samples; yield the log-probabilities that became known, each of shape ``(T, C)``.

        Raises:
            AudioError: see ``check_samples``; or the rate changed since the first samples. Nothing was taken.
            AudioTooLongError: the model takes whole recordings, and this one is too long. Nothing was taken.
            OptionsError: the rate is not a positive integer.
            ModelError: the model failed.
        """
        ...

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """Yield all that is left; nothing may follow.

        Raises:
            ModelError: the model failed.
        """
        ...


def open_feed(model: CtcModel, chunk_frames: int, max_whole_seconds: float = MAX_WHOLE_SECONDS) -> Feed:
    """Return the feed for a model: in steps of ``chunk_frames`` frames, or at the end when it does not stream."""
    return PcmFeed(model, chunk_frames) if model.metadata.streaming else WholePcmFeed(model, max_whole_seconds)


class _PcmIntake:
    """Audio as the caller has it, to audio as the model wants it: float32 at its rate."""

    def __init__(self, metadata: BundleMetadata) -> None:
        if metadata.input.sample_rate is None:
            raise AudioError("this bundle does not take audio; its input has no sample_rate")
        self._rate = metadata.input.sample_rate
        self._resampler: Resampler | None = None
        self._source_rate = 0

    def check(self, samples: NDArray[Any], sample_rate: int) -> None:
        """Refuse what cannot be taken; see ``Feed.accept``."""
        check_rate(sample_rate)
        check_samples(samples)
        if self._resampler is not None and sample_rate != self._source_rate:
            raise AudioError(
                f"the stream began at {self._source_rate} Hz and goes on at {sample_rate} Hz; "
                "use one rate for a stream, or open another stream"
            )

    def take(self, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[np.float32]]:
        """Convert checked samples, piece by piece."""
        if self._resampler is None:
            self._resampler = Resampler(sample_rate, self._rate)
            self._source_rate = sample_rate
        for block in blocks(samples):
            yield self._resampler.process(to_float32(block))

    def rest(self) -> NDArray[np.float32]:
        """What the resampler still holds."""
        nothing = np.zeros(0, dtype=np.float32)
        return nothing if self._resampler is None else self._resampler.process(nothing, last=True)


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
        self._intake = _PcmIntake(model.metadata)
        self._pending = np.zeros(0, dtype=np.float32)
        self._received = 0
        """Samples at the model's rate."""
        self._stepped = 0
        """Frames that came out of the model, the lag among them."""

    def accept(self, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[np.float32]]:
        """See ``Feed.accept``."""
        self._intake.check(samples, sample_rate)
        for piece in self._intake.take(samples, sample_rate):
            yield from self._push(piece)

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """Flush the resampler, pad the tail, and yield all that is left."""
        yield from self._push(self._intake.rest())
        frames = -(-self._received // self._units)
        lag = self._model.metadata.lookahead_frames
        while frames and self._stepped < frames + lag:
            surplus = max(self._stepped + self._chunk - frames - lag, 0)
            padding = np.zeros(self._chunk * self._units - len(self._pending), dtype=np.float32)
            log_probs = self._step(np.concatenate([self._pending, padding]))
            self._pending = self._pending[:0]
            yield log_probs[: max(len(log_probs) - surplus, 0)]

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


class WholePcmFeed:
    """Keeps one recording, and gives it to a model that takes it whole at the end."""

    def __init__(self, model: CtcModel, max_seconds: float) -> None:
        self._model = model
        self._max_seconds = max_seconds
        self._intake = _PcmIntake(model.metadata)
        self._seconds = 0.0
        # Bytes, and no list of arrays: a caller may push one sample at a time.
        self._kept = bytearray()

    def accept(self, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[np.float32]]:
        """See ``Feed.accept``; yields nothing."""
        self._intake.check(samples, sample_rate)
        seconds = self._seconds + len(samples) / sample_rate
        if seconds > self._max_seconds:
            raise AudioTooLongError(
                f"{seconds:.1f} s of audio for a model that takes whole recordings of at most {self._max_seconds:g} s; "
                "cut the recording at its pauses, or raise max_whole_seconds"
            )
        self._seconds = seconds
        for piece in self._intake.take(samples, sample_rate):
            self._kept += piece.tobytes()
        yield from ()

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """Run the model once over everything, padded to the shortest input that it takes; no audio gives no frames."""
        self._kept += self._intake.rest().tobytes()
        samples, self._kept = np.frombuffer(self._kept, dtype=np.float32), bytearray()
        if len(samples):
            missing = max(self._model.metadata.input.min_units - len(samples), 0)
            log_probs, _ = self._model.step(np.pad(samples, (0, missing))[None], self._model.init_states())
            yield log_probs[0]
