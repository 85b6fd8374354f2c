"""What a tree may ask of a neighbour: whether it is of a class of phones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.units.senones.clustering import clustered
from kdcompress.units.senones.moments import CENTRE, SILENCE, summed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from kdcompress.units.senones.moments import Statistics

ARPABET: dict[str, str] = {
    "vowel": "AA AE AH AO AW AX AXR AY EH ER EY IH IX IY OW OY UH UW UX",
    "sonorant": "AA AE AH AO AW AX AXR AY EH ER EY IH IX IY OW OY UH UW UX M N NG L R W Y",
    "voiced": "AA AE AH AO AW AX AXR AY EH ER EY IH IX IY OW OY UH UW UX M N NG L R W Y B D G JH DH V Z ZH",
    "voiced consonant": "M N NG L R W Y B D G JH DH V Z ZH",
    "unvoiced": "CH F HH K P S SH T TH",
    "unvoiced or silence": "CH F HH K P S SH T TH sil",
    "obstruent": "B CH D DH F G HH JH K P S SH T TH V Z ZH",
    "stop": "B D G K P T",
    "stop or silence": "B D G K P T sil",
    "voiced stop": "B D G",
    "unvoiced stop": "K P T",
    "affricate": "CH JH",
    "fricative": "DH F HH S SH TH V Z ZH",
    "voiced fricative": "DH V Z ZH",
    "unvoiced fricative": "F HH S SH TH",
    "sibilant": "CH JH S SH Z ZH",
    "nasal": "M N NG",
    "approximant": "L R W Y",
    "liquid": "L R",
    "glide": "W Y",
    "labial": "B F M P V W",
    "bilabial": "B M P",
    "labiodental": "F V",
    "dental": "DH TH",
    "alveolar": "D L N S T Z",
    "alveolar stop": "D T",
    "alveolar fricative": "S Z",
    "palatal": "CH JH SH Y ZH",
    "palatal fricative": "CH JH SH ZH",
    "velar": "G K NG",
    "velar stop": "G K",
    "bilabial stop": "B P",
    "coronal": "CH D DH JH L N R S SH T TH Z ZH",
    "front vowel": "AE EH EY IH IX IY",
    "high vowel": "IH IX IY UH UW UX",
    "high front": "IH IX IY",
    "high front or Y": "IH IX IY Y",
    "low vowel": "AA AE AO AW AY",
    "mid vowel": "AH AX AXR EH ER EY OW OY",
    "central vowel": "AH AX AXR ER",
    "back vowel": "AA AO OW OY UH UW",
    "high back": "UH UW UX",
    "rounded": "AO OW OY UH UW UX W",
    "diphthong": "AW AY EY OW OY",
    "ends high front": "AY EY IY OY",
    "ends high back": "AW OW UW",
    "begins low": "AA AW AY",
    "lax vowel": "AE AH AX EH IH IX UH",
    "reduced vowel": "AH AX IH IX",
    "r-coloured": "AXR ER R",
}
"""Classes of the phones of the CMU dictionary and of TIMIT, broad ones first."""


class Question(NamedTuple):
    """A class of phones."""

    name: str
    members: tuple[str, ...]
    """Phones, silence perhaps among them, in the order of the inventory."""


def questions_for(statistics: Statistics) -> tuple[Question, ...]:
    """Phonetic questions where all phones are ARPAbet (with stress or without), else classes found in the data.

    Either way each phone, and silence, is a question of its own; the broader ones come first, because of two
    questions that divide the seen contexts alike the first is asked, and it has more to say of those never seen.
    """
    phones = statistics.phones
    known = {phone for members in ARPABET.values() for phone in members.split()} - {SILENCE}
    classes = arpabet_classes(phones) if all(bare(phone) in known for phone in phones) else found_classes(statistics)
    return distinct([*classes, *(Question(phone, (phone,)) for phone in (*phones, SILENCE))], phones)


def bare(phone: str) -> str:
    """A phone without its stress, in capitals."""
    return phone.rstrip("0123456789").upper()


def arpabet_classes(phones: Sequence[str]) -> list[Question]:
    """Return the phonetic classes, of the phones that there are."""
    return [
        Question(name, tuple(phone for phone in (*phones, SILENCE) if _belongs(phone, members.split())))
        for name, members in ARPABET.items()
    ]


def _belongs(phone: str, members: Sequence[str]) -> bool:
    return (phone if phone == SILENCE else bare(phone)) in members


def found_classes(statistics: Statistics) -> list[Question]:
    """Classes of phones that sound alike: every node of a bottom-up clustering of their Gaussians."""
    phones = statistics.phones
    totals = summed(statistics.moments, statistics.contexts[:, CENTRE], len(phones))
    return [
        Question(f"class {number}", tuple(phones[phone] for phone in members))
        for number, members in enumerate(clustered(totals, statistics.floor), start=1)
    ]


def distinct(questions: Iterable[Question], phones: Sequence[str]) -> tuple[Question, ...]:
    """The first of each that have the same members; none that all or no phones belong to."""
    found: dict[tuple[str, ...], Question] = {}
    for question in questions:
        if 0 < len(question.members) <= len(phones):
            found.setdefault(question.members, question)
    return tuple(found.values())


def masks_of(questions: Sequence[Question], phones: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a phone belongs to a class, ``(questions, phones + 1)``; silence is the last column."""
    ids = {phone: index for index, phone in enumerate((*phones, SILENCE))}
    masks = np.zeros((len(questions), len(ids)), dtype=bool)
    for row, question in enumerate(questions):
        masks[row, [ids[phone] for phone in question.members]] = True
    return masks
