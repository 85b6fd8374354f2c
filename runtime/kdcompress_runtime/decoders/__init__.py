"""Decoders: from log-probabilities to tokens. One table says which there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.decoders.base import Decoder, Hypothesis
from kdcompress_runtime.decoders.beam import BeamDecoder
from kdcompress_runtime.decoders.fusion import Fusion
from kdcompress_runtime.decoders.greedy import GreedyDecoder
from kdcompress_runtime.errors import MissingDependencyError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kdcompress_runtime.decoders.native.decoder import NativeBeamDecoder
    from kdcompress_runtime.lm.base import LanguageModel
    from kdcompress_runtime.vocabulary import Vocabulary

    _Builder = Callable[["DecoderOptions", Vocabulary, LanguageModel | None, Collection[str] | None], Decoder[Any]]

__all__ = [
    "DECODERS",
    "BeamDecoder",
    "Decoder",
    "DecoderOptions",
    "GreedyDecoder",
    "Hypothesis",
    "build_decoder",
]


@dataclass(frozen=True)
class DecoderOptions:
    """Which decoder, and how hard it searches.

    ``greedy`` heeds ``kind`` and ``blank_penalty`` alone. The weights of the language model (``alpha``, ``beta``,
    ``unk_score``, ``score_boundary``, ``lookahead``) are of effect only with one.

    Raises:
        OptionsError: a value is outside its range.
    """

    kind: str = "greedy"
    """A key of ``DECODERS``."""
    blank_penalty: float = 0.0
    """Nats taken from the blank's log-probability; helps models that drop words."""
    beam_width: int = 16
    """Prefixes kept after each frame."""
    beam_prune_logp: float = -10.0
    """Prefixes this far (nats, negative) below the best are dropped."""
    token_min_logp: float = -5.0
    """Tokens below this extend no prefix, except the best label of a frame."""
    alpha: float = 0.5
    """Weight of the language model: each word adds ``alpha * ln P``."""
    beta: float = 1.5
    """Nats added for each word (each token where the model's unit is the token); makes up for ``ln P`` < 0."""
    unk_score: float = -10.0 * math.log(10.0)
    """Nats added, before ``alpha``, to the ``ln P`` of a word that the language model does not know."""
    score_boundary: bool = True
    """Score the beginning and the end of the utterance as those of a sentence."""
    blank_skip: float = 0.999
    """A frame whose blank is at least this probable, right after another, is not searched; 1.0 searches all."""
    lookahead: bool = True
    """Rank a word in progress by the most probable word that it can become."""
    native: bool | None = None
    """Search in the compiled core: None takes it when it is there, True demands it, False is pure Python."""

    def __post_init__(self) -> None:
        if self.kind not in DECODERS:
            raise OptionsError(f"decoder {self.kind!r} is unknown; choose one of {', '.join(DECODERS)}")
        width = self.beam_width
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise OptionsError(f"beam_width must be an integer of at least 1, found {width!r}")
        for name in ("beam_prune_logp", "token_min_logp"):
            value = getattr(self, name)
            if not _is_number(value) or value > 0 or math.isnan(value):
                raise OptionsError(f"{name} is a log-probability: at most 0 (-inf prunes nothing), found {value!r}")
        for name in ("blank_penalty", "beta", "unk_score"):
            value = getattr(self, name)
            if not _is_number(value) or not math.isfinite(value):
                raise OptionsError(f"{name} must be a finite number of nats, found {value!r}")
        if not _is_number(self.alpha) or not 0 <= self.alpha < math.inf:
            raise OptionsError(f"alpha is a weight: a finite number of at least 0, found {self.alpha!r}")
        if not _is_number(self.blank_skip) or not 0 < self.blank_skip <= 1:
            raise OptionsError(f"blank_skip is a probability above 0 and up to 1, found {self.blank_skip!r}")
        for name in ("score_boundary", "lookahead"):
            if not isinstance(getattr(self, name), bool):
                raise OptionsError(f"{name} must be True or False, found {getattr(self, name)!r}")
        if self.native is not None and not isinstance(self.native, bool):
            raise OptionsError(f"native must be None, True or False, found {self.native!r}")


def build_decoder(
    options: DecoderOptions,
    vocabulary: Vocabulary,
    *,
    lm: LanguageModel | None = None,
    lexicon: Collection[str] | None = None,
) -> Decoder[Any]:
    """Build the decoder that ``options`` describe.

    Args:
        options: which, and how hard it searches.
        vocabulary: C tokens, the blank among them.
        lm: language model over words or tokens.
        lexicon: the only words there may be.

    Raises:
        OptionsError: this decoder knows no language model or lexicon, or no word of theirs can be spelt.
        MissingDependencyError: it needs a package (or the compiled core) that is not installed.
    """
    return DECODERS[options.kind](options, vocabulary, lm, lexicon)


def _greedy(
    options: DecoderOptions, vocabulary: Vocabulary, lm: LanguageModel | None, lexicon: Collection[str] | None
) -> Decoder[Any]:
    if lm is not None or lexicon is not None:
        raise OptionsError("greedy decoding heeds no language model and no lexicon; choose the decoder 'beam'")
    return GreedyDecoder(len(vocabulary), vocabulary.blank_id, blank_penalty=options.blank_penalty)


def _beam(
    options: DecoderOptions, vocabulary: Vocabulary, lm: LanguageModel | None, lexicon: Collection[str] | None
) -> Decoder[Any]:
    return _beam_class(options.native)(
        len(vocabulary),
        vocabulary.blank_id,
        beam_width=options.beam_width,
        beam_prune_logp=options.beam_prune_logp,
        token_min_logp=options.token_min_logp,
        blank_penalty=options.blank_penalty,
        blank_skip=options.blank_skip,
        fusion=Fusion.build(options, vocabulary, lm=lm, lexicon=lexicon),
    )


def _beam_class(native: bool | None) -> type[BeamDecoder] | type[NativeBeamDecoder]:
    """The compiled core, or the same search in Python."""
    if native is False:
        return BeamDecoder
    from kdcompress_runtime.decoders.native import library  # ctypes, for the beam search alone

    try:
        library.load()
    except MissingDependencyError:
        if native:
            raise
        return BeamDecoder
    from kdcompress_runtime.decoders.native.decoder import NativeBeamDecoder

    return NativeBeamDecoder


def _pyctcdecode(
    options: DecoderOptions, vocabulary: Vocabulary, lm: LanguageModel | None, lexicon: Collection[str] | None
) -> Decoder[Any]:
    from kdcompress_runtime.decoders.pyctcdecode import PyctcdecodeDecoder  # few need it

    return PyctcdecodeDecoder(
        vocabulary,
        fusion=Fusion.build(options, vocabulary, lm=lm, lexicon=lexicon),
        beam_width=options.beam_width,
        beam_prune_logp=options.beam_prune_logp,
        token_min_logp=options.token_min_logp,
        blank_penalty=options.blank_penalty,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


DECODERS: dict[str, _Builder] = {
    "greedy": _greedy,
    "beam": _beam,
    "pyctcdecode": _pyctcdecode,
}
"""Every decoder by name; add a line here to add one."""
