"""A voice activity detector of the caller's, which lets a stream rest while nobody speaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Vad(Protocol):
    """Tells speech from silence; any callable of this shape.

    It is called once for each block of a stream, in order. One with a memory belongs to one stream.
    """

    def __call__(self, samples: NDArray[np.float32], sample_rate: int, /) -> bool | float:
        """Whether a block holds speech.

        Args:
            samples: float32, shape ``(n,)``: a copy of one chunk of the stream, at the model's rate; the last may be
                shorter.
            sample_rate: Hz of the model.

        Returns:
            A bool, or the probability of speech.
        """


@dataclass(frozen=True)
class VadRules:
    """How a stream follows its VAD.

    Raises:
        OptionsError: the threshold is not a probability, or a time is below 0 or not finite.
    """

    threshold: float = 0.5
    """A probability of at least this is speech."""
    hangover: float = 1.0
    """Seconds of silence that the model still hears before the stream rests."""
    context: float = 0.4
    """Seconds before a block with speech that the model hears again when it wakes: the beginnings that a VAD misses."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise OptionsError(f"{name} must be a finite number of at least 0, found {value!r}")
        if self.threshold > 1:
            raise OptionsError(f"threshold is a probability, found {self.threshold!r}")


class Gate:
    """A VAD and its rules, counted in chunks of one model."""

    def __init__(self, vad: Vad, rules: VadRules, *, sample_rate: int, chunk_samples: int) -> None:
        """Ask ``vad`` about chunks of ``chunk_samples`` samples."""
        if not callable(vad):
            raise OptionsError(f"vad must be callable with (samples, sample_rate), found {type(vad).__name__}")
        self._vad, self._rate, self._threshold = vad, sample_rate, rules.threshold
        chunk_seconds = chunk_samples / sample_rate
        self.hangover = math.ceil(round(rules.hangover / chunk_seconds, 6))
        self.context = math.ceil(round(rules.context / chunk_seconds, 6))
        self._last: tuple[int, bool] = (-1, False)

    def hears_speech(self, number: int, samples: NDArray[np.float32]) -> bool:
        """Ask about chunk ``number``; once, even where a step is repeated after an interruption.

        Raises:
            OptionsError: the answer is neither a bool nor a number.
        """
        if self._last[0] != number:
            answer = self._vad(samples.copy(), self._rate)
            try:
                self._last = (number, float(answer) >= self._threshold)
            except (TypeError, ValueError) as error:
                raise OptionsError(f"vad must answer with a bool or a probability, found {answer!r}") from error
        return self._last[1]
