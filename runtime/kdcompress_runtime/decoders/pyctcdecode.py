"""The pyctcdecode library as a second engine, behind the ``pyctcdecode`` extra.

Version 0.5.0 cannot carry its beams from one call to the next, so the state is the log-probabilities so far
and ``best`` decodes them all: right for whole utterances, slow for partial results of long streams.

The search is the library's. Language model and hotwords are ours behind the library's interfaces, with the same
weights, so that the two searches can be compared; kenlm is not needed.
"""

from __future__ import annotations

import importlib
import logging
import math
import warnings
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.decoders.alignment import spans
from kdcompress_runtime.decoders.base import Hypothesis, check_frames, penalise_blank
from kdcompress_runtime.decoders.spelling import SEPARATOR
from kdcompress_runtime.decoders.trie import OUTSIDE, ROOT
from kdcompress_runtime.errors import MissingDependencyError, OptionsError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.fusion import Fusion
    from kdcompress_runtime.decoders.hotwords import HotwordTable
    from kdcompress_runtime.vocabulary import Vocabulary

_STAND_IN = 0xF0000
"""First private-use code point: one letter stands for one token, whatever its spelling."""
_WORD_LETTERS = 6
"""The library's average length of a word: unknown beginnings longer than that cost more."""
_MEMORY = 1 << 16


@dataclass(frozen=True, eq=False)
class PyctcdecodeState:
    """Log-probabilities so far, newest first; shared between states, never copied."""

    before: PyctcdecodeState | None
    log_probs: NDArray[np.float64]


class PyctcdecodeDecoder:
    """pyctcdecode's beam search; scores are ours of its tokens, so engines compare. Every result counts as final.

    ``log_prob`` is the exact CTC score of the tokens, all alignments summed. Hypotheses stand in the library's order.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        fusion: Fusion,
        beam_width: int = 16,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        blank_penalty: float = 0.0,
    ) -> None:
        """Build the engine; options as for ``BeamDecoder``.

        Raises:
            MissingDependencyError: pyctcdecode is not installed.
            OptionsError: it was asked for a lexicon or a language model over tokens, which the library has not, or
                for words of a vocabulary with separators inside of tokens.
        """
        if fusion.constrained or fusion.lm_ids is not None:
            what = "lexicon" if fusion.constrained else "language model over tokens"
            raise OptionsError(f"pyctcdecode knows no {what}; choose the decoder 'beam'")
        inner = bool((fusion.spelling.padded[:, 1:] == SEPARATOR).any())
        if inner and fusion.active:
            raise OptionsError("pyctcdecode cannot end words inside of tokens such as 'a▁'; choose the decoder 'beam'")
        module = _pyctcdecode()
        self._vocabulary = vocabulary
        self._fusion = fusion
        self._blank = vocabulary.blank_id
        self._penalty = blank_penalty
        self._options = {
            "beam_width": beam_width,
            "beam_prune_logp": beam_prune_logp,
            "token_min_logp": token_min_logp,
        }
        # The library begins a word at every label with "▁" and takes it off: what stays is one letter a token.
        words = [WORD_SEPARATOR if symbol.startswith(WORD_SEPARATOR) else "" for symbol in vocabulary.symbols]
        labels = [word + chr(_STAND_IN + index) for index, word in enumerate(words)]
        labels[self._blank] = ""
        # Built directly: build_ctcdecoder would guess the kind of alphabet and log its guess.
        model = None if fusion.lm is None else _Words(fusion)
        self._engine: Any = module.BeamSearchDecoderCTC(module.Alphabet(labels, True), model)
        weakref.finalize(self, self._engine.cleanup)  # the library keeps models in its class until told
        if fusion.hotwords is not None:
            self._engine._decode_logits = _Boosted(self._engine._decode_logits, _Phrases(fusion, fusion.hotwords))  # noqa: SLF001  # the library builds its own from texts

    def init_state(self) -> PyctcdecodeState:
        """State before the first frame."""
        return PyctcdecodeState(None, np.zeros((0, len(self._vocabulary))))

    def advance(self, state: PyctcdecodeState, log_probs: NDArray[np.float32]) -> PyctcdecodeState:
        """State that also holds ``log_probs`` of shape ``(T, C)``.

        Raises:
            OptionsError: the shape is not ``(T, C)``.
        """
        check_frames(log_probs, len(self._vocabulary))
        if not len(log_probs):
            return state
        return PyctcdecodeState(state, penalise_blank(log_probs, self._blank, self._penalty))

    def best(self, state: PyctcdecodeState, *, final: bool = True) -> Hypothesis:
        """What the library finds best, decoded from the first frame on."""
        return self.nbest(state, 1, final=final)[0]

    def nbest(self, state: PyctcdecodeState, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:  # noqa: ARG002
        """Up to ``count`` hypotheses in the library's order."""
        scores = _joined(state)
        found = [""]
        if len(scores):
            found = [str(beam[0]) for beam in self._engine.decode_beams(scores, **self._options)]
        return tuple(self._hypothesis(scores, _ids(text)) for text in list(dict.fromkeys(found))[:count])

    def stable_count(self, state: PyctcdecodeState) -> int:  # noqa: ARG002
        """None: the library may change everything."""
        return 0

    def with_hotwords(self, hotwords: Mapping[str, float]) -> PyctcdecodeDecoder:
        """The same decoder with these phrases boosted; while a phrase is spelt, only its last word is seen.

        Raises:
            OptionsError: a phrase cannot be spelt, or a weight is not finite.
        """
        if not hotwords:
            return self
        fusion = self._fusion.with_hotwords(hotwords)
        return PyctcdecodeDecoder(self._vocabulary, fusion=fusion, blank_penalty=self._penalty, **self._options)  # type: ignore[arg-type]

    def _hypothesis(self, scores: NDArray[np.float64], token_ids: tuple[int, ...]) -> Hypothesis:
        log_prob, frames, ends = spans(scores, token_ids, self._blank)
        lm_score, hotword_score = self._fusion.score(token_ids)
        held = zip(token_ids, frames, ends, strict=True) if frames else ()
        return Hypothesis(
            token_ids=token_ids,
            frames=frames,
            log_prob=log_prob,
            ends=ends,
            token_log_probs=tuple(float(scores[begin:end, token].max()) for token, begin, end in held),
            score=log_prob + lm_score + hotword_score,
            lm_score=lm_score,
            hotword_score=hotword_score,
        )


