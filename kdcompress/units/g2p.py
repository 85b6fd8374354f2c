"""Letters to phones by a model of joint sequences (Bisani and Ney, Speech Communication 50, 2008).

A word of the lexicon is a sequence of graphones: letters with the phones that they stand for. An n-gram of graphones
(interpolated modified Kneser-Ney) says how likely a way to say a word is; the likeliest is found by a beam search
through the letters. The model *is* its aligned lexicon: n-grams are counted when it is first used.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdcompress.errors import VocabularyError
from kdcompress.lm.counts import count_grams
from kdcompress.lm.kneser_ney import BOS_ID, EOS_ID, smooth
from kdcompress.units.content import damaged, named
from kdcompress.units.graphones import SHAPES, Aligned, align

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kdcompress.lm.counts import Grams
    from kdcompress.lm.kneser_ney import Smoothed

    Phones = tuple[str, ...]

ORDER = 5
"""Graphones that a probability depends on, the predicted one included."""
BEAM = 16
"""States that are kept after each letter; with 8 as with 64 the answers are the same, on 571 words."""
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where counts of counts give none."""
MARKS = 3
"""Ids of ``<unk>``, ``<s>`` and ``</s>``; graphones follow."""
LN10 = float(np.log(10.0))


class GraphoneModel:
    """Guesses how words are said that the lexicon lacks; see ``Guesser``."""

    kind = "graphones"

    def __init__(self, aligned: Sequence[Aligned], order: int = ORDER, beam: int = BEAM) -> None:
        """Take a lexicon whose words are cut into graphones.

        Raises:
            VocabularyError: it is empty.
        """
        if not aligned:
            raise VocabularyError(
                "no word of the lexicon can be cut into letters with their phones; nothing is learned"
            )
        self.aligned = tuple(aligned)
        self.order = order
        self.beam = beam
        self.phones: Phones = tuple(sorted({phone for one in aligned for phone in one.phones}))
        self.letters = frozenset("".join(one.word for one in aligned))

    @classmethod
    def learn(cls, entries: Mapping[str, Phones], order: int = ORDER) -> GraphoneModel:
        """Learn from a lexicon: of each word its phones.

        Raises:
            VocabularyError: nothing can be learned from it.
        """
        return cls(align(entries) if entries else (), order)

    def __call__(self, words: Sequence[str]) -> list[Phones]:
        """Return the phones of each word, one at least.

        A sign that is no letter (an apostrophe) and stands in no word of the lexicon is silent.

        Raises:
            VocabularyError: a word has letters that no word of the lexicon has, or none that are said.
        """
        spelled = {word: "".join(sign for sign in word if sign.isalpha() or sign in self.letters) for word in words}
        said = self._search.all(letters for letters in spelled.values() if self.letters.issuperset(letters))
        if strange := [word for word, letters in spelled.items() if not said.get(letters)]:
            raise VocabularyError(
                f"how {named(strange)} is said cannot be guessed: no word of the lexicon has such letters, or they are "
                "always silent; add it to the lexicon"
            )
        return [said[spelled[word]] for word in words]

    def to_json(self) -> dict[str, Any]:
        """The aligned lexicon: of each word its phones, and the shapes of its graphones (``10``: a silent letter)."""
        rows = [
            [one.word, " ".join(one.phones), "".join(f"{letters}{phones}" for letters, phones in one.shapes)]
            for one in self.aligned
        ]
        return {"kind": self.kind, "order": self.order, "beam": self.beam, "aligned": rows}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> GraphoneModel:
        """Read back what ``to_json`` gave.

        Raises:
            VocabularyError: it is damaged.
        """
        order, beam, rows = content.get("order"), content.get("beam"), content.get("aligned")
        if not isinstance(order, int) or order < 1 or not isinstance(beam, int) or beam < 1:
            raise damaged(source, "its g2p has no order, or no beam")
        if not isinstance(rows, list) or not rows:
            raise damaged(source, "its g2p has no aligned words")
        return cls([_aligned(row, source) for row in rows], order, beam)

    @cached_property
    def _search(self) -> _Search:
        return _Search(*_counted(self.aligned, self.order), self.beam)


