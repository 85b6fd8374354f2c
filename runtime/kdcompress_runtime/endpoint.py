"""Endpoints: when an utterance is over, told from the model's probabilities alone.

Rules as Kaldi and sherpa-onnx have them: a long silence, a silence after speech, a longest utterance. One more makes
the common case faster: a silence of which the model is sure may be shorter. A frame is silent when the blank (and the
separator between words, which says nothing either) has most of the probability.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance ends; seconds of audio, ``math.inf`` for never.

    The trade-off: shorter silences answer sooner and cut more utterances at a pause. What a caller waits for after the
    last word is the silence of the rule, the model's look-ahead and at most one chunk.

    Raises:
        OptionsError: a time is not above 0 (``min_utterance``: below 0), a probability not between 0 and 1, or the
            confident rule is looser than the plain one.
    """

    initial_silence: float = 2.4
    """Rule ``initial``: silence since the utterance began, nothing said."""
    trailing_silence: float = 1.0
    """Rule ``trailing``: silence after something was said."""
    confident_silence: float = 0.6
    """Rule ``confident``: silence after something was said in which every frame has ``confident_probability``; at
    most ``trailing_silence``, and the same as it to have no such rule."""
    max_utterance: float = 20.0
    """Rule ``length``: an utterance of this length ends wherever it is; what follows belongs to the next."""
    min_utterance: float = 0.0
    """Rules ``trailing`` and ``confident`` end no utterance shorter than this, its silences counted."""
    silence_probability: float = 0.5
    """A frame is silent when blank and separator together have at least this probability."""
    confident_probability: float = 0.95
    """The same for the rule ``confident``."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
                raise OptionsError(f"{name} must be a number, found {value!r}")
            if name.endswith("probability"):
                if not 0 < value < 1:
                    raise OptionsError(f"{name} must be a probability between 0 and 1, found {value!r}")
            elif value < 0 or (value == 0 and name != "min_utterance"):
                raise OptionsError(f"{name} must be seconds above 0 (math.inf: never), found {value!r}")
        if self.confident_silence > self.trailing_silence:
            raise OptionsError(
                f"confident_silence ({self.confident_silence!r}) must be at most trailing_silence "
                f"({self.trailing_silence!r}): it is the rule for shorter silences"
            )
        if self.confident_probability < self.silence_probability:
            raise OptionsError(
                f"confident_probability ({self.confident_probability!r}) must be at least silence_probability "
                f"({self.silence_probability!r})"
            )


class EndpointState(NamedTuple):
    """What the rules know of an utterance; counts of frames."""

    frames: int = 0
    """Frames of the utterance."""
    silent: int = 0
    """Silent frames at its end."""
    sure: int = 0
    """Frames at its end that are silent for sure."""
    spoken: bool = False
    """A frame was not silent."""


class Endpointer:
    """The rules at a model's frame rate. States are values, as those of decoders."""

    def __init__(self, rules: EndpointRules, vocabulary: Vocabulary, frame_shift_ms: float) -> None:
        """Apply ``rules`` to frames of ``frame_shift_ms`` milliseconds."""

        def frames(seconds: float) -> int:
            # Rounded first: 0.8 s of 40 ms are 20 frames, whatever binary fractions make of it.
            return sys.maxsize if math.isinf(seconds) else math.ceil(round(seconds * 1000 / frame_shift_ms, 6))

        symbols = vocabulary.symbols
        self._quiet_ids = [vocabulary.blank_id, *(i for i, one in enumerate(symbols) if one == WORD_SEPARATOR)]
        self._initial, self._trailing = frames(rules.initial_silence), frames(rules.trailing_silence)
        self._confident, self._longest = frames(rules.confident_silence), frames(rules.max_utterance)
        self._least = frames(rules.min_utterance)
        self._silent_from, self._sure_from = rules.silence_probability, rules.confident_probability

    def advance(
        self, state: EndpointState, log_probs: NDArray[np.float32]
    ) -> tuple[EndpointState, int | None, str | None]:
        """Look at frames until the utterance ends.

        Args:
            state: ``EndpointState()`` at the start of an utterance.
            log_probs: natural-log probabilities, shape ``(T, C)``.

        Returns:
            The state after the frames looked at, how many of them belong to the utterance (None: all, and it goes
            on), and the rule that ended it.
        """
        quiet = np.exp(log_probs[:, self._quiet_ids].astype(np.float64)).sum(axis=1)
        frames, silent, sure, spoken = state
        for row, probability in enumerate(quiet.tolist(), start=1):
            frames += 1
            silent = silent + 1 if probability >= self._silent_from else 0
            sure = sure + 1 if probability >= self._sure_from else 0
            spoken = spoken or not silent
            rule = self._rule(frames, silent, sure, spoken=spoken)
            if rule is not None:
                return EndpointState(frames, silent, sure, spoken), row, rule
        return EndpointState(frames, silent, sure, spoken), None, None

    def _rule(self, frames: int, silent: int, sure: int, *, spoken: bool) -> str | None:
        if not spoken and silent >= self._initial:
            return "initial"
        if spoken and frames >= self._least:
            if silent >= self._trailing:
                return "trailing"
            if sure >= self._confident:
                return "confident"
        return "length" if frames >= self._longest else None
