"""The recogniser: a bundle, opened once, that any number of threads may stream through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.decoders import DecoderOptions, build_decoder
from kdcompress_runtime.errors import OptionsError, PicklingRefusedError
from kdcompress_runtime.feed import MAX_WHOLE_SECONDS, open_feed
from kdcompress_runtime.model import CtcModel
from kdcompress_runtime.resample import check_rate
from kdcompress_runtime.samples import check_samples
from kdcompress_runtime.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.model import SessionOptions
    from kdcompress_runtime.result import Result
    from kdcompress_runtime.vocabulary import Vocabulary

WHOLE_STEP_SECONDS = 30.0
"""Longest step of ``recognize`` for a model that streams: bounds its memory, however long the recording."""


class Recognizer:
    """Turns audio into text. Thread-safe; what belongs to one recording lives in its ``Stream``."""

    def __init__(
        self,
        model: CtcModel,
        *,
        decoder: DecoderOptions | None = None,
        chunk_frames: int | None = None,
        max_whole_seconds: float = MAX_WHOLE_SECONDS,
    ) -> None:
        """Wrap a loaded model; ``from_dir`` is the usual way.

        Raises:
            OptionsError: ``chunk_frames`` is not a positive integer, or the model does not stream;
                ``max_whole_seconds`` is not above 0.
            MissingDependencyError: the decoder needs a package that is not installed.
        """
        self._model = model
        self._decoder = build_decoder(decoder or DecoderOptions(), model.vocabulary)
        self._chunk_frames = model.metadata.chunk_frames if chunk_frames is None else chunk_frames
        chunk = self._chunk_frames
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise OptionsError(f"chunk_frames must be an integer of at least 1, found {chunk!r}")
        if chunk_frames is not None and not model.metadata.streaming:
            raise OptionsError("the model takes whole recordings, so there are no chunks; leave chunk_frames out")
        self._max_whole_seconds = max_whole_seconds
        if not max_whole_seconds > 0:
            raise OptionsError(f"max_whole_seconds must be above 0, found {max_whole_seconds!r}")

    @classmethod
    def from_dir(
        cls,
        bundle_path: str | Path,
        *,
        precision: str | None = None,
        decoder: DecoderOptions | None = None,
        chunk_frames: int | None = None,
        max_whole_seconds: float = MAX_WHOLE_SECONDS,
        session_options: SessionOptions | None = None,
    ) -> Recognizer:
        """Open a bundle.

        Args:
            bundle_path: folder or ``.zip`` written by ``kdcompress export``.
            precision: ``float32``, ``int8``...; the bundle's default when left out.
            decoder: how to search; greedy when left out.
            chunk_frames: frames a stream steps at a time; the bundle's when left out. Fewer come sooner, more
                cost less. Only for models that stream.
            max_whole_seconds: longest recording for a model that takes it whole; its memory may grow with the square.
            session_options: threads and memory of onnxruntime.

        Raises:
            BundleError: missing, damaged, of another version, or without that precision.
            ModelError: the model is not the one that the bundle describes.
            OptionsError, MissingDependencyError: see ``Recognizer``.
        """
        model = CtcModel.from_bundle(Bundle.open(bundle_path), precision, session_options)
        return cls(model, decoder=decoder, chunk_frames=chunk_frames, max_whole_seconds=max_whole_seconds)

    @property
    def metadata(self) -> BundleMetadata:
        """What ``bundle.json`` says."""
        return self._model.metadata

    @property
    def vocabulary(self) -> Vocabulary:
        """The token table."""
        return self._model.vocabulary

    @property
    def chunk_frames(self) -> int:
        """Frames that a stream steps at a time; without meaning where the model takes whole recordings."""
        return self._chunk_frames

    def create_stream(self) -> Stream:
        """Open a stream for one recording."""
        return Stream(self._model, self._decoder, self._chunk_frames, self._max_whole_seconds)

    def recognize(self, samples: NDArray[Any], sample_rate: int) -> Result:
        """Recognise a whole recording; the same answer as a stream, in larger steps or one.

        Args:
            samples: mono, shape ``(n,)``, float32 or float64 in [-1, 1], or int16; ``n`` may be 0.
            sample_rate: Hz.

        Raises:
            AudioError, OptionsError, MissingDependencyError, ModelError: see ``Stream.accept_waveform``.
        """
        step = self._whole_step(samples, sample_rate)
        stream = Stream(self._model, self._decoder, step, self._max_whole_seconds)
        stream.accept_waveform(samples, sample_rate)
        stream.input_finished()
        return stream.result()

    def log_probs(self, samples: NDArray[Any], sample_rate: int) -> NDArray[np.float32]:
        """Natural-log probabilities of a whole recording, float32, shape ``(T, C)``.

        Raises:
            AudioError, OptionsError, MissingDependencyError, ModelError: see ``Stream.accept_waveform``.
        """
        feed = open_feed(self._model, self._whole_step(samples, sample_rate), self._max_whole_seconds)
        nothing = np.zeros((0, len(self.vocabulary)), dtype=np.float32)
        return np.concatenate([nothing, *feed.accept(samples, sample_rate), *feed.finish()])

    def __reduce__(self) -> NoReturn:
        raise PicklingRefusedError(
            "a Recognizer cannot be pickled or copied: it holds a running onnxruntime session; "
            "open the bundle once in each process"
        )

    def _whole_step(self, samples: NDArray[Any], sample_rate: int) -> int:
        """Frames for a step over everything, but no more than ``WHOLE_STEP_SECONDS``."""
        check_rate(sample_rate)
        check_samples(samples)
        metadata = self.metadata
        model_samples = -(-len(samples) * (metadata.input.sample_rate or sample_rate) // sample_rate)
        frames = -(-model_samples // metadata.input.units_per_frame) + metadata.lookahead_frames
        longest = int(WHOLE_STEP_SECONDS * 1000 / metadata.frame_shift_ms)
        return max(1, min(frames, longest))