def _aligned(row: Any, source: str) -> Aligned:  # noqa: ANN401 (whatever JSON holds)
    if isinstance(row, list) and len(row) == 3 and all(isinstance(field, str) for field in row):
        word, phones, digits = row[0], tuple(row[1].split()), row[2]
        shapes = tuple((int(digits[i]), int(digits[i + 1])) for i in range(0, len(digits) - 1, 2) if digits.isdigit())
        sums = tuple(map(sum, zip(*shapes, strict=True)))
        if set(shapes) <= set(SHAPES) and len(digits) % 2 == 0 and sums == (len(word), len(phones)):
            return Aligned(word, phones, shapes)
    raise damaged(source, f"a word of its g2p is not aligned: {row!r}")


class _Graphone(NamedTuple):
    """One way to say a letter, or two."""

    id: int
    phones: tuple[str, ...]


class _Machine(NamedTuple):
    """An n-gram as an automaton. A state is the longest context that the model holds."""

    start: int
    """State after ``<s>``."""
    found: dict[int, int]
    """N-gram by ``state * types + graphone``."""
    types: int
    log_probs: list[float]
    """Ln P of each n-gram."""
    after: list[int]
    """State after each n-gram."""
    backoffs: list[float]
    """Ln of what a state leaves to the shorter one."""
    shorter: list[int]
    """State without its oldest graphone."""

    def step(self, state: int, graphone: int) -> tuple[float, int]:
        """Ln P(graphone | state), and the state after it."""
        total = 0.0
        while (ngram := self.found.get(state * self.types + graphone)) is None:
            total += self.backoffs[state]
            state = self.shorter[state]
        return total + self.log_probs[ngram], self.after[ngram]


def _counted(aligned: Sequence[Aligned], order: int) -> tuple[_Machine, dict[str, list[_Graphone]]]:
    """N-grams of the aligned lexicon, and the graphones of each letter or two."""
    sequences = [one.graphones() for one in aligned]
    counts: dict[tuple[str, Phones], int] = {}
    for sequence in sequences:
        for graphone in sequence:
            counts[graphone] = counts.get(graphone, 0) + 1
    numbers = {graphone: MARKS + place for place, graphone in enumerate(sorted([*counts, *_lone(counts)]))}
    ids = [number for sequence in sequences for number in (BOS_ID, *map(numbers.__getitem__, sequence), EOS_ID)]
    types = MARKS + len(numbers)
    grams = count_grams(np.array(ids, dtype=np.int32), types, order)
    # graphones that were never seen have their share, too
    smoothed = smooth(grams, thresholds=[-1, *[0] * (order - 1)], fallback=FALLBACK)
    by_letters: dict[str, list[_Graphone]] = {}
    for (letters, phones), number in numbers.items():
        by_letters.setdefault(letters, []).append(_Graphone(number, phones))
    return _machine(grams, smoothed, types), by_letters


def _lone(counts: Mapping[tuple[str, Phones], int]) -> list[tuple[str, Phones]]:
    """A graphone for each letter that never stands alone (q before u): said as the pair that it most often begins."""
    alone = {letters for letters, _ in counts if len(letters) == 1}
    pairs = sorted(counts, key=lambda graphone: (-counts[graphone], graphone))
    found: dict[str, Phones] = {}
    for letters, phones in pairs:
        for letter in letters:
            if letter not in alone:
                found.setdefault(letter, phones)
    return list(found.items())


