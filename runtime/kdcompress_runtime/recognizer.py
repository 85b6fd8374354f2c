"""The recogniser: a bundle, opened once, that any number of threads may ask, or stream through."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from kdcompress_runtime.answers import Asked, answers_of
from kdcompress_runtime.batching import run_together
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.decoders import DecoderOptions, build_decoder
from kdcompress_runtime.endpoint import Endpointer, EndpointRules
from kdcompress_runtime.errors import OptionsError, PicklingRefusedError
from kdcompress_runtime.events import EventSource, iterate
from kdcompress_runtime.feed import MAX_WHOLE_SECONDS
from kdcompress_runtime.input_kinds import require_audio
from kdcompress_runtime.model import CtcModel
from kdcompress_runtime.resample import check_rate
from kdcompress_runtime.stream import MAX_QUEUE_SECONDS, Stream, hold
from kdcompress_runtime.tail import MAX_TAIL_SECONDS, TAIL_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from kdcompress_runtime.answers import Answers
    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders import Decoder
    from kdcompress_runtime.events import Event
    from kdcompress_runtime.lm.base import LanguageModel
    from kdcompress_runtime.model import SessionOptions
    from kdcompress_runtime.result import Result
    from kdcompress_runtime.vad import Vad, VadRules
    from kdcompress_runtime.vocabulary import Vocabulary


class Recognizer:
    """Turns audio, images of text lines, or sentences of another language into text.

    Thread-safe; what belongs to one recording that comes in pieces lives in its ``Stream``.

    Works in a forked child as long as onnxruntime has no threads of its own (the default); with some, the child is
    told so by a ``ForkedProcessError``. A forked child ends with ``os._exit``, as those of ``multiprocessing`` do:
    after ``sys.exit``, onnxruntime 1.31 waits for a thread that it starts when it is imported, and that is not there.
    With ``spawn``, open the bundle in the child.
    """

    def __init__(
        self,
        model: CtcModel,
        *,
        decoder: DecoderOptions | None = None,
        lm: str | Path | LanguageModel | None = None,
        lexicon: Collection[str] | None = None,
        endpoint: EndpointRules | None = None,
        chunk_frames: int | None = None,
        max_whole_seconds: float = MAX_WHOLE_SECONDS,
        max_queue_seconds: float = MAX_QUEUE_SECONDS,
        tail_seconds: float = TAIL_SECONDS,
        calibration: Calibration | None = None,
    ) -> None:
        """Wrap a loaded model; ``from_dir`` is the usual way, and describes the arguments.

        Raises:
            OptionsError: ``chunk_frames`` is not a positive integer, or the model does not stream; a limit is not
                above 0; the decoder knows no language model or lexicon, or cannot spell it; endpoint rules for a
                model that takes whole recordings; or anything that is for audio, and the model takes something else.
            LanguageModelError: the language model cannot be read.
            MissingDependencyError: the decoder or the language model needs a package that is not installed.
        """
        self._model = model
        for_audio = {"endpoint": endpoint is not None, "chunk_frames": chunk_frames is not None}
        for_audio["max_whole_seconds"] = max_whole_seconds != MAX_WHOLE_SECONDS
        for_audio["max_queue_seconds"] = max_queue_seconds != MAX_QUEUE_SECONDS
        for_audio["tail_seconds"] = tail_seconds != TAIL_SECONDS
        for name, asked in for_audio.items():
            if asked:
                require_audio(model.metadata, name, "leave it out")
        self._decoder = build_decoder(
            decoder or DecoderOptions(), model.vocabulary, lm=_language_model(lm), lexicon=_lexicon(lexicon)
        )
        self._calibration = calibration
        self._chunk_frames = model.metadata.chunk_frames if chunk_frames is None else chunk_frames
        chunk = self._chunk_frames
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise OptionsError(f"chunk_frames must be an integer of at least 1, found {chunk!r}")
        if chunk_frames is not None and not model.metadata.streaming:
            raise OptionsError("the model takes whole recordings, so there are no chunks; leave chunk_frames out")
        self._max_whole_seconds, self._max_queue_seconds = max_whole_seconds, max_queue_seconds
        limits = {"max_whole_seconds": max_whole_seconds, "max_queue_seconds": max_queue_seconds}
        for name, limit in limits.items():
            if not limit > 0:
                raise OptionsError(f"{name} must be above 0, found {limit!r}")
        if not 0 <= tail_seconds <= MAX_TAIL_SECONDS:
            raise OptionsError(f"tail_seconds must be 0 to {MAX_TAIL_SECONDS:g}, found {tail_seconds!r}")
        self._tail_seconds = tail_seconds
        self._endpoint = self._endpointer(endpoint)
        self._answers: Answers = answers_of(model, calibration, max_whole_seconds, tail_seconds)

    @classmethod
    def from_dir(
        cls,
        bundle_path: str | Path,
        *,
        precision: str | None = None,
        decoder: DecoderOptions | None = None,
        lm: str | Path | LanguageModel | None = None,
        lexicon: Collection[str] | None = None,
        endpoint: EndpointRules | None = None,
        chunk_frames: int | None = None,
        max_whole_seconds: float = MAX_WHOLE_SECONDS,
        max_queue_seconds: float = MAX_QUEUE_SECONDS,
        tail_seconds: float = TAIL_SECONDS,
        session_options: SessionOptions | None = None,
    ) -> Recognizer:
        """Open a bundle.

        Args:
            bundle_path: folder or ``.zip`` written by ``kdcompress export``.
            precision: ``float32``, ``int8``...; the bundle's default when left out.
            decoder: how to search. Left out: as the bundle was tuned, with its language model and lexicon; greedy
                where it was not. Given: the bundle's decoder, language model and lexicon are not used.
            lm: language model for the beam: a file (ARPA, packed, KenLM's binary) or one that is open.
            lexicon: the only words there may be, for the beam.
            endpoint: when utterances end; without rules they end with the input.
            chunk_frames: frames a stream steps at a time; the bundle's when left out. Fewer come sooner, more
                cost less. Only for models that stream.
            max_whole_seconds: longest recording for a model that takes it whole; its memory may grow with the square.
            max_queue_seconds: most audio that waits in a stream undecoded.
            tail_seconds: faint noise that a model hears behind the end of a recording, so that it says all that it
                has heard; times never lie beyond the end. Only for models that stream.
            session_options: threads and memory of onnxruntime.

        Raises:
            BundleError: missing, damaged, of another version, or without that precision.
            ModelError: the model is not the one that the bundle describes.
            OptionsError, LanguageModelError, MissingDependencyError: see ``Recognizer``.
        """
        bundle = Bundle.open(bundle_path)
        calibration: Calibration | None = None
        settings = bundle.metadata.decoder_settings
        if settings is not None:
            calibration = settings.confidence
            if decoder is None:
                decoder = settings.decoder_options()
                lm = _bundled_lm(bundle, settings.lm) if lm is None and settings.lm is not None else lm
                lexicon = settings.read_lexicon(bundle) if lexicon is None else lexicon
        return cls(
            CtcModel.from_bundle(bundle, precision, session_options),
            decoder=decoder,
            lm=lm,
            lexicon=lexicon,
            endpoint=endpoint,
            chunk_frames=chunk_frames,
            max_whole_seconds=max_whole_seconds,
            max_queue_seconds=max_queue_seconds,
            tail_seconds=tail_seconds,
            calibration=calibration,
        )

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

    def create_stream(
        self,
        *,
        hotwords: Mapping[str, float] | None = None,
        endpoint: EndpointRules | None = None,
        vad: Vad | None = None,
        vad_rules: VadRules | None = None,
    ) -> Stream:
        """Open a stream.

        Args:
            hotwords: phrase -> weight in nats for each of its letters; for the beam, and for this stream alone.
            endpoint: when its utterances end; the recogniser's rules when left out.
            vad: tells speech from silence: the model rests during long silences. Skipped audio counts as blank
                frames, so times stay right and endpoints come. On waking, the model's states begin anew and it hears
                ``vad_rules.context`` seconds again. What it says right after may differ a little from a stream
                without a VAD.
            vad_rules: how long before it rests, how much it hears again.

        Raises:
            OptionsError: this decoder knows no hotwords, or they cannot be spelt; endpoint rules or a VAD for a model
                that takes whole recordings; the bundle does not take audio.
        """
        require_audio(self.metadata, "a stream", "use recognize() or recognize_batch()")
        if vad is None and vad_rules is not None:
            raise OptionsError("vad_rules without a vad are of no effect; give vad, too")
        return Stream(
            self._model,
            self._decoder_with(hotwords),
            self._chunk_frames,
            self._max_whole_seconds,
            endpointer=self._endpoint if endpoint is None else self._endpointer(endpoint),
            vad=vad,
            vad_rules=vad_rules,
            max_queue_seconds=self._max_queue_seconds,
            calibration=self._calibration,
            tail_seconds=self._tail_seconds,
        )

    def decode_streams(self, streams: Sequence[Stream]) -> None:
        """Decode all that waits in the streams, many of them in each call of the model.

        Streams may stand anywhere, have nothing waiting, or be finished; one at an endpoint waits for its ``reset``.
        Answers are those of streams decoded alone: to the bit where onnxruntime computes a row the same whatever
        stands beside it, to float rounding elsewhere. Models quantized dynamically (``DynamicQuantizeLinear`` in the
        graph) take one range for all rows of a call, so their streams are stepped one by one; and so are models that
        take whole recordings.

        Raises:
            ModelError: the model failed for a stream; all others were decoded first.
            OptionsError: a stream is there twice, or is not of this recogniser; its VAD gave no answer; or the bundle
                does not take audio.
            StreamStateError: a stream is in use by another thread; nothing was decoded.
        """
        require_audio(self.metadata, "streams", "use recognize_batch()")
        with hold(streams, self._model, self._chunk_frames) as tracks:
            run_together(self._model, tracks)

    def stream(
        self,
        chunks: Iterable[NDArray[Any]],
        sample_rate: int,
        *,
        hotwords: Mapping[str, float] | None = None,
        endpoint: EndpointRules | None = None,
        vad: Vad | None = None,
        vad_rules: VadRules | None = None,
    ) -> Iterator[Event]:
        """Recognise chunks of audio as an iterator gives them.

        Args:
            chunks: see ``Stream.accept_waveform``; of any sizes, pulled when an event is asked for.
            sample_rate: Hz.
            hotwords: see ``create_stream``, as for the others.
            endpoint: without rules, here or of the recogniser, there is one final event, at the end.
            vad: see ``create_stream``.
            vad_rules: see ``create_stream``.

        Yields:
            A partial event when tokens have changed, a final one at each endpoint after speech and at the end.

        Raises:
            AudioError, OptionsError, MissingDependencyError, ModelError: see ``create_stream`` (at once) and
                ``Stream.accept_waveform`` (on the way).
        """
        check_rate(sample_rate)
        stream = self.create_stream(hotwords=hotwords, endpoint=endpoint, vad=vad, vad_rules=vad_rules)
        return iterate(EventSource(stream), chunks, sample_rate)

    def stream_async(
        self,
        chunks: AsyncIterable[NDArray[Any]],
        sample_rate: int,
        *,
        hotwords: Mapping[str, float] | None = None,
        endpoint: EndpointRules | None = None,
        vad: Vad | None = None,
        vad_rules: VadRules | None = None,
    ) -> AsyncIterator[Event]:
        """``stream`` for an asyncio loop: steps run in threads, and the loop goes on meanwhile.

        Chunks are pulled one at a time, so who sends faster than they are decoded has to wait. When the task is
        cancelled, the running step (at most a second of audio) ends first.

        Raises:
            AudioError, OptionsError, MissingDependencyError, ModelError: see ``stream``.
        """
        from kdcompress_runtime import asynchronous  # asyncio is not free, and few need it

        check_rate(sample_rate)
        stream = self.create_stream(hotwords=hotwords, endpoint=endpoint, vad=vad, vad_rules=vad_rules)
        return asynchronous.iterate(EventSource(stream), chunks, sample_rate)

    def recognize(
        self,
        value: NDArray[Any] | str | Path,
        sample_rate: int | None = None,
        *,
        hotwords: Mapping[str, float] | None = None,
    ) -> Result:
        """Recognise a whole recording, an image of a text line, or translate a sentence: what the bundle is for.

        A recording gives the same answer as a stream without endpoints, in larger steps or one.

        Args:
            value: a recording: mono samples, shape ``(n,)``, float32 or float64 in [-1, 1], or int16; ``n`` may be 0.
                An image: pixels ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` uint8 of any size, or the path of a file.
                A sentence: a text.
            sample_rate: Hz, for a recording.
            hotwords: see ``create_stream``.

        Returns:
            Positions are seconds, pixels of the image as given, or source tokens; see ``result``.

        Raises:
            AudioError, ModelError: see ``Stream.accept_waveform``.
            ImageError: no image, empty, or far longer than a line.
            SourceTextError: no text, empty, or far longer than a sentence.
            OptionsError: a recording without a rate, something else with one; hotwords, see ``create_stream``.
            MissingDependencyError: what reads the file of an image or changes the rate of audio is not installed.
        """
        return self._answers.results([Asked(value, sample_rate)], self._decoder_with(hotwords))[0]

    def recognize_batch(self, values: Iterable[Any], *, hotwords: Mapping[str, float] | None = None) -> list[Result]:
        """Recognise many inputs; a result for each, in their order.

        Images of equal width (at the model's height) and sentences of equal length share calls of the model, unless it
        was quantized dynamically. Answers are those of ``recognize``, up to the rounding that ``decode_streams`` tells
        of. All units of all values are held in memory; give a hundred thousand images in parts.

        Args:
            values: as for ``recognize``; a recording is a pair, samples and their rate.
            hotwords: see ``create_stream``.

        Raises:
            KdcompressError: see ``recognize``; the message says which value it was.
        """
        if isinstance(values, (str, bytes)):
            raise OptionsError(
                f"recognize_batch takes a list of values, found the text {values!r:.80}; wrap it: [text]"
            )
        asked = [self._answers.item(value, f"values[{index}]") for index, value in enumerate(values)]
        return self._answers.results(asked, self._decoder_with(hotwords))

    def nbest(
        self,
        value: NDArray[Any] | str | Path,
        count: int,
        sample_rate: int | None = None,
        *,
        hotwords: Mapping[str, float] | None = None,
    ) -> tuple[Result, ...]:
        """Up to ``count`` answers with different texts, best first; the greedy decoder knows one.

        Raises:
            KdcompressError: see ``recognize``.
        """
        return self._answers.nbest(Asked(value, sample_rate), self._decoder_with(hotwords), count)

    def log_probs(self, value: NDArray[Any] | str | Path, sample_rate: int | None = None) -> NDArray[np.float32]:
        """Natural-log probabilities of a whole input, float32, shape ``(T, C)``; of a recording without the tail.

        Raises:
            KdcompressError: see ``recognize``.
        """
        return self._answers.log_probs(Asked(value, sample_rate))

    def __reduce__(self) -> NoReturn:
        raise PicklingRefusedError(
            "a Recognizer cannot be pickled or copied: it holds a running onnxruntime session; "
            "open the bundle once in each process"
        )

    def _endpointer(self, rules: EndpointRules | None) -> Endpointer | None:
        if rules is None:
            return None
        if not self.metadata.streaming:
            raise OptionsError(
                "the model takes whole recordings and hears no endpoint before their end; leave endpoint out"
            )
        return Endpointer(rules, self.vocabulary, self.metadata.frame_shift_ms)

    def _decoder_with(self, hotwords: Mapping[str, float] | None) -> Decoder[Any]:
        return self._decoder.with_hotwords(hotwords) if hotwords else self._decoder


def _language_model(lm: str | Path | LanguageModel | None) -> LanguageModel | None:
    if not isinstance(lm, (str, os.PathLike)):
        return lm
    from kdcompress_runtime.lm import open_lm  # who decodes without a language model pays nothing for it

    return open_lm(lm)


def _lexicon(words: Collection[str] | None) -> Collection[str] | None:
    if isinstance(words, str):
        raise OptionsError(f"lexicon must be a collection of words, found the text {words!r:.80}")
    return words


def _bundled_lm(bundle: Bundle, file: str) -> LanguageModel:
    from kdcompress_runtime.lm.packed import loads  # as above

    return loads(bundle.read(file), source=f"{bundle.path}/{file}")
