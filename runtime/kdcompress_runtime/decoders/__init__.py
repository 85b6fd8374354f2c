"""Decoders: from log-probabilities to tokens. One table says which there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.decoders.base import Decoder, Hypothesis
from kdcompress_runtime.decoders.beam import BeamDecoder
from kdcompress_runtime.decoders.greedy import GreedyDecoder
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcompress_runtime.vocabulary import Vocabulary

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
    """Which decoder, and how hard it searches. The beam options are of no effect for ``greedy``.

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
        if not _is_number(self.blank_penalty) or not math.isfinite(self.blank_penalty):
            raise OptionsError(f"blank_penalty must be a finite number of nats, found {self.blank_penalty!r}")


def build_decoder(options: DecoderOptions, vocabulary: Vocabulary) -> Decoder[Any]:
    """Build the decoder that ``options`` describe.

    Raises:
        MissingDependencyError: it needs a package that is not installed.
    """
    return DECODERS[options.kind](options, vocabulary)


def _greedy(options: DecoderOptions, vocabulary: Vocabulary) -> Decoder[Any]:
    return GreedyDecoder(len(vocabulary), vocabulary.blank_id, blank_penalty=options.blank_penalty)


def _beam(options: DecoderOptions, vocabulary: Vocabulary) -> Decoder[Any]:
    return BeamDecoder(
        len(vocabulary),
        vocabulary.blank_id,
        beam_width=options.beam_width,
        beam_prune_logp=options.beam_prune_logp,
        token_min_logp=options.token_min_logp,
        blank_penalty=options.blank_penalty,
    )


def _pyctcdecode(options: DecoderOptions, vocabulary: Vocabulary) -> Decoder[Any]:
    from kdcompress_runtime.decoders.pyctcdecode import PyctcdecodeDecoder  # few need it

    return PyctcdecodeDecoder(
        vocabulary,
        beam_width=options.beam_width,
        beam_prune_logp=options.beam_prune_logp,
        token_min_logp=options.token_min_logp,
        blank_penalty=options.blank_penalty,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


DECODERS: dict[str, Callable[[DecoderOptions, Vocabulary], Decoder[Any]]] = {
    "greedy": _greedy,
    "beam": _beam,
    "pyctcdecode": _pyctcdecode,
}
"""Every decoder by name; add a line here to add one."""
