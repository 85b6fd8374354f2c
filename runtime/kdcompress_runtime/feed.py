"""From audio to log-probabilities: cut into fixed chunks or keep whole, say what the model must do next, undo its lag.

A feed owns the audio and nothing else. Where the model stands in it is a ``Position``, a value: ``plan`` tells the next
piece of work, somebody steps the model (alone, or many streams together), and ``done`` gives the position after it. So
work that fails or is interrupted has changed nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kdcompress_runtime.errors import AudioTooLongError, OptionsError
from kdcompress_runtime.intake import Intake
from kdcompress_runtime.tail import faint_noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from kdcompress_runtime.model import CtcModel
    from kdcompress_runtime.vad import Gate

MAX_WHOLE_SECONDS = 300.0
"""Longest recording for a model that takes it whole, unless the caller says otherwise. The memory of attention grows
with the square of it, and a stream that nobody ends would fill the rest."""
_SILENT_ELSEWHERE = -100.0
"""Log-probability of the other labels in a frame that was skipped; the blank has 0."""


class Position(NamedTuple):
    """Where a model stands in a recording; frames are counted from its start."""

    states: Mapping[str, NDArray[Any]]
    """The model's."""
    fed: int = 0
    """Frames of audio that it has had."""
    lag: int = 0
    """Frames that it will give out before those that count."""
    given: int = 0
    """Frames that were given out."""
    asked: int = 0
    """Chunks that the VAD was asked about."""
    quiet: int = 0
    """Chunks without speech, the last ones asked about."""
    resting: bool = False
    """Chunks are skipped."""


class Plan(NamedTuple):
    """The next piece of work."""

    position: Position
    """Where it begins; or where it has led to, when the model has nothing to do."""
    inputs: NDArray[np.float32] | None
    """What the model takes, shape ``(n,)``; a view, used before the next audio comes. None: skip."""
    skipped: int = 0
    """Frames of silence that are given out instead."""


class Feed(Protocol):
    """One recording on its way into a model."""

    intake: Intake

    def start(self) -> Position:
        """The position before the first sample."""

    def check_room(self, samples: NDArray[Any], sample_rate: int) -> None:
        """Refuse more audio than this feed ever holds.

        Raises:
            AudioTooLongError: the model takes whole recordings, and this one is too long.
        """

    def finish(self) -> None:
        """No more audio comes; the tail is padded as the model needs it."""

    def plan(self, position: Position) -> Plan | None:
        """What comes next; None: nothing before more audio comes."""

    def done(
        self, plan: Plan, log_probs: NDArray[np.float32], states: Mapping[str, NDArray[Any]]
    ) -> tuple[Position, NDArray[np.float32]]:
        """The position after a plan was followed, and the frames that became known, shape ``(T, C)``."""

    def skip(self, plan: Plan) -> NDArray[np.float32]:
        """The frames of a plan without inputs, shape ``(T, C)``."""

    def exhausted(self, position: Position) -> bool:
        """Whether the recording has ended, and every frame of it was given out."""

    def forget(self, position: Position) -> None:
        """Let go of the audio before a position."""

    def waiting(self, position: Position) -> int:
        """Samples (at the model's rate) that no plan has covered yet."""

    @property
    def audio_frames(self) -> int | None:
        """Frames of the recording without its tail, once it has ended; None where the model decides how many."""


def open_feed(
    model: CtcModel,
    chunk_frames: int,
    max_whole_seconds: float = MAX_WHOLE_SECONDS,
    *,
    gate: Gate | None = None,
    source_rate: int = 0,
    tail_frames: int = 0,
) -> Feed:
    """Return the feed for a model: in steps of ``chunk_frames`` frames, or at the end when it does not stream.

    A feed in steps gives ``tail_frames`` frames of faint noise behind the end of the recording; see ``tail``.

    Raises:
        OptionsError: a VAD for a model that takes whole recordings.
    """
    if model.metadata.streaming:
        return PcmFeed(model, chunk_frames, gate, source_rate, tail_frames)
    if gate is not None:
        raise OptionsError("the model takes whole recordings, so a VAD has nothing to skip; leave vad out")
    return WholePcmFeed(model, max_whole_seconds, source_rate)


