"""What a recogniser answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.decoders.base import Hypothesis
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Result:
    """A recognised utterance, or what is known of it so far."""

    text: str
    """Words joined by single spaces."""
    tokens: tuple[str, ...]
    """Symbols of the vocabulary."""
    timestamps: tuple[float, ...]
    """Seconds from the start of the stream at which each token begins; as many as ``tokens``."""
    log_prob: float
    """Natural logarithm of the decoder's score; 0 for no audio."""

    @classmethod
    def of(cls, hypothesis: Hypothesis, vocabulary: Vocabulary, metadata: BundleMetadata) -> Result:
        """Spell a hypothesis out."""
        shift = metadata.frame_shift_ms
        return cls(
            text=vocabulary.text(hypothesis.token_ids),
            tokens=tuple(vocabulary.symbols[index] for index in hypothesis.token_ids),
            timestamps=tuple(frame * shift / 1000 for frame in hypothesis.frames),
            log_prob=hypothesis.log_prob,
        )
