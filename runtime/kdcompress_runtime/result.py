"""What a recogniser answers: text, tokens, and words with positions and confidence.

Positions are seconds where the input is audio, from the start of the stream; pixels of the image as it was given, from
its left edge, where it is an image; and source tokens, from the first, where it is a sentence (where in the source a
word stands, as far as CTC knows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.confidence import raw_confidence
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders.base import Hypothesis
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Word:
    """One word of a result."""

    text: str
    """Its letters."""
    begin: float
    """Position at which its first letter begins."""
    end: float
    """Position at which its last letter ends; one frame after that letter's begin where the decoder knows no ends."""
    confidence: float | None = None
    """Probability that the word is right, where the bundle holds a calibration (``kdcompress tune-decoder``); a raw
    figure in [0, 1] where it does not; None where the decoder gives none."""


@dataclass(frozen=True)
class Result:
    """A recognised utterance, line or sentence, or what is known of it so far."""

    text: str
    """Words joined by single spaces."""
    tokens: tuple[str, ...]
    """Symbols of the vocabulary."""
    timestamps: tuple[float, ...]
    """Position at which each token begins; as many as ``tokens``."""
    log_prob: float
    """Natural logarithm of the model's own (acoustic) score; 0 for no audio."""
    token_ends: tuple[float, ...] = ()
    """Position at which each token ends; empty where the decoder does not know."""
    token_confidences: tuple[float, ...] = ()
    """The model's largest probability of each token, raw; empty where the decoder does not know."""
    words: tuple[Word, ...] = ()
    """The words of ``text``, in order."""
    score: float = math.nan
    """What hypotheses are ranked by: ``log_prob``, language model and hotwords together; ``log_prob`` when left out."""
    stable_tokens: int = 0
    """Leading tokens that no later audio can change; all of them once the input is over."""

    def __post_init__(self) -> None:
        if math.isnan(self.score):
            object.__setattr__(self, "score", self.log_prob)

    @property
    def stable_text(self) -> str:
        """The beginning of ``text`` that no later audio can change."""
        return " ".join("".join(self.tokens[: self.stable_tokens]).replace(WORD_SEPARATOR, " ").split())

    @classmethod
    def of(
        cls,
        hypothesis: Hypothesis,
        vocabulary: Vocabulary,
        metadata: BundleMetadata,
        *,
        confidence: Calibration | None = None,
        stable_tokens: int = 0,
        offset_frames: float = 0,
        last_frame: int | None = None,
        place: Callable[[float], float] | None = None,
    ) -> Result:
        """Spell a hypothesis out.

        Args:
            hypothesis: what the decoder found.
            vocabulary: spells its tokens.
            metadata: tells how long a frame is.
            confidence: makes the confidence of words a probability.
            stable_tokens: leading tokens that no later audio can change.
            offset_frames: frames of the stream before the decoder's first.
            last_frame: frames until the end of the audio, which no time lies beyond; a model may have said in the
                tail what it heard before.
            place: turns the number of a frame into the position where it begins; into seconds when left out.
        """

        def seconds(frame: int) -> float:
            whole = frame + offset_frames
            return whole * metadata.frame_shift_ms / 1000 if place is None else place(whole)

        begins, ends = hypothesis.frames, _of_all(hypothesis, "ends")
        if last_frame is not None:
            begins = tuple(min(begin, max(last_frame - 1, 0)) for begin in begins)
            ends = tuple(min(end, max(last_frame, 1)) for end in ends)
        token_log_probs = _of_all(hypothesis, "token_log_probs")
        tokens = tuple(vocabulary.symbols[index] for index in hypothesis.token_ids)
        return cls(
            text=vocabulary.text(hypothesis.token_ids),
            tokens=tokens,
            timestamps=tuple(map(seconds, begins)),
            log_prob=hypothesis.log_prob,
            token_ends=tuple(map(seconds, ends)),
            token_confidences=tuple(min(1.0, math.exp(value)) for value in token_log_probs),
            words=tuple(
                Word(
                    text,
                    seconds(begins[rows[0]]),
                    seconds(ends[rows[-1]] if ends else begins[rows[-1]] + 1),
                    _confidence([token_log_probs[row] for row in rows], confidence) if token_log_probs else None,
                )
                for text, rows in split_words(tokens)
            ),
            score=hypothesis.score,
            stable_tokens=stable_tokens,
        )


def split_words(tokens: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Cut tokens into words at ``▁``, wherever in a token it stands.

    Returns:
        Each word's text and the indices of the tokens that hold its letters, in order. A token that is a separator
        alone belongs to no word; one with a separator between letters belongs to two.
    """
    words: list[tuple[str, list[int]]] = []
    within = False
    for index, token in enumerate(tokens):
        for letter in token:
            if letter == WORD_SEPARATOR or letter.isspace():
                within = False
                continue
            text, rows = words.pop() if within else ("", [])
            words.append((text + letter, rows if rows[-1:] == [index] else [*rows, index]))
            within = True
    return words


def distinct(
    vocabulary: Vocabulary, search: Callable[[int], Sequence[Hypothesis]], count: int
) -> tuple[Hypothesis, ...]:
    """Up to ``count`` hypotheses with different texts, best first.

    Hypotheses that differ in separators alone spell one text; the best of them stands for it.

    Args:
        vocabulary: spells them.
        search: gives that many hypotheses, best first, or all there are.
        count: how many are wanted.
    """
    wanted = count
    while True:
        found = search(wanted)
        texts: dict[str, Hypothesis] = {}
        for one in found:
            texts.setdefault(vocabulary.text(one.token_ids), one)
        if len(texts) >= count or len(found) < wanted:
            return tuple(texts.values())[: max(count, 0)]
        wanted *= 2


def _of_all(hypothesis: Hypothesis, name: str) -> tuple[Any, ...]:
    """A field of a hypothesis with a value for each token; empty where the decoder gives none."""
    values: tuple[Any, ...] = getattr(hypothesis, name)
    return values if len(values) == len(hypothesis.token_ids) else ()


def _confidence(token_log_probs: list[float], calibration: Calibration | None) -> float:
    raw = raw_confidence(token_log_probs)
    return raw if calibration is None else calibration(raw)
