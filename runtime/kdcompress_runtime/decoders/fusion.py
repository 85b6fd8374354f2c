"""What ranks a prefix besides the acoustic model: language model, lexicon, hotwords.

All of it follows from the tokens of the prefix alone, so prefixes merge as they do without. The weights mean what
pyctcdecode's mean: a complete word adds ``alpha * (ln P + unk_score, when unknown) + beta``, and the end of the
sentence ``alpha * ln P``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress_runtime.decoders.hotwords import HotwordTable, phrase_letters
from kdcompress_runtime.decoders.spelling import SEPARATOR, Spelling
from kdcompress_runtime.decoders.trie import OUTSIDE, ROOT, Trie
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders import DecoderOptions
    from kdcompress_runtime.decoders.base import Hypothesis
    from kdcompress_runtime.lm.base import LanguageModel
    from kdcompress_runtime.vocabulary import Vocabulary

_MEMORY = 1 << 16
"""Probabilities of the language model that are remembered."""


class Standing(NamedTuple):
    """Where prefixes stand: arrays of one shape, ``(B,)`` or ``(B, K)``, never written to after they are made."""

    node: NDArray[np.int64]
    """Node of the word in progress in the trie: ``ROOT`` is none, ``OUTSIDE`` one that the trie has not."""
    context: NDArray[np.object_]
    """Ids of the last words (or tokens), oldest first, at most order - 1."""
    lm: NDArray[np.float64]
    """Score of the complete words; ``-inf`` where the lexicon forbids the prefix."""
    ahead: NDArray[np.float64]
    """Look-ahead of the word in progress; for ranking only."""
    hot: NDArray[np.float64]
    """Nats of hotwords, lent ones included."""
    hot_state: NDArray[np.int64]
    """State of the hotword automaton."""

    @property
    def rank(self) -> NDArray[np.float64]:
        """What is added to the acoustic score when prefixes are compared."""
        return self.lm + self.ahead + self.hot

    def take(self, rows: NDArray[np.int64]) -> Standing:
        """The elements with the flat indices ``rows``, in that order; shape ``(len(rows),)``."""
        return Standing._make(column.reshape(-1)[rows] for column in self)

    def join(self, other: Standing) -> Standing:
        """These and then the others."""
        return Standing._make(np.concatenate(columns) for columns in zip(self, other, strict=True))


class Ending(NamedTuple):
    """What prefixes are worth where the utterance ends; arrays of shape ``(B,)``."""

    lm: NDArray[np.float64]
    hot: NDArray[np.float64]
    unfinished: NDArray[np.bool_]
    """The last word is none of the lexicon."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """Scores the tokens that extend prefixes; made by ``build``, serves any number of streams and threads."""

    spelling: Spelling
    """Letters of the tokens."""
    lm: LanguageModel | None = None
    """Over words or tokens."""
    trie: Trie | None = None
    """Words of the language model, or of the lexicon; None where neither is about words."""
    constrained: bool = False
    """Words outside of the trie are forbidden."""
    lm_ids: NDArray[np.int32] | None = None
    """For each token, its id in a language model over tokens (0: unknown); shape ``(C,)``; None for other models."""
    hotwords: HotwordTable | None = None
    alpha: float = 0.5
    beta: float = 1.5
    unk_score: float = 0.0
    """Nats, before ``alpha``."""
    score_boundary: bool = True
    lookahead: bool = True
    unknown: float = 0.0
    """Look-ahead, before ``alpha``, of a word outside of the trie."""
    log_prob: Callable[[tuple[int, ...], int], float] | None = None
    """``lm.score`` that remembers; shared by the copies that ``with_hotwords`` makes."""

    @classmethod
    def build(
        cls,
        options: DecoderOptions,
        vocabulary: Vocabulary,
        *,
        lm: LanguageModel | None = None,
        lexicon: Collection[str] | None = None,
    ) -> Fusion:
        """Prepare a language model and a lexicon for a vocabulary.

        Raises:
            OptionsError: no word can be spelt, or words are asked of a vocabulary that does not separate them.
        """
        spelling = Spelling.of(vocabulary)
        by_words = lm is not None and lm.unit == "word"
        if by_words and not spelling.separated:
            raise OptionsError(
                "the language model is about words, but no token of the vocabulary holds the separator '▁'; "
                "estimate one over tokens"
            )
        fusion = cls(
            spelling=spelling,
            lm=lm,
            constrained=lexicon is not None,
            lm_ids=_token_ids(vocabulary, lm) if lm is not None and not by_words else None,
            alpha=options.alpha,
            beta=options.beta,
            unk_score=options.unk_score,
            score_boundary=options.score_boundary,
            lookahead=options.lookahead,
            log_prob=None if lm is None else lru_cache(_MEMORY)(lm.score),
        )
        if lm is not None and by_words:
            unigrams = lm.unigrams().astype(np.float64)
            unigrams[0] += options.unk_score
            words, ids = _words(lm, lexicon)
            trie = _trie(spelling, words, ids, unigrams[ids].astype(np.float32))
            return replace(fusion, trie=trie, unknown=float(unigrams[0]))
        if lexicon is not None:
            words = list(dict.fromkeys(lexicon))
            ids = np.arange(len(words), dtype=np.int32)
            return replace(fusion, trie=_trie(spelling, words, ids, np.zeros(len(words), np.float32)))
        return fusion

    @property
    def active(self) -> bool:
        """Whether there is anything to score or to forbid."""
        return self.lm is not None or self.trie is not None or self.hotwords is not None

    def with_hotwords(self, hotwords: Mapping[str, float]) -> Fusion:
        """A copy that boosts these phrases in place of any before.

        Who asks for a word knows it: where the language model does not, its phrase gets back what ``unk_score`` takes.

        Raises:
            OptionsError: see ``HotwordTable.build``; or the lexicon forbids a phrase.
        """
        trie = self.trie
        if self.constrained and trie is not None:
            for phrase in hotwords:
                if any(trie.find(word) < 0 for word in _split(phrase_letters(self.spelling, phrase))):
                    raise OptionsError(
                        f"the hotword {phrase!r} is not among the words of the lexicon; add it there, too"
                    )
        if trie is None or self.lm is None or self.lm_ids is not None:
            return replace(self, hotwords=HotwordTable.build(self.spelling, hotwords))
        return replace(self, hotwords=HotwordTable.build(self.spelling, hotwords, partial(self._refund, trie)))

    def _refund(self, trie: Trie, letters: Sequence[int]) -> list[float]:
        """What ``unk_score`` takes from a phrase: by each letter that look-ahead has taken it, and in the end.

        Nothing before a word has left the trie: beams that have lost nothing yet would drive out the others.
        """
        price = -self.alpha * self.unk_score
        given, paid = [], 0.0
        for word in _split(letters):
            node = np.full(1, ROOT)
            for letter in word:
                node = trie.step(node, np.array([letter]))
                given.append(paid + (price if node[0] == OUTSIDE else 0.0))
            paid += price if trie.find(word) <= 0 else 0.0
            given.append(paid)  # by the separator; and of the last word, in the end
        return given

    @property
    def start_context(self) -> tuple[int, ...]:
        """Context of the first word."""
        return (self.lm.bos,) if self.lm is not None and self.score_boundary and self.lm.order > 1 else ()

    def start(self) -> Standing:
        """The empty prefix; arrays of shape ``(1,)``."""
        context = np.empty(1, dtype=object)
        context[0] = self.start_context
        state = 0 if self.hotwords is None else self.hotwords.start
        return Standing(np.full(1, ROOT), context, np.zeros(1), np.zeros(1), np.zeros(1), np.full(1, state))

    def extend(self, standing: Standing, tokens: NDArray[np.int64]) -> Standing:
        """Every prefix extended by every token.

        Args:
            standing: B prefixes.
            tokens: K token ids.

        Returns:
            Arrays of shape ``(B, K)``.
        """
        shape = (len(standing.node), len(tokens))
        node, context, lm, ahead, hot, hot_state = (np.broadcast_to(column[:, None], shape) for column in standing)
        letters = self.spelling.padded[tokens].T
        if self.hotwords is not None:
            hot, hot_state = _boost(self.hotwords, hot.copy(), hot_state.copy(), letters)
        if self.trie is not None:
            node, context, lm = self._spell(self.trie, standing, letters)
            ahead = self._ahead(self.trie, node)
        if self.lm_ids is not None:
            lm, context = self._score_tokens(lm, context, self.lm_ids[tokens].tolist())
        return Standing(node, context, lm, ahead, hot, hot_state)

    def finish(self, standing: Standing) -> Ending:
        """Scores of ``standing`` (B,) where the utterance ends: last word complete, sentence over."""
        lm, context, hot = standing.lm, standing.context, standing.hot
        unfinished = np.zeros(len(lm), dtype=bool)
        if self.trie is not None:
            if self.constrained:
                unfinished = (standing.node != ROOT) & (_word_at(self.trie, standing.node) < 0)
            lm, context = self._end_words(self.trie, standing.node, lm, context)
        if self.lm is not None and self.score_boundary:
            eos = self.lm.eos
            lm = lm + np.array([self.weighted(one, eos) for one in context.tolist()], dtype=np.float64)
        if self.hotwords is not None:
            hot = hot + self.hotwords.end_gain[standing.hot_state]
        return Ending(lm, hot, unfinished)

    def only_words(self, hypotheses: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
        """Final hypotheses whose words are all in the lexicon, where there is one.

        Where none such survived, an unfinished last word is taken off, and the score is still that of what was heard.
        """
        if not self.constrained or self.trie is None:
            return tuple(hypotheses)
        complete = [self._complete_tokens(self.trie, one.token_ids) for one in hypotheses]
        whole = [one for one, count in zip(hypotheses, complete, strict=True) if count == len(one.token_ids)]
        cut = {one.token_ids[:count]: _first(one, count) for one, count in zip(hypotheses, complete, strict=True)}
        return tuple(whole or cut.values())

    def _complete_tokens(self, trie: Trie, token_ids: Sequence[int]) -> int:
        """How many tokens spell words of the lexicon: all, or those before the last word."""
        begin, letters = 0, list[int]()
        for index, token in enumerate(token_ids):
            for letter in self.spelling.padded[token].tolist():
                if letter == SEPARATOR:
                    begin, letters = index, []
                elif letter > SEPARATOR:
                    letters.append(letter)
        return begin if letters and trie.find(letters) < 0 else len(token_ids)

    def score(self, token_ids: Collection[int]) -> tuple[float, float]:
        """Language model score and hotword score of a complete sequence of tokens."""
        standing = self.start()
        for token in token_ids:
            standing = self.extend(standing, np.array([token])).take(np.zeros(1, np.int64))
        ending = self.finish(standing)
        return float(ending.lm[0]), float(ending.hot[0])

    def weighted(self, context: tuple[int, ...], word: int) -> float:
        """Return ``alpha * ln P`` of a word by id, with ``unk_score`` where it is unknown; without ``beta``."""
        if self.log_prob is None or not self.alpha:  # 0 * -inf would be no number
            return 0.0
        return self.alpha * (self.log_prob(context, word) + (0.0 if word else self.unk_score))

    def followed(self, context: tuple[int, ...], word: int) -> tuple[int, ...]:
        """The context after one more word."""
        keep = 0 if self.lm is None else self.lm.order - 1
        return (*context, word)[-keep:] if keep else ()

    def _spell(
        self, trie: Trie, standing: Standing, letters: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.float64]]:
        """Walk the letters ``(L, K)`` through the trie; what of ``Standing`` follows, ``(B, K)`` each."""
        # A separator is the first letter nearly always, and then all tokens end the same word.
        first = letters[0] == SEPARATOR
        node = np.where(first, ROOT, standing.node[:, None])
        context = np.repeat(standing.context[:, None], len(first), axis=1)
        lm = np.repeat(standing.lm[:, None], len(first), axis=1)
        if first.any():
            ended_lm, ended_context = self._end_words(trie, standing.node, standing.lm, standing.context)
            forbidden = self.constrained & (standing.node != ROOT) & (_word_at(trie, standing.node) < 0)
            lm[:, first] = np.where(forbidden, -np.inf, ended_lm)[:, None]
            context[:, first] = ended_context[:, None]
        for index, row in enumerate(letters):
            (breaks,) = np.nonzero(row == SEPARATOR)
            if index and breaks.size:
                here, shape = node[:, breaks].ravel(), (len(node), len(breaks))
                ended_lm, ended_context = self._end_words(trie, here, lm[:, breaks].ravel(), context[:, breaks].ravel())
                forbidden = self.constrained & (here != ROOT) & (_word_at(trie, here) < 0)
                lm[:, breaks] = np.where(forbidden, -np.inf, ended_lm).reshape(shape)
                context[:, breaks] = ended_context.reshape(shape)
                node[:, breaks] = ROOT
            (walking,) = np.nonzero(row > SEPARATOR)
            node[:, walking] = trie.step(node[:, walking], row[walking])
        if self.constrained:
            lm[node == OUTSIDE] = -np.inf
        return node, context, lm

    def _end_words(
        self, trie: Trie, node: NDArray[np.int64], lm: NDArray[np.float64], context: NDArray[np.object_]
    ) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
        """Score and context of prefixes ``(B,)`` whose words in progress, if any, are complete."""
        if self.lm is None or self.lm_ids is not None:
            return lm, context
        lm, context = lm.copy(), context.copy()
        words = np.maximum(_word_at(trie, node), 0).tolist()
        for index in np.flatnonzero((node != ROOT) & (lm > -np.inf)).tolist():
            lm[index] += self.weighted(context[index], words[index]) + self.beta
            context[index] = self.followed(context[index], words[index])
        return lm, context

    def _score_tokens(
        self, lm: NDArray[np.float64], context: NDArray[np.object_], words: list[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
        """Score each token as a word of its own; arrays of shape ``(B, K)``."""
        scores, after = lm.copy(), context.copy()
        for row, before in enumerate(context[:, 0].tolist()):  # the same for all tokens
            for column, word in enumerate(words):
                scores[row, column] += self.weighted(before, word) + self.beta
                after[row, column] = self.followed(before, word)
        return scores, after

    def _ahead(self, trie: Trie, node: NDArray[np.int64]) -> NDArray[np.float64]:
        if not self.lookahead or self.lm is None or self.lm_ids is not None or not self.alpha:
            return np.zeros(node.shape)
        best = np.where(node == OUTSIDE, self.unknown, trie.best[node].astype(np.float64))
        return np.where(node == ROOT, 0.0, self.alpha * best)


def _split(letters: Sequence[int]) -> Iterator[list[int]]:
    """The words of a phrase."""
    word: list[int] = []
    for letter in letters:
        if letter == SEPARATOR:
            yield word
            word = []
        else:
            word.append(letter)
    yield word


def _first(hypothesis: Hypothesis, count: int) -> Hypothesis:
    """The first ``count`` tokens of a hypothesis."""
    return replace(
        hypothesis,
        token_ids=hypothesis.token_ids[:count],
        frames=hypothesis.frames[:count],
        ends=hypothesis.ends[:count],
        token_log_probs=hypothesis.token_log_probs[:count],
    )


def _boost(
    table: HotwordTable, hot: NDArray[np.float64], state: NDArray[np.int64], letters: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Walk the letters ``(L, K)`` through the automaton; ``hot`` and ``state`` ``(B, K)`` are written to."""
    for row in letters:
        (walking,) = np.nonzero(row >= 0)
        here = state[:, walking]
        hot[:, walking] += table.gain[here, row[walking]]
        state[:, walking] = table.next[here, row[walking]]
    return hot, state


