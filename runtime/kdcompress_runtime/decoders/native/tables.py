"""A decoder's language model, words and hotwords as the compiled core reads them."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.decoders.native import library
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray

    from kdcompress_runtime.decoders.fusion import Fusion
    from kdcompress_runtime.lm.ngram import NgramModel


class FusionTables:
    """Writes a ``Fusion`` into ``library.Tables``, and keeps alive what they point to."""

    def __init__(self, tables: library.Tables, fusion: Fusion) -> None:
        """Point ``tables`` to the arrays of ``fusion``.

        Raises:
            OptionsError: the language model looks further back than the core does.
        """
        self._tables = tables
        self._kept: list[object] = []
        self._failures = threading.local()
        spelling = fusion.spelling
        tables.letters = spelling.size
        tables.spelling_start = self._address(spelling.starts, np.int32)
        tables.spelling = self._address(spelling.letters, np.int32)
        if fusion.trie is not None:
            trie = fusion.trie
            tables.trie_nodes = len(trie)
            tables.closed = fusion.constrained
            tables.edge_start = self._address(trie.edge_start, np.int32)
            tables.edge_letter = self._address(trie.edge_letter, np.int32)
            tables.edge_node = self._address(trie.edge_node, np.int32)
            tables.trie_word = self._address(trie.word, np.int32)
            tables.trie_best = self._address(trie.best, np.float32)
        if fusion.hotwords is not None:
            hotwords = fusion.hotwords
            tables.hot_states, tables.hot_start = len(hotwords.next), hotwords.start
            tables.hot_next = self._address(hotwords.next, np.int32)
            tables.hot_gain = self._address(hotwords.gain, np.float64)
            tables.hot_end = self._address(hotwords.end_gain, np.float64)
        if fusion.lm is not None:
            self._add_language_model(fusion)
        tables.headroom = _headroom(fusion)

    def failure(self) -> BaseException | None:
        """Why the language model gave no number in this thread, if it said so."""
        failure: BaseException | None = self._failures.__dict__.pop("error", None)
        return failure

    def _add_language_model(self, fusion: Fusion) -> None:
        tables, lm = self._tables, fusion.lm
        if lm is None or lm.order > library.MAX_ORDER:
            raise OptionsError(f"the compiled beam search takes language models of up to order {library.MAX_ORDER}")
        tables.unit = library.WORD_LM if fusion.lm_ids is None else library.TOKEN_LM
        tables.order, tables.words, tables.bos, tables.eos = lm.order, len(lm.words), lm.bos, lm.eos
        tables.boundary = fusion.score_boundary
        tables.alpha, tables.beta, tables.unknown_score = fusion.alpha, fusion.beta, fusion.unk_score
        tables.looks_ahead = fusion.lookahead and fusion.lm_ids is None and fusion.alpha != 0
        tables.unknown_ahead = fusion.alpha * fusion.unknown
        if fusion.lm_ids is not None:
            tables.token_words = self._address(fusion.lm_ids, np.int32)
        ngrams = as_ngrams(fusion)
        if ngrams is not None:
            tables.unigrams = self._address(ngrams.table_unigrams, np.float32)
            if len(ngrams.table_keys):
                tables.keys = self._address(ngrams.table_keys, np.uint64)
                tables.values = self._address(ngrams.table_values, np.float32)
                tables.key_mask = len(ngrams.table_keys) - 1
        elif fusion.log_prob is not None:
            tables.score = library.ScoreFunction(self._guarded(fusion.log_prob))

    def _guarded(self, log_prob: Callable[[tuple[int, ...], int], float]) -> Callable[..., float]:
        """``log_prob`` as C calls it: an exception is kept for ``failure``, and NaN answered."""
        failures = self._failures

        def score(context: ctypes.Array[ctypes.c_int32], length: int, word: int) -> float:
            try:
                return log_prob(tuple(context[:length]), word)
            except BaseException as error:  # noqa: BLE001 - raised again by the decoder, whatever it is
                failures.error = error
                return math.nan

        return score

    def _address(self, array: NDArray[np.generic], dtype: DTypeLike) -> int:
        array = np.ascontiguousarray(array, dtype)
        self._kept.append(array)
        return array.ctypes.data


def as_ngrams(fusion: Fusion) -> NgramModel | None:
    """The language model, if it is tables that the core reads itself."""
    from kdcompress_runtime.lm.ngram import NgramModel  # not before there is a language model

    return fusion.lm if type(fusion.lm) is NgramModel else None


def _headroom(fusion: Fusion) -> float:
    """The most that one token can add to LM, look-ahead and hotwords together; infinity where nobody knows."""
    longest = int(np.diff(fusion.spelling.starts).max(initial=1))
    most = 0.0
    if fusion.hotwords is not None:
        most += longest * max(0.0, float(fusion.hotwords.gain.max()))
    if fusion.lm is None:
        return most
    ngrams = as_ngrams(fusion)
    if ngrams is None:
        return math.inf
    highest = np.maximum(ngrams.table_unigrams.max(axis=0), ngrams.table_values.max(axis=0, initial=-np.inf))
    log_prob = float(highest[0]) + max(0.0, float(highest[1])) * (ngrams.order - 1) + max(0.0, fusion.unk_score)
    ahead = 0.0 if fusion.trie is None else max(0.0, float(fusion.trie.best.max()), fusion.unknown)
    return most + longest * max(0.0, fusion.alpha * log_prob + fusion.beta) + fusion.alpha * ahead
