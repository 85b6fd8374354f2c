"""The pyctcdecode library as a second engine, behind the ``pyctcdecode`` extra.

Version 0.5.0 cannot carry its beams from one call to the next, so the state is the log-probabilities so far
and ``best`` decodes them all: right for whole utterances, slow for partial results of long streams.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.decoders.alignment import align
from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank
from kdcompress_runtime.errors import MissingDependencyError, OptionsError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from numpy.typing import NDArray

    from kdcompress_runtime.vocabulary import Vocabulary

_STAND_IN = 0xF0000
"""First private-use code point: one letter stands for one token, whatever its spelling."""


@dataclass(frozen=True, eq=False)
class PyctcdecodeState:
    """Log-probabilities so far, newest first; shared between states, never copied."""

    before: PyctcdecodeState | None
    log_probs: NDArray[np.float64]


class PyctcdecodeDecoder:
    """pyctcdecode's beam search; ``log_prob`` is our exact CTC score of its tokens, so engines compare.

    It joins words with one separator, so a leading, trailing or doubled separator is not among its tokens.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        beam_width: int = 16,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        blank_penalty: float = 0.0,
    ) -> None:
        """Build the engine; options as for ``BeamDecoder``.

        Raises:
            MissingDependencyError: pyctcdecode is not installed.
        """
        module = _pyctcdecode()
        labels = [chr(_STAND_IN + index) for index in range(len(vocabulary))]
        labels[vocabulary.blank_id] = ""
        if WORD_SEPARATOR in vocabulary.symbols:
            labels[vocabulary.symbols.index(WORD_SEPARATOR)] = " "
        self._ids = {label: index for index, label in enumerate(labels)}
        self._blank = vocabulary.blank_id
        self._penalty = blank_penalty
        self._options = {
            "beam_width": beam_width,
            "beam_prune_logp": beam_prune_logp,
            "token_min_logp": token_min_logp,
        }
        # Built directly: build_ctcdecoder would guess the kind of alphabet and log its guess.
        self._engine: Any = module.BeamSearchDecoderCTC(module.Alphabet(labels, False), None)

    def init_state(self) -> PyctcdecodeState:
        """State before the first frame."""
        return PyctcdecodeState(None, np.zeros((0, len(self._ids))))

    def advance(self, state: PyctcdecodeState, log_probs: NDArray[np.float32]) -> PyctcdecodeState:
        """State that also holds ``log_probs`` of shape ``(T, C)``.

        Raises:
            OptionsError: the shape is not ``(T, C)``.
        """
        check_frames(log_probs, len(self._ids))
        if not len(log_probs):
            return state
        return PyctcdecodeState(state, penalise_blank(log_probs, self._blank, self._penalty))

    def best(self, state: PyctcdecodeState, *, final: bool = True) -> Hypothesis:
        """What the library finds best, decoded from the first frame on."""
        return self.nbest(state, 1, final=final)[0]

    def stable_count(self, state: PyctcdecodeState) -> int:  # noqa: ARG002
        """None: the library may change everything."""
        return 0

    def with_hotwords(self, hotwords: Mapping[str, float]) -> PyctcdecodeDecoder:
        """This decoder, when there are none.

        Raises:
            OptionsError: there are.
        """
        if hotwords:
            raise OptionsError("hotwords are not built yet")
        return self

    def nbest(self, state: PyctcdecodeState, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:  # noqa: ARG002
        """Up to ``count`` hypotheses in the library's order."""
        scores = _joined(state)
        if not len(scores):
            return (Hypothesis((), (), 0.0),)[:count]
        found = [str(beam[0]) for beam in self._engine.decode_beams(scores, **self._options)]
        hypotheses = []
        for text in list(dict.fromkeys(found))[:count]:
            token_ids = tuple(self._ids[letter] for letter in text)
            log_prob, frames = align(scores, token_ids, self._blank)
            hypotheses.append(Hypothesis(token_ids, frames, log_prob))
        return tuple(hypotheses)


def _joined(state: PyctcdecodeState) -> NDArray[np.float64]:
    pieces = []
    here: PyctcdecodeState | None = state
    while here is not None:
        pieces.append(here.log_probs)
        here = here.before
    return np.concatenate(pieces[::-1])


def _pyctcdecode() -> ModuleType:
    """Import the library without its remarks about a missing kenlm, which is not needed here."""
    logger = logging.getLogger("pyctcdecode")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("pyctcdecode")
    except ImportError as error:
        raise MissingDependencyError(
            "this decoder needs pyctcdecode; install it with `pip install 'kdcompress[pyctcdecode]'`, "
            "or choose the decoder 'beam'"
        ) from error
    finally:
        logger.setLevel(level)