def _word_at(trie: Trie, node: NDArray[np.int64]) -> NDArray[np.int64]:
    """Id of the word that ends at each node; -1 where none does."""
    return np.where(node > ROOT, trie.word[node].astype(np.int64), -1)


def _token_ids(vocabulary: Vocabulary, lm: LanguageModel) -> NDArray[np.int32]:
    ids = {word: index for index, word in enumerate(lm.words)}
    found = [ids.get(symbol, 0) for symbol in vocabulary.symbols]
    found[vocabulary.blank_id] = 0
    if not any(found):
        raise OptionsError(
            "the language model over tokens knows none of this vocabulary's; estimate one on its tokens, "
            "or say unit='word' when it is about words"
        )
    return np.array(found, dtype=np.int32)


def _words(lm: LanguageModel, lexicon: Collection[str] | None) -> tuple[list[str], NDArray[np.int32]]:
    """Words there may be and their ids: the lexicon's, or all of the language model."""
    special = {0, lm.bos, lm.eos}
    if lexicon is None:
        ids = np.array([index for index in range(len(lm.words)) if index not in special], dtype=np.int32)
        return [lm.words[index] for index in ids.tolist()], ids
    known = {word: index for index, word in enumerate(lm.words) if index not in special}
    words = list(dict.fromkeys(lexicon))
    return words, np.array([known.get(word, 0) for word in words], dtype=np.int32)


def _trie(spelling: Spelling, words: list[str], ids: NDArray[np.int32], weights: NDArray[np.float32]) -> Trie:
    trie = Trie.build(spelling, words, ids, weights)
    if len(trie) == 1:
        example = f", for example {words[0]!r}" if words else ""
        raise OptionsError(
            f"none of the {len(words)} words{example} can be spelt with the letters of the vocabulary; "
            "write them as the transcripts of its training data were (mind upper and lower case)"
        )
    return trie
