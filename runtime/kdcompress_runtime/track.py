"""One stream's way from audio to a hypothesis, without locks and results: what comes next, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kdcompress_runtime.endpoint import EndpointState
from kdcompress_runtime.feed import Position, one_step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.base import Decoder
    from kdcompress_runtime.endpoint import Endpointer
    from kdcompress_runtime.feed import Feed, Plan
    from kdcompress_runtime.model import CtcModel


class Progress(NamedTuple):
    """Where a stream stands, as one value: a step replaces it whole or, when it fails, not at all."""

    position: Position
    """Where the model stands in the audio."""
    decoded: Any
    """The decoder's state."""
    heard: EndpointState = EndpointState()
    """What the endpoint rules know."""
    frames: int = 0
    """Frames decoded since the recording began."""
    begin: int = 0
    """Those before the utterance."""
    rest: NDArray[np.float32] | None = None
    """Frames that are known and belong to the next utterance."""
    rule: str | None = None
    """The rule that ended the utterance; nothing is decoded until the next begins."""


class Track:
    """Audio goes into ``feed``; ``plan`` and ``take`` move ``progress`` on."""

    def __init__(self, decoder: Decoder[Any], open_feed: Callable[[int], Feed], endpointer: Endpointer | None) -> None:
        """Begin a stream; ``open_feed`` makes the feed of each recording in it, given the rate of the one before."""
        self._decoder = decoder
        self._open_feed = open_feed
        self._endpointer = endpointer
        self.feed = open_feed(0)
        self.finished = False
        """No more audio comes to this recording."""
        self.samples_before = 0
        """The caller's samples in the recordings before this one."""
        self.frames_before = 0
        """Frames decoded in them."""
        self.progress = Progress(self.feed.start(), decoder.init_state())

    def plan(self) -> Plan | None:
        """What the model must do next; None: nothing before more audio, or the next utterance. Decodes what is known.

        Raises:
            OptionsError: the VAD gave no answer.
        """
        while self.progress.rule is None:
            progress = self.progress
            if progress.rest is not None:
                self.progress = self._decode(progress._replace(rest=None), progress.rest)
                continue
            plan = self.feed.plan(progress.position)
            if plan is None or plan.inputs is not None:
                return plan
            self._commit(plan.position, self.feed.skip(plan))
        return None

    def take(self, plan: Plan, log_probs: NDArray[np.float32], states: Mapping[str, NDArray[Any]]) -> None:
        """Go on with what the model answered to ``plan``: log-probabilities of shape ``(T, C)``, the next states."""
        self._commit(*self.feed.done(plan, log_probs, states))

    def run(self, model: CtcModel) -> None:
        """Follow plans until there are none.

        Raises:
            ModelError: the model failed.
            OptionsError: the VAD gave no answer.
        """
        while (plan := self.plan()) is not None:
            self.take(plan, *one_step(model, plan))

    @property
    def audio_frames(self) -> int:
        """Frames of this recording that were decoded, without its tail."""
        frames, end = self.progress.frames, self.feed.audio_frames
        return frames if end is None else min(frames, end)

    def over(self) -> bool:
        """Whether the recording has ended, and all of it was decoded."""
        progress = self.progress
        return progress.rule is None and progress.rest is None and self.feed.exhausted(progress.position)

    def next_utterance(self) -> None:
        """The decoder and the rules begin anew, the audio and the model's states go on."""
        self.progress = self.progress._replace(
            decoded=self._decoder.init_state(), heard=EndpointState(), begin=self.progress.frames, rule=None
        )

    def next_recording(self) -> None:
        """Everything begins anew; what is counted goes on."""
        self.samples_before += self.feed.intake.received
        self.frames_before += self.audio_frames
        self.feed = self._open_feed(self.feed.intake.source_rate)
        self.finished = False
        self.progress = Progress(self.feed.start(), self._decoder.init_state())

    def _commit(self, position: Position, rows: NDArray[np.float32]) -> None:
        progress = self.progress._replace(position=position)
        self.progress = self._decode(progress, rows) if len(rows) else progress
        self.feed.forget(self.progress.position)

    def _decode(self, progress: Progress, rows: NDArray[np.float32]) -> Progress:
        """Decode frames of shape ``(T, C)`` up to the end of the utterance; the rest waits for the next."""
        heard, rule, rest = progress.heard, None, None
        if self._endpointer is not None:
            audio = self.feed.audio_frames  # nobody pauses in the tail behind the end
            said = rows if audio is None else rows[: max(audio - progress.frames, 0)]
            heard, count, rule = self._endpointer.advance(progress.heard, said)
            if count is not None:
                # A copy: a view would keep all of what the model answered.
                rest = rows[count:].copy() if count < len(rows) else None
                rows = rows[:count]
        return progress._replace(
            decoded=self._decoder.advance(progress.decoded, rows),
            heard=heard,
            frames=progress.frames + len(rows),
            rest=rest,
            rule=rule,
        )