class _Words:
    """A language model of ours as the library wants one; the state is the context. Words come as stand-ins."""

    def __init__(self, fusion: Fusion) -> None:
        if fusion.lm is None or fusion.trie is None:
            raise OptionsError("there is no language model over words")
        self._fusion, self._trie = fusion, fusion.trie
        self.order = fusion.lm.order
        self._eos = fusion.lm.eos
        self._node = lru_cache(_MEMORY)(self._walk)

    def get_start_state(self) -> tuple[int, ...]:
        return self._fusion.start_context

    def score(
        self,
        prev_state: tuple[int, ...],
        word: str,
        is_last_word: bool = False,
    ) -> tuple[float, tuple[int, ...]]:
        score, context, node = 0.0, prev_state, self._node(word)[0]
        if node != ROOT:
            index = max(int(self._trie.word[node]), 0) if node != OUTSIDE else 0
            score = self._fusion.weighted(context, index) + self._fusion.beta
            context = self._fusion.followed(context, index)
        if is_last_word and self._fusion.score_boundary:
            score += self._fusion.weighted(context, self._eos)
        return score, context

    def score_partial_token(self, partial_token: str) -> float:
        """The library's rule: what begins no word costs ``unk_score`` at once, in units of log10."""
        node, letters = self._node(partial_token)
        if node != OUTSIDE:
            return 0.0
        return self._fusion.unk_score / math.log(10.0) * max(1.0, letters / _WORD_LETTERS)

    def _walk(self, word: str) -> tuple[int, int]:
        """Node of a word, and how many letters it has."""
        letters = [letter for letter in _letters(self._fusion, word) if letter != SEPARATOR]
        node = np.full(1, ROOT)
        for letter in letters:
            node = self._trie.step(node, np.array([letter]))
        return int(node[0]), len(letters)


class _Phrases:
    """Hotwords of ours as the library wants its scorer."""

    def __init__(self, fusion: Fusion, table: HotwordTable) -> None:
        self._fusion, self._table = fusion, table
        self.score = lru_cache(_MEMORY)(self._whole)
        self.score_partial_token = lru_cache(_MEMORY)(self._begun)

    def __contains__(self, token: str) -> bool:
        return self.score_partial_token(token) != 0

    def _whole(self, text: str) -> float:
        nats, state = self._walk(text)
        return nats + float(self._table.end_gain[state])

    def _begun(self, token: str) -> float:
        return self._walk(token)[0]

    def _walk(self, text: str) -> tuple[float, int]:
        nats, state = 0.0, self._table.start
        for letter in _letters(self._fusion, text):
            nats += float(self._table.gain[state, letter])
            state = int(self._table.next[state, letter])
        return nats, state


@dataclass(frozen=True)
class _Boosted:
    """The library's search with another scorer of hotwords."""

    search: Any
    phrases: _Phrases

    def __call__(self, logits: NDArray[np.float64], **options: Any) -> Any:  # noqa: ANN401
        return self.search(logits, **{**options, "hotword_scorer": self.phrases})


def _ids(text: str) -> tuple[int, ...]:
    return tuple(ord(letter) - _STAND_IN for letter in text if letter != " ")


def _letters(fusion: Fusion, text: str) -> list[int]:
    """Letters of all tokens of a text of stand-ins."""
    starts, letters = fusion.spelling.starts, fusion.spelling.letters
    return [letter for token in _ids(text) for letter in letters[starts[token] : starts[token + 1]].tolist()]


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
