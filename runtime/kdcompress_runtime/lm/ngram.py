"""Back-off n-gram models in arrays: unigrams by word, longer n-grams in one hash table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import LanguageModelError
from kdcompress_runtime.lm.base import BOS, EOS, UNK, check_unit, sentence_scores
from kdcompress_runtime.lm.hashing import key_of, slots_of, table_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MAX_ORDER = 32
"""Far beyond any model in use."""


class RepeatedNgramError(LanguageModelError):
    """An n-gram stands in a model twice."""

    def __init__(self, index: int) -> None:
        super().__init__("an n-gram stands in the model twice")
        self.index = index
        """Its second place among the longer n-grams."""


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A back-off model, as an ARPA file describes it; probabilities are natural logarithms.

    ln P(w | c) is that of the longest n-gram ``(..., w)`` that is held, and the back-offs of the longer contexts.
    """

    order: int
    """Words that a probability depends on, the predicted one included."""
    unit: str
    """``word`` or ``token``."""
    words: tuple[str, ...]
    """Word by id; ``words[0]`` is ``<unk>``."""
    bos: int
    """Id of ``<s>``."""
    eos: int
    """Id of ``</s>``."""
    table_unigrams: NDArray[np.float32]
    """(V, 2): ln P and ln back-off by word."""
    table_keys: NDArray[np.uint64]
    """(H,), H a power of two, half full at most: keys of longer n-grams (``hashing.key_of``), 0 where there is none."""
    table_values: NDArray[np.float32]
    """(H, 2): ln P and ln back-off beside each key."""

    def __post_init__(self) -> None:
        check_unit(self.unit)
        problem = self._problem()
        if problem:
            raise LanguageModelError(f"not a language model: {problem}")

    def __reduce__(self) -> tuple[type[NgramModel], tuple[object, ...]]:
        tables = (self.table_unigrams, self.table_keys, self.table_values)
        return NgramModel, (self.order, self.unit, self.words, self.bos, self.eos, *tables)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Id by word."""
        return {word: index for index, word in enumerate(self.words)}

    def unigrams(self) -> NDArray[np.float32]:
        """Ln P(word) of every word; shape (V,)."""
        return self.table_unigrams[:, 0]

    def score(self, context: tuple[int, ...], word: int) -> float:
        """Return ln P(word | context); both ids, ``context`` oldest first, words beyond ``order - 1`` ignored."""
        context = context[max(0, len(context) - self.order + 1) :]
        unigrams, keys, values, mask = self._views
        total = 0.0
        while context:
            slot = _slot(keys, mask, (*context, word))
            if slot >= 0:
                return total + values[slot, 0]
            if len(context) == 1:
                return total + unigrams[context[0], 1] + unigrams[word, 0]
            slot = _slot(keys, mask, context)
            if slot >= 0:
                total += values[slot, 1]
            context = context[1:]
        return total + unigrams[word, 0]

    def score_sentence(self, words: Sequence[str], *, bos: bool = True, eos: bool = True) -> float:
        """Return ln P of a sentence; words that are not known count as ``<unk>``.

        Args:
            words: the words (or tokens).
            bos: begin in the context ``<s>``; without it in no context.
            eos: score the end of the sentence, too.
        """
        return math.fsum(sentence_scores(self, [self.ids.get(word, 0) for word in words], bos=bos, eos=eos))

    def ngram(self, ids: tuple[int, ...]) -> tuple[float, float] | None:
        """Ln P and ln back-off of one n-gram as it is held, None where it is not."""
        unigrams, keys, values, mask = self._views
        if len(ids) == 1:
            return unigrams[ids[0], 0], unigrams[ids[0], 1]
        slot = _slot(keys, mask, ids)
        return None if slot < 0 else (values[slot, 0], values[slot, 1])

    @property
    def ngrams(self) -> int:
        """N-grams held, unigrams included."""
        return len(self.words) + int(np.count_nonzero(self.table_keys))

    @cached_property
    def _views(self) -> tuple[memoryview, memoryview, memoryview, int]:
        """The tables as Python reads single numbers fastest."""
        tables = (self.table_unigrams, self.table_keys, self.table_values)
        unigrams, keys, values = (np.ascontiguousarray(table).data for table in tables)
        return unigrams, keys, values, len(self.table_keys) - 1

    def _problem(self) -> str | None:
        words, slots = len(self.words), len(self.table_keys)
        wanted: list[tuple[str, NDArray[Any], type[np.generic], tuple[int, ...]]] = [
            ("table_unigrams", self.table_unigrams, np.float32, (words, 2)),
            ("table_keys", self.table_keys, np.uint64, (slots,)),
            ("table_values", self.table_values, np.float32, (slots, 2)),
        ]
        for name, table, dtype, shape in wanted:
            if table.dtype != dtype or table.shape != shape:
                return f"{name} is {table.dtype} {table.shape}, not {np.dtype(dtype)} {shape}"
        if not 1 <= self.order <= MAX_ORDER:
            return f"its order is {self.order}"
        if not (0 < self.bos < words and 0 < self.eos < words and self.bos != self.eos and self.words[0] == UNK):
            return f"{UNK}, {BOS} and {EOS} are not where they should be"
        if slots & (slots - 1) or 2 * np.count_nonzero(self.table_keys) > slots:
            return f"a hash table of {slots} slots is no power of two, or more than half full"
        if not (np.isfinite(self.table_unigrams).all() and np.isfinite(self.table_values).all()):
            return "it holds probabilities that are not finite"
        return None


def build(
    order: int,
    unit: str,
    words: Sequence[str],
    unigrams: NDArray[np.float32],
    longer: Sequence[tuple[NDArray[np.uint64], NDArray[np.float32]]],
) -> NgramModel:
    """Make a model from its n-grams.

    Args:
        order: length of the longest n-grams.
        unit: ``word`` or ``token``.
        words: word by id; ``<unk>`` first, ``<s>`` and ``</s>`` anywhere.
        unigrams: (V, 2) ln P and ln back-off.
        longer: parts of the longer n-grams: keys (``hashing.keys_of``) (count,), and values (count, 2).

    Raises:
        RepeatedNgramError: an n-gram stands twice.
        LanguageModelError: ``<s>`` or ``</s>`` is missing.
    """
    missing = [mark for mark in (BOS, EOS) if mark not in words]
    if missing:
        raise LanguageModelError(f"the model has no {' and no '.join(missing)}; estimate it from whole sentences")
    keys = np.concatenate([np.zeros(0, np.uint64), *(keys for keys, _ in longer)])
    values = np.concatenate([np.zeros((0, 2), np.float32), *(values for _, values in longer)])
    twice = _repeated(keys)
    if twice is not None:
        raise RepeatedNgramError(twice)
    size = table_size(len(keys))
    slots = slots_of(keys, size)
    table_keys = np.zeros(size, np.uint64)
    table_values = np.zeros((size, 2), np.float32)
    table_keys[slots], table_values[slots] = keys, values
    words = tuple(words)
    return NgramModel(order, unit, words, words.index(BOS), words.index(EOS), unigrams, table_keys, table_values)


def _repeated(keys: NDArray[np.uint64]) -> int | None:
    """Index of the first key that stands before it, too; None where there is none."""
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    return int(order[1:][same].min()) if same.any() else None


def _slot(keys: memoryview, mask: int, ids: tuple[int, ...]) -> int:
    key = key_of(ids)
    slot = key & mask
    while True:
        here = keys[slot]
        if here == key:
            return slot
        if here == 0:
            return -1
        slot = (slot + 1) & mask