def _machine(grams: Sequence[Grams], smoothed: Sequence[Smoothed], types: int) -> _Machine:
    """Number the n-grams of all lengths; 0 is the empty one."""
    starts = np.cumsum([1, *map(len, grams)])
    below = np.zeros(1, dtype=np.int64)
    keys, log_probs, after, backoffs, shorter = [], [np.zeros(1)], [below], [np.zeros(1)], [below]
    for length, (gram, row) in enumerate(zip(grams, smoothed, strict=True), start=1):
        first = starts[length - 2] if length > 1 else 0
        own = starts[length - 1] + np.arange(len(gram))
        keys.append((first + gram.context.astype(np.int64)) * types + gram.word)
        followed = np.zeros(len(gram), bool)
        if length < len(grams):
            followed[grams[length].context] = True
        # an n-gram that nothing follows leaves all to the shorter one
        after.append(np.where(followed, own, below[gram.lower]))
        below = after[-1]
        log_probs.append(row.log10_probs * LN10)
        backoffs.append(row.log10_backoffs * LN10)
        shorter.append(first + gram.lower)
    found = dict(zip(np.concatenate(keys).tolist(), range(1, int(starts[-1])), strict=True))
    tables = [np.concatenate(parts).tolist() for parts in (log_probs, after, backoffs, shorter)]
    return _Machine(int(after[1][BOS_ID]), found, types, *tables)


class _Way(NamedTuple):
    """The best way to a state through the letters so far."""

    score: float
    state: int
    trail: tuple[Any, ...] | None
    """Phones of the last graphone, and the trail before it; None while nothing was said."""


class _Search:
    """Beam search, a letter at a time. Words are taken in the order of the alphabet: what they begin with is shared."""

    def __init__(self, machine: _Machine, graphones: Mapping[str, Sequence[_Graphone]], beam: int) -> None:
        self._machine, self._graphones, self._beam = machine, graphones, beam
        self._steps: dict[tuple[int, str], list[tuple[float, int, Phones]]] = {}

    def all(self, words: Iterable[str]) -> dict[str, Phones]:
        """Phones by word."""
        said: dict[str, Phones] = {}
        columns, before = [[_Way(0.0, self._machine.start, None)]], ""
        for word in sorted(set(words)):
            del columns[_shared(word, before) + 1 :]
            while len(columns) <= len(word):
                columns.append(self._next(word[: len(columns)], columns))
            said[word] = self._best(columns[-1])
            before = word
        return said

    def _next(self, letters: str, columns: Sequence[Sequence[_Way]]) -> list[_Way]:
        """The best ways through all of ``letters``, from those through fewer."""
        reached: dict[tuple[int, bool], _Way] = {}
        for length in (1, 2):
            if length > len(letters):
                break
            chunk = letters[-length:]
            for way in columns[-length]:
                for log_prob, state, phones in self._from(way.state, chunk):
                    score = way.score + log_prob
                    trail = (phones, way.trail) if phones else way.trail
                    key = (state, trail is None)
                    if key not in reached or reached[key].score < score:
                        reached[key] = _Way(score, state, trail)
        ways = sorted(reached.values(), key=lambda way: -way.score)
        kept = ways[: self._beam]
        if all(way.trail is None for way in kept):
            # a word says something, if it can
            kept += [way for way in ways if way.trail is not None][:1]
        return kept

    def _from(self, state: int, letters: str) -> list[tuple[float, int, Phones]]:
        """All that a chunk of letters may be after a state: ln P, the state then, phones."""
        known = self._steps.get((state, letters))
        if known is None:
            known = [(*self._machine.step(state, one.id), one.phones) for one in self._graphones.get(letters, ())]
            self._steps[state, letters] = known
        return known

    def _best(self, ways: Sequence[_Way]) -> Phones:
        """What the best way says; the best that says anything; nothing where all letters are always silent."""
        ended = [(way.score + self._machine.step(way.state, EOS_ID)[0], place) for place, way in enumerate(ways)]
        spoken = [pair for pair in ended if ways[pair[1]].trail is not None]
        phones: list[str] = []
        trail = ways[max(spoken)[1]].trail if spoken else None
        while trail is not None:
            phones[:0] = trail[0]
            trail = trail[1]
        return tuple(phones)


def _shared(word: str, other: str) -> int:
    """How many letters two words share at their beginning."""
    pairs = enumerate(zip(word, other, strict=False))
    return next((place for place, (one, two) in pairs if one != two), min(len(word), len(other)))