def run_feed(model: CtcModel, feed: Feed, samples: NDArray[Any], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Yield the log-probabilities of a whole recording in pieces of shape ``(T, C)``.

    Raises:
        AudioError, AudioTooLongError, OptionsError, MissingDependencyError, ModelError: see ``Intake.check``,
            ``Feed.check_room`` and ``CtcModel.step``.
    """
    feed.intake.check(samples, sample_rate)
    feed.check_room(samples, sample_rate)
    position = feed.start()

    def catch_up() -> Iterator[NDArray[np.float32]]:
        nonlocal position
        while (plan := feed.plan(position)) is not None and plan.inputs is not None:
            position, rows = feed.done(plan, *one_step(model, plan))
            feed.forget(position)
            yield rows

    for _ in feed.intake.take(samples):
        yield from catch_up()
    feed.finish()
    yield from catch_up()


def one_step(model: CtcModel, plan: Plan) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Follow a plan that has inputs; log-probabilities of shape ``(T, C)`` and the next states, batch axis kept.

    Raises:
        ModelError: the model failed.
    """
    if plan.inputs is None:
        raise OptionsError("a plan without inputs is not a step")
    log_probs, states = model.step(plan.inputs[None], plan.position.states)
    return log_probs[0], states


class PcmFeed:
    """Feeds one recording to a model, in steps of ``chunk_frames`` counted from its start.

    Because the steps do not depend on how the caller cuts the audio, neither does a single bit of the
    answer; and onnxruntime sees one shape, so its memory stays flat.
    """

    def __init__(
        self,
        model: CtcModel,
        chunk_frames: int,
        gate: Gate | None = None,
        source_rate: int = 0,
        tail_frames: int = 0,
    ) -> None:
        self._model = model
        self._chunk = chunk_frames
        self._tail = tail_frames
        self._size = chunk_frames * model.metadata.input.units_per_frame
        self._gate = gate
        self.intake = Intake(model.metadata, source_rate)
        self._total: int | None = None
        """Frames of the recording and its tail, once it has ended."""
        self.audio_frames: int | None = None
        self._audio_end: int | None = None
        """Samples of the recording without its tail, once it has ended."""
        self._silence = np.full((chunk_frames, len(model.vocabulary)), _SILENT_ELSEWHERE, dtype=np.float32)
        self._silence[:, model.metadata.blank_id] = 0

    def start(self) -> Position:
        """See ``Feed.start``."""
        return Position(self._model.init_states(), lag=self._model.metadata.lookahead_frames)

    def check_room(self, samples: NDArray[Any], sample_rate: int) -> None:
        """Chunks are stepped as they come, so any length fits."""

    def finish(self) -> None:
        """See ``Feed.finish``."""
        self.intake.finish()
        queue, units = self.intake.queue, self._model.metadata.input.units_per_frame
        self._audio_end = queue.end
        frames = self.audio_frames = -(-queue.end // units)
        self._total = frames + self._tail if frames else 0
        if self._tail and frames:  # no zeros in the look-ahead of the tail, either
            heard = self._total + self._model.metadata.lookahead_frames
            queue.push(faint_noise(heard * units - queue.end))

    def plan(self, position: Position) -> Plan | None:
        """See ``Feed.plan``. Asks the VAD about a chunk before the model hears it."""
        if self.exhausted(position):
            return None
        number = position.asked if position.resting else position.fed // self._chunk
        samples = self._chunk_of(number)
        if samples is None:
            return None
        if self._gate is None or number < position.asked:
            return Plan(position, samples)
        following = self._follow(position, number, self._gate)
        # A model that listened and still does hears the chunk; every other turn has its own next plan.
        listens = not (position.resting or following.position.resting)
        return following._replace(inputs=samples) if listens else following

    def _chunk_of(self, number: int) -> NDArray[np.float32] | None:
        """Samples of a chunk, padded with zeros at the end of the recording; None: they have not come yet."""
        start, queue = number * self._size, self.intake.queue
        if start + self._size > queue.end and self._total is None:
            return None
        return queue.window(start, start + self._size)

    def _follow(self, position: Position, number: int, gate: Gate) -> Plan:
        """Ask about chunk ``number`` and go on with the answer: listening, resting, falling asleep or waking up."""
        start, end = number * self._size, self.intake.queue.end if self._audio_end is None else self._audio_end
        if (
            start >= end
        ):  # nothing but tail and padding: a model that rests goes on resting, one that listens gives its rest
            if not position.resting:
                return Plan(position._replace(asked=number + 1), None)
            return self._skip(position, max((self._total or 0) - position.given, 0))
        heard = gate.hears_speech(number, self.intake.queue.window(start, min(start + self._size, end)))
        quiet = 0 if heard else position.quiet + 1
        position = position._replace(asked=number + 1, quiet=quiet)
        if heard and position.resting:
            lag = self._model.metadata.lookahead_frames
            return Plan(position._replace(resting=False, states=self._model.init_states(), lag=lag), None)
        if not position.resting:
            # What still lags behind is silence, too, as long as the look-ahead fits into the hangover.
            least = -(-self._model.metadata.lookahead_frames // self._chunk)
            if quiet <= max(gate.hangover, least):
                return Plan(position, None)
            return self._skip(position._replace(resting=True), position.fed - position.given)
        held = position.asked - position.fed // self._chunk
        return self._skip(position, self._chunk if held > gate.context else 0)

    def _skip(self, position: Position, frames: int) -> Plan:
        """Give ``frames`` frames of silence out; ``fed`` is where the model would wake up."""
        given = position.given + frames
        if self._total is not None:
            given = min(given, self._total)
        return Plan(position._replace(given=given, fed=max(position.fed, given)), None, given - position.given)

    def done(
        self, plan: Plan, log_probs: NDArray[np.float32], states: Mapping[str, NDArray[Any]]
    ) -> tuple[Position, NDArray[np.float32]]:
        """See ``Feed.done``; the frames of the lag and of the padding are dropped."""
        position = plan.position
        early = min(position.lag, len(log_probs))
        rows = log_probs[early:]
        if self._total is not None:
            rows = rows[: max(self._total - position.given, 0)]
        return position._replace(
            states=states,
            fed=position.fed + len(log_probs),
            lag=position.lag - early,
            given=position.given + len(rows),
        ), rows

    def skip(self, plan: Plan) -> NDArray[np.float32]:
        """See ``Feed.skip``."""
        return np.resize(self._silence, (plan.skipped, self._silence.shape[1]))

    def exhausted(self, position: Position) -> bool:
        """See ``Feed.exhausted``."""
        return self._total is not None and position.given >= self._total

    def forget(self, position: Position) -> None:
        """See ``Feed.forget``."""
        self.intake.queue.forget(position.fed * self._model.metadata.input.units_per_frame)

    def waiting(self, position: Position) -> int:
        """See ``Feed.waiting``."""
        units = self._model.metadata.input.units_per_frame
        return max(self.intake.queue.end - max(position.fed * units, position.asked * self._size), 0)


class WholePcmFeed:
    """Keeps one recording, and gives it to a model that takes it whole at the end."""

    def __init__(self, model: CtcModel, max_seconds: float, source_rate: int = 0) -> None:
        self._model = model
        self._max_seconds = max_seconds
        self.audio_frames: int | None = None
        self.intake = Intake(model.metadata, source_rate)
        self._finished = False

    def start(self) -> Position:
        """See ``Feed.start``."""
        return Position(self._model.init_states())

    def check_room(self, samples: NDArray[Any], sample_rate: int) -> None:
        """See ``Feed.check_room``."""
        seconds = (self.intake.received + len(samples)) / sample_rate
        if seconds > self._max_seconds:
            raise AudioTooLongError(
                f"{seconds:.1f} s of audio for a model that takes whole recordings of at most {self._max_seconds:g} s; "
                "cut the recording at its pauses, or raise max_whole_seconds"
            )

    def finish(self) -> None:
        """See ``Feed.finish``."""
        self.intake.finish()
        self._finished = True

    def plan(self, position: Position) -> Plan | None:
        """Everything, once it is there; padded to the shortest input that the model takes. No audio is no work."""
        end = self.intake.queue.end
        if not self._finished or self.exhausted(position):
            return None
        return Plan(position, self.intake.queue.window(0, max(end, self._model.metadata.input.min_units)))

    def done(
        self, plan: Plan, log_probs: NDArray[np.float32], states: Mapping[str, NDArray[Any]]
    ) -> tuple[Position, NDArray[np.float32]]:
        """See ``Feed.done``."""
        after = plan.position._replace(states=states, fed=max(len(log_probs), 1), given=len(log_probs))
        return after, log_probs

    def skip(self, plan: Plan) -> NDArray[np.float32]:
        """Never asked for: nothing is skipped."""
        del plan
        return np.zeros((0, len(self._model.vocabulary)), dtype=np.float32)

    def exhausted(self, position: Position) -> bool:
        """See ``Feed.exhausted``."""
        return self._finished and (bool(position.fed) or not self.intake.queue.end)

    def forget(self, position: Position) -> None:
        """See ``Feed.forget``."""
        if position.fed:
            self.intake.queue.forget(self.intake.queue.end)

    def waiting(self, position: Position) -> int:
        """None: how much may come is ``check_room``'s matter."""
        del position
        return 0
