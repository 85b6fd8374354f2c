"""A stream: audio in pieces of any size, results at any time."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from kdcompress_runtime.errors import OptionsError, PicklingRefusedError, StreamOverflowError, StreamStateError
from kdcompress_runtime.feed import MAX_WHOLE_SECONDS, open_feed
from kdcompress_runtime.result import Result, distinct
from kdcompress_runtime.tail import TAIL_SECONDS, tail_frames
from kdcompress_runtime.track import Progress, Track
from kdcompress_runtime.vad import Gate, VadRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders.base import Decoder, Hypothesis
    from kdcompress_runtime.endpoint import Endpointer
    from kdcompress_runtime.feed import Feed
    from kdcompress_runtime.model import CtcModel
    from kdcompress_runtime.vad import Vad

MAX_QUEUE_SECONDS = 60.0
"""Most audio that waits in a stream undecoded, unless the caller says otherwise."""


class Stream:
    """Audio on its way through a recogniser; made by ``Recognizer.create_stream``.

    Results are the same however the audio is cut, and so are endpoints. Times count from the first sample that the
    stream ever got. Belongs to one thread at a time (``partial_result``, ``result`` and ``is_endpoint`` may be asked
    from any). A model that takes whole recordings answers at ``input_finished``; until then the audio is kept, up to
    ``max_whole_seconds``.

    A call that is interrupted (Ctrl-C) while the model steps has decoded less, and the next call catches up; while it
    takes audio, the stream has lost its place, and says so from then on.
    """

    def __init__(
        self,
        model: CtcModel,
        decoder: Decoder[Any],
        chunk_frames: int,
        max_whole_seconds: float = MAX_WHOLE_SECONDS,
        *,
        endpointer: Endpointer | None = None,
        vad: Vad | None = None,
        vad_rules: VadRules | None = None,
        max_queue_seconds: float = MAX_QUEUE_SECONDS,
        calibration: Calibration | None = None,
        tail_seconds: float = TAIL_SECONDS,
    ) -> None:
        if endpointer is not None and not model.metadata.streaming:
            raise OptionsError("the model takes whole recordings and hears no endpoint before their end; leave it out")
        self._model = model
        self._chunk_frames = chunk_frames
        self._decoder = decoder
        self._has_rules = endpointer is not None
        self._max_queue_seconds = max_queue_seconds
        self._calibration = calibration
        self._rate = model.metadata.input.sample_rate or 0

        def next_feed(source_rate: int) -> Feed:
            gate = None
            if vad is not None:
                size = chunk_frames * model.metadata.input.units_per_frame
                gate = Gate(vad, vad_rules or VadRules(), sample_rate=self._rate, chunk_samples=size)
            return open_feed(
                model,
                chunk_frames,
                max_whole_seconds,
                gate=gate,
                source_rate=source_rate,
                tail_frames=tail_frames(model.metadata, tail_seconds),
            )

        self._track = Track(decoder, next_feed, endpointer)
        self._cached: tuple[Progress, bool, Result] | None = None
        self._spelt: tuple[tuple[Any, ...], tuple[Any, ...], Result] | None = None
        """What the last result was made of, scores apart."""
        self._in_use = threading.Lock()
        self._lost = False
        """Audio was on its way in; still true in a later call, that one was interrupted."""

    @property
    def frames_decoded(self) -> int:
        """Frames of audio that the results so far took into account, from the start of the stream."""
        return self._track.frames_before + self._track.audio_frames

    @property
    def endpoint_rule(self) -> str | None:
        """Which of the ``EndpointRules`` ended the utterance: initial, trailing, confident or length; None: none."""
        return self._track.progress.rule

    def accept_waveform(self, samples: NDArray[Any], sample_rate: int, *, decode: bool = True) -> None:
        """Take the next samples and decode as far as they reach, or as far as the next endpoint.

        Args:
            samples: mono, shape ``(n,)``, float32 or float64 in [-1, 1], or int16; ``n`` may be 0. Not kept.
            sample_rate: Hz, the same for the whole stream; resampled where it is not the model's.
            decode: False: keep them for ``Recognizer.decode_streams``.

        Raises:
            AudioError: samples that cannot be used; nothing of them was taken.
            AudioTooLongError: more than ``max_whole_seconds`` for a model that takes whole recordings; nothing of
                these samples was taken.
            StreamOverflowError: more than ``max_queue_seconds`` would wait, because nobody decodes or because the
                utterance has ended and ``reset`` was not called; nothing of these samples was taken. In a stream with
                endpoint rules no more than this fits into one call.
            OptionsError: the rate is not a positive integer; or the VAD gave no answer.
            StreamStateError: the input was finished, or another thread is using the stream.
            MissingDependencyError: the rate must be changed and soxr is not installed.
            ModelError: the model failed.
        """
        with self._alone():
            if self._track.finished:
                raise StreamStateError(
                    "audio after input_finished() or flush(); reset() the stream, or open a new stream for it"
                )
            feed = self._track.feed
            feed.intake.check(samples, sample_rate)
            feed.check_room(samples, sample_rate)
            # What is decoded on the way never waits, unless an endpoint stops it.
            self._check_queue(0.0 if decode and not self._has_rules else len(samples) / sample_rate)
            self._lost = True
            for _ in feed.intake.take(samples):
                if decode:
                    self._track.run(self._model)
            self._lost = False
            if decode:
                self._track.run(self._model)

    def input_finished(self, *, decode: bool = True) -> None:
        """Say that no more audio comes, and decode the tail, padded as the model needs it.

        A second call changes nothing. With endpoint rules, decoding stops at the next endpoint; ``reset`` goes on.

        Args:
            decode: False: leave the rest to ``Recognizer.decode_streams``.

        Raises:
            OptionsError: the VAD gave no answer.
            StreamStateError: another thread is using the stream.
            ModelError: the model failed.
        """
        with self._alone():
            self._finish(decode=decode)

    def flush(self) -> Result:
        """The final result now: ``input_finished()`` and ``result()`` in one call. ``reset`` begins the next utterance.

        In a stream with endpoint rules that let several utterances wait, it is the first of them; ``reset`` and
        ``result`` give the others.

        Raises:
            StreamStateError, OptionsError, ModelError: see ``input_finished``.
        """
        with self._alone():
            self._finish(decode=True)
        return self.result()

    def is_endpoint(self) -> bool:
        """Whether the utterance has ended by the stream's ``EndpointRules``; ``result`` has it, ``reset`` goes on.

        Raises:
            StreamStateError: the stream has no rules.
        """
        if not self._has_rules:
            raise StreamStateError(
                "this stream has no endpoint rules, so none will ever come; give endpoint=EndpointRules() to "
                "create_stream() or to the Recognizer"
            )
        return self._track.progress.rule is not None

    def reset(self, *, decode: bool = True) -> None:
        """Begin the next utterance; no audio is lost, and times go on counting from the start of the stream.

        After an endpoint, or in the middle of an utterance, the decoder begins anew, while the model goes on where it
        stands: audio that waits belongs to the next utterance and is decoded now, up to the next endpoint. After
        ``flush`` or ``input_finished`` (all utterances read), the model begins anew, too, and takes audio again.

        Args:
            decode: False: leave what waits to ``Recognizer.decode_streams``.

        Raises:
            OptionsError: the VAD gave no answer.
            StreamStateError: the end of the recording is not decoded yet; or another thread is using the stream.
            ModelError: the model failed.
        """
        with self._alone():
            track = self._track
            if track.finished and track.progress.rule is None:
                self._check_decoded("reset()")
                self._lost = True
                track.next_recording()
                self._lost = False
            else:
                track.next_utterance()
                if decode:
                    track.run(self._model)

    def partial_result(self) -> Result:
        """What is recognised of the utterance so far; later audio may change it beyond its ``stable_tokens``.

        The final result once the utterance has ended. Costs nothing when nothing was decoded since the last call.
        Empty until ``input_finished`` where the model takes whole recordings.
        """
        return self._result_now(final=self._ended())

    def result(self) -> Result:
        """The final result of the utterance.

        Raises:
            StreamStateError: it has not ended: no endpoint, and no ``input_finished`` or ``flush``.
        """
        self._check_finished("result()")
        return self._result_now(final=True)

    def nbest(self, count: int) -> tuple[Result, ...]:
        """Up to ``count`` results with different texts, best first; the greedy decoder knows one.

        Hypotheses that differ in separators alone spell one text; the best of them stands for it.

        Raises:
            StreamStateError: see ``result``.
        """
        self._check_finished("nbest()")
        progress = self._track.progress
        best = distinct(self._model.vocabulary, lambda wanted: self._decoder.nbest(progress.decoded, wanted), count)
        return tuple(self._spell(one, progress, len(one.token_ids)) for one in best)

    def belongs_to(self, model: CtcModel, chunk_frames: int) -> bool:
        """Whether the stream steps this model in these chunks."""
        return self._model is model and self._chunk_frames == chunk_frames

    def __reduce__(self) -> NoReturn:
        raise PicklingRefusedError(
            "a Stream cannot be pickled or copied: it belongs to one recogniser and one thread; "
            "send the audio to where the stream is"
        )

    def _finish(self, *, decode: bool) -> None:
        track = self._track
        if not track.finished:
            self._lost = True
            track.feed.finish()
            track.finished = True
            self._lost = False
        if decode:
            track.run(self._model)

    def _ended(self) -> bool:
        return self._track.progress.rule is not None or (self._track.finished and self._track.over())

    def _result_now(self, *, final: bool) -> Result:
        progress = self._track.progress
        if self._cached is None or self._cached[0] is not progress or self._cached[1] != final:
            best = self._decoder.best(progress.decoded, final=final)
            stable = len(best.token_ids) if final else self._decoder.stable_count(progress.decoded)
            self._cached = (progress, final, self._respell(best, progress, stable, final=final))
        return self._cached[2]

    def _respell(self, found: Hypothesis, progress: Progress, stable: int, *, final: bool) -> Result:
        """Spell a hypothesis out; most chunks add no token, and then only the scores are new."""
        key = (self._track.samples_before, progress.begin, final)
        same = (found.token_ids, found.frames, found.ends, found.token_log_probs)
        if self._spelt is None or self._spelt[:2] != (key, same):
            self._spelt = (key, same, self._spell(found, progress, stable))
            return self._spelt[2]
        return replace(self._spelt[2], log_prob=found.log_prob, score=found.score, stable_tokens=stable)

    def _spell(self, found: Hypothesis, progress: Progress, stable: int) -> Result:
        metadata, track = self._model.metadata, self._track
        offset: float = progress.begin
        if track.samples_before:
            seconds = track.samples_before / track.feed.intake.source_rate
            offset += seconds * 1000 / metadata.frame_shift_ms
        ended = track.feed.audio_frames
        return Result.of(
            found,
            self._model.vocabulary,
            metadata,
            confidence=self._calibration,
            stable_tokens=stable,
            offset_frames=offset,
            last_frame=None if ended is None else ended - progress.begin,
        )

    def _check_finished(self, what: str) -> None:
        if not self._ended():
            if self._track.finished:
                self._check_decoded(what)
            wanted = "an endpoint or input_finished()" if self._has_rules else "input_finished()"
            raise StreamStateError(f"{what} before {wanted}; wait for it, call flush(), or ask for partial_result()")

    def _check_decoded(self, what: str) -> None:
        if not self._track.over():
            raise StreamStateError(
                f"{what} before the end of the recording was decoded; call decode_streams() until it has nothing to do"
            )

    def _check_queue(self, seconds: float) -> None:
        """Refuse ``seconds`` more of audio where they may have to wait; whole recordings have a limit of their own."""
        if not self._model.metadata.streaming:
            return
        waiting = self._track.feed.waiting(self._track.progress.position) / self._rate
        if waiting + seconds <= self._max_queue_seconds:
            return
        remedy = "call recognizer.decode_streams(), or feed shorter pieces"
        if self._track.progress.rule is not None:
            remedy = "the utterance has ended: take its result() and reset() the stream"
        elif self._has_rules:
            remedy = "feed shorter pieces, and look for endpoints between them; recognizer.stream() does it"
        raise StreamOverflowError(
            f"{waiting:.1f} s of audio wait in the stream, and {seconds:.1f} s more are beyond the limit of "
            f"{self._max_queue_seconds:g} s (max_queue_seconds); {remedy}"
        )

    @contextmanager
    def _alone(self) -> Iterator[Track]:
        """Hold the stream for one call; gives its track."""
        if not self._in_use.acquire(blocking=False):
            raise StreamStateError("the stream is in use by another thread; give each thread its own stream")
        try:
            if self._lost:
                raise StreamStateError(
                    "an earlier call was interrupted while it took audio, and nobody knows how much it took; "
                    "open a new stream"
                )
            yield self._track
        finally:
            self._in_use.release()


@contextmanager
def hold(streams: Sequence[Stream], model: CtcModel, chunk_frames: int) -> Iterator[list[Track]]:
    """Hold several streams at once; gives their tracks.

    Raises:
        OptionsError: one is there twice, or is not of this model and these chunks.
        StreamStateError: one is in use by another thread.
    """
    if len(set(streams)) != len(streams):
        raise OptionsError("a stream is in the list twice; give each stream once")
    with ExitStack() as stack:
        tracks = []
        for number, stream in enumerate(streams):
            if not isinstance(stream, Stream) or not stream.belongs_to(model, chunk_frames):
                raise OptionsError(f"streams[{number}] was not made by create_stream() of this recogniser")
            tracks.append(stack.enter_context(stream._alone()))  # noqa: SLF001 - the lock is the stream's own affair
        yield tracks
