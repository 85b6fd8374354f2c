"""Which letters of a word stand for which of its phones: graphones, pairs of both, found by EM over all ways to align.

Many-to-many alignment as Jiampojamarn et al., "Applying many-to-many alignments and hidden Markov models to
letter-to-phoneme conversion", NAACL 2007: the probability of a word is the product of those of its graphones, summed
over all ways; then the likeliest way is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ids = NDArray[np.int64]

SHAPES = ((1, 0), (1, 1), (1, 2), (2, 1))
"""Letters and phones of a graphone. Each has a letter: a search through a word ends after as many steps."""
ROUNDS = 40
"""Of EM."""
BATCH = 4096
"""Words that are aligned at once."""


class Aligned(NamedTuple):
    """A word of the lexicon, cut into graphones."""

    word: str
    phones: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    """Letters and phones of each graphone; together they are those of the word."""

    def graphones(self) -> list[tuple[str, tuple[str, ...]]]:
        """Letters and phones of each."""
        found, letter, phone = [], 0, 0
        for letters, phones in self.shapes:
            found.append((self.word[letter : letter + letters], self.phones[phone : phone + phones]))
            letter, phone = letter + letters, phone + phones
        return found


@dataclass(frozen=True)
class _Batch:
    """Words of similar length and all graphones that they may have."""

    places: Ids
    """Of each word in the order they were given, ``(N,)``."""
    letters: Ids
    """Letters of each, ``(N,)``."""
    phones: Ids
    """Phones of each, ``(N,)``."""
    keys: Ids
    """Key of the graphone of each shape that ends after i letters and j phones, ``(S, N, L + 1, P + 1)``; -1: none."""


def align(entries: Mapping[str, Sequence[str]]) -> list[Aligned]:
    """Cut the words of a lexicon into graphones, in the order of the lexicon.

    Words with more than two phones a letter (``w``, said as the name of the letter) fit no cut and are left out.
    """
    words, said = list(entries), [tuple(phones) for phones in entries.values()]
    batches = _batches(words, said)
    known, inverse = np.unique(np.concatenate([batch.keys.ravel() for batch in batches]), return_inverse=True)
    ends = np.cumsum([batch.keys.size for batch in batches])[:-1]
    ids = [
        part.reshape(batch.keys.shape).astype(np.int32)
        for part, batch in zip(np.split(inverse.ravel(), ends), batches, strict=True)
    ]
    probs = _learned(batches, ids, known >= 0)
    found: list[tuple[int, Aligned]] = []
    for batch, of in zip(batches, ids, strict=True):
        cuts = _best_cuts(batch, of, probs)
        found += [(place, Aligned(words[place], said[place], cut)) for place, cut in cuts.items()]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _learned(batches: Sequence[_Batch], ids: Sequence[NDArray[np.int32]], possible: NDArray[np.bool_]) -> Floats:
    """Probability of each graphone; nothing for those that are not ``possible``."""
    counts = possible.astype(float)
    for _ in range(ROUNDS):
        probs = counts / max(counts.sum(), 1.0)
        counts = np.zeros(len(possible))
        for batch, of in zip(batches, ids, strict=True):
            counts += _expected(batch, of, probs)
        counts[~possible] = 0.0
    return np.asarray(counts / max(counts.sum(), 1.0))


def _batches(words: Sequence[str], said: Sequence[tuple[str, ...]]) -> list[_Batch]:
    letter_ids = {letter: number for number, letter in enumerate(sorted(set().union(*words)), start=1)}
    phone_ids = {phone: number for number, phone in enumerate(sorted(set().union(*said)), start=1)}
    order = sorted(range(len(words)), key=lambda place: (len(words[place]), len(said[place]), place))
    batches = []
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        letters = _padded([[letter_ids[letter] for letter in words[place]] for place in part])
        phones = _padded([[phone_ids[phone] for phone in said[place]] for place in part])
        keys = np.stack([_keys(letters, phones, shape, len(phone_ids) + 1) for shape in SHAPES])
        lengths = (np.count_nonzero(letters, axis=1), np.count_nonzero(phones, axis=1))
        batches.append(_Batch(np.array(part), *lengths, keys))
    return batches


def _padded(rows: Sequence[Sequence[int]]) -> Ids:
    """Ids with zeros after them, (N, longest)."""
    longest = max(map(len, rows))
    return np.array([[*row, *[0] * (longest - len(row))] for row in rows], dtype=np.int64)


def _keys(letters: Ids, phones: Ids, shape: tuple[int, int], radix: int) -> Ids:
    """One number for each graphone of a shape, by where it ends, (N, L + 1, P + 1); -1 where it would be cut off."""
    ended_letters, ended_phones = (_codes(ids, count) for ids, count in zip((letters, phones), shape, strict=True))
    keys = ended_letters[:, :, None] * radix**2 + ended_phones[:, None, :]
    return np.where((ended_letters < 0)[:, :, None] | (ended_phones < 0)[:, None, :], -1, keys)


def _codes(ids: Ids, count: int) -> Ids:
    """A number for the last ``count`` (0 to 2) of the first i ids, (N, longest + 1); -1 where there are not so many."""
    radix = int(ids.max()) + 1
    codes = np.full((len(ids), ids.shape[1] + 1), -1, dtype=np.int64)
    if count == 0:
        codes[:] = 0
    elif count == 1:
        codes[:, 1:] = np.where(ids > 0, ids, -1)
    else:
        codes[:, 2:] = np.where(ids[:, 1:] > 0, ids[:, :-1] * radix + ids[:, 1:], -1)
    return codes


def _expected(batch: _Batch, ids: NDArray[np.int32], probs: Floats) -> Floats:
    """How often each graphone is expected in the words of a batch."""
    of = probs[ids]
    ahead = _forward(of)
    every = np.arange(len(batch.places))
    total = ahead[every, batch.letters, batch.phones]
    behind = np.zeros_like(ahead)
    behind[every, batch.letters, batch.phones] = 1.0 / np.where(total > 0, total, np.inf)
    counts = np.zeros(len(probs))
    for end in range(ahead.shape[1] - 1, 0, -1):
        for number, (letters, phones) in enumerate(SHAPES):
            if letters > end:
                continue
            width = ahead.shape[2] - phones
            through = of[number, :, end, phones:] * behind[:, end, phones:]
            behind[:, end - letters, :width] += through
            weight = through * ahead[:, end - letters, :width]
            counts += np.bincount(ids[number, :, end, phones:].ravel(), weight.ravel(), len(probs))
    return counts


def _forward(of: Floats) -> Floats:
    """Probability of all ways to i letters and j phones, (N, L + 1, P + 1)."""
    ahead = np.zeros(of.shape[1:])
    ahead[:, 0, 0] = 1.0
    for end in range(1, ahead.shape[1]):
        for number, (letters, phones) in enumerate(SHAPES):
            if letters <= end:
                width = ahead.shape[2] - phones
                ahead[:, end, phones:] += ahead[:, end - letters, :width] * of[number, :, end, phones:]
    return ahead


def _best_cuts(batch: _Batch, ids: NDArray[np.int32], probs: Floats) -> dict[int, tuple[tuple[int, int], ...]]:
    """The likeliest shapes of each word by its place; words that fit none are not in it."""
    of = probs[ids]
    best = np.zeros(of.shape[1:])
    best[:, 0, 0] = 1.0
    taken = np.zeros(best.shape, dtype=np.int8)
    for end in range(1, best.shape[1]):
        for number, (letters, phones) in enumerate(SHAPES):
            if letters <= end:
                width = best.shape[2] - phones
                reached = best[:, end - letters, :width] * of[number, :, end, phones:]
                better = reached > best[:, end, phones:]
                best[:, end, phones:][better] = reached[better]
                taken[:, end, phones:][better] = number
    cuts = {}
    for row, place in enumerate(batch.places.tolist()):
        letter, phone = int(batch.letters[row]), int(batch.phones[row])
        if best[row, letter, phone] > 0:
            cuts[place] = _traced(taken[row], letter, phone)
    return cuts


def _traced(taken: NDArray[np.int8], letter: int, phone: int) -> tuple[tuple[int, int], ...]:
    shapes = []
    while letter:
        shapes.append(SHAPES[taken[letter, phone]])
        letter, phone = letter - shapes[-1][0], phone - shapes[-1][1]
    return tuple(reversed(shapes))
