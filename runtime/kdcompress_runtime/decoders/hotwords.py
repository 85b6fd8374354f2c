"""Hotwords: phrases that are given nats for each letter, as an Aho-Corasick automaton in dense tables.

A phrase counts between word borders: it is matched as ``▁phrase▁``, so "art" gives nothing to "party". While a
phrase is being spelt, its nats so far are lent (the *potential* of the state) and taken back when the match
breaks; they are kept when the phrase is complete. Phrases that overlap all count.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.decoders.spelling import SEPARATOR
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.spelling import Spelling

Refund = Callable[[Sequence[int]], Sequence[float]]
"""From the letters of a phrase to nats beside its weight: those lent after each letter, and those of all of it."""
_GRAIN = 2.0**20
"""Weights are rounded to 1 / this, so that sums of them are exact: what is given back leaves exactly nothing."""


@dataclass(frozen=True, eq=False)
class HotwordTable:
    """S states; in each, what the next letter leads to and gives."""

    next: NDArray[np.int32]
    """State after a letter; shape ``(S, A)``."""
    gain: NDArray[np.float64]
    """Nats that the letter gives, or takes back; shape ``(S, A)``."""
    end_gain: NDArray[np.float64]
    """Nats given or taken back where the utterance ends in this state; shape ``(S,)``."""
    start: int
    """State before the first letter: as after a separator."""

    @classmethod
    def build(cls, spelling: Spelling, hotwords: Mapping[str, float], refund: Refund | None = None) -> HotwordTable:
        """Build the tables of phrases and their weights (nats for each letter, separators inside included).

        A negative weight takes nats from the complete phrase. Without separators in the vocabulary there are no
        word borders, and phrases count wherever they stand.

        Args:
            spelling: the letters.
            hotwords: phrase -> weight.
            refund: nats for phrases of positive weight beside it.

        Raises:
            OptionsError: a phrase is empty or cannot be spelt, or a weight is not a finite number.
        """
        borders = (SEPARATOR,) if spelling.separated else ()
        phrases: dict[tuple[int, ...], tuple[float, ...]] = {}
        for phrase, weight in hotwords.items():
            letters = phrase_letters(spelling, phrase)
            nats = _nats(_checked(phrase, weight), letters, refund)
            pattern = (*borders, *letters, *borders)
            if pattern not in phrases or phrases[pattern][-1] < nats[-1]:
                phrases[pattern] = nats
        return _tables(_Branches.of(phrases, len(borders)), spelling)


@dataclass(frozen=True, eq=False)
class _Branches:
    """The trie of the patterns, with the links and values of Aho and Corasick (1975). State 0: nothing matched."""

    children: list[dict[int, int]]
    """State by letter, of each state."""
    reward: list[float]
    """Nats of all phrases that are complete on entering the state."""
    potential: list[float]
    """Nats lent in the state."""
    fallback: list[int]
    """State of the longest other suffix."""
    order: list[int]
    """States by depth."""
    start: int

    @classmethod
    def of(cls, phrases: Mapping[tuple[int, ...], tuple[float, ...]], borders: int) -> _Branches:
        """Patterns with what ``_nats`` says of them, and the separators at either end of each."""
        children: list[dict[int, int]] = [{}]
        reward, potential = [0.0], [0.0]

        def child(state: int, letter: int) -> int:
            if letter not in children[state]:
                children[state][letter] = len(children)
                children.append({})
                reward.append(0.0)
                potential.append(0.0)
            return children[state][letter]

        start = child(0, SEPARATOR) if borders else 0
        for pattern, (*lent, paid) in phrases.items():
            state = 0
            for index, letter in enumerate(pattern):
                state = child(state, letter)
                count = index + 1 - borders  # letters of the phrase itself
                if 0 < count <= len(lent) and index < len(pattern) - 1:  # the last state lends nothing: it pays
                    potential[state] = max(potential[state], lent[count - 1])
            reward[state] += paid
        fallback, order = _links(children)
        for state in order[1:]:
            reward[state] += reward[fallback[state]]
            potential[state] = max(potential[state], potential[fallback[state]])
        return cls(children, reward, potential, fallback, order, start)


def _links(children: list[dict[int, int]]) -> tuple[list[int], list[int]]:
    """Longest proper suffix of each state that is a state, and the states by depth."""
    fallback, order = [0] * len(children), [0]
    waiting = deque([0])
    while waiting:
        state = waiting.popleft()
        for letter, after in children[state].items():
            suffix = fallback[state]
            while suffix and letter not in children[suffix]:
                suffix = fallback[suffix]
            fallback[after] = children[suffix].get(letter, 0) if state else 0
            order.append(after)
            waiting.append(after)
    return fallback, order


def _tables(branches: _Branches, spelling: Spelling) -> HotwordTable:
    states = len(branches.children)
    following = np.zeros((states, spelling.size), dtype=np.int32)
    after_separator = [branches.start] if spelling.separated else []
    for state in branches.order:
        if state:
            following[state] = following[branches.fallback[state]]
        for letter, after in branches.children[state].items():
            following[state, letter] = after
            if letter == SEPARATOR:
                after_separator.append(after)
    reward, potential = np.array(branches.reward), np.array(branches.potential)
    gain = reward[following] + potential[following] - potential[:, None]
    following[after_separator, SEPARATOR] = after_separator  # "new▁▁york" is "new york"
    gain[after_separator, SEPARATOR] = 0.0
    if not spelling.separated:
        return HotwordTable(following, gain, -potential, branches.start)
    end_gain = gain[:, SEPARATOR] - potential[following[:, SEPARATOR]]
    return HotwordTable(following, gain, end_gain, branches.start)


def _nats(weight: float, letters: Sequence[int], refund: Refund | None) -> tuple[float, ...]:
    """Nats lent after each letter of a phrase, and those that are paid for all of it."""
    nats = [weight * (count + 1) for count in range(len(letters))]
    nats.append(nats[-1])
    if refund is not None and weight > 0:
        nats = [one + more for one, more in zip(nats, refund(letters), strict=True)]
    return tuple(round(one * _GRAIN) / _GRAIN for one in nats)


def phrase_letters(spelling: Spelling, phrase: object) -> list[int]:
    """Letter ids of a phrase, in the vocabulary's case where it knows only one.

    Raises:
        OptionsError: the phrase is empty, or cannot be spelt.
    """
    if not isinstance(phrase, str):
        raise OptionsError(f"a hotword is a text, found {phrase!r}")
    words = phrase.replace(WORD_SEPARATOR, " ").split()
    if not words:
        raise OptionsError(f"a hotword is empty: {phrase!r}; leave it out")
    found: list[int] = []
    missing = []
    for letter in (WORD_SEPARATOR if spelling.separated else "").join(words):
        spelt = next((s for s in (letter, letter.lower(), letter.upper()) if all(one in spelling.ids for one in s)), "")
        found += [spelling.ids[one] for one in spelt]
        missing += [] if spelt else [letter]
    if missing:
        raise OptionsError(
            f"the hotword {phrase!r} cannot be spelt: the vocabulary lacks {', '.join(map(repr, sorted(set(missing))))}"
        )
    return found


def _checked(phrase: str, weight: object) -> float:
    """Return the weight of a phrase.

    Raises:
        OptionsError: it is not a finite number.
    """
    number = isinstance(weight, (int, float, np.floating, np.integer)) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight):  # type: ignore[arg-type]
        raise OptionsError(f"the weight of the hotword {phrase!r} must be a finite number of nats, found {weight!r}")
    return float(weight)  # type: ignore[arg-type]
