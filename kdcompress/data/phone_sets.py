"""Sets of phones, and what others write for them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from kdcompress.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Mapping

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
ARPABET = tuple(sorted((*VOWELS, *CONSONANTS)))
"""The 39 phones of the CMU dictionary, without stress."""

_SAID = """
ɑː AA|ɑ AA|æ AE|ʌ AH|ə AH|ɐ AH|ɔː AO|ɔ AO|ɒ AA|aʊ AW|aɪ AY|ɛ EH|e EH|ɜː ER|ɜ ER|ɚ ER|ɝ ER|eɪ EY|ɪ IH|ᵻ IH
iː IY|i IY|oʊ OW|əʊ OW|o OW|oː OW|ɔɪ OY|ʊ UH|uː UW|u UW
b B|tʃ CH|ʧ CH|d D|ð DH|f F|ɡ G|g G|h HH|dʒ JH|ʤ JH|k K|l L|ɫ L|m M|n N
ŋ NG|p P|ɹ R|r R|s S|ʃ SH|t T|θ TH|v V|w W|j Y|z Z|ʒ ZH|x K|ʔ T|ɾ T
ɑːɹ AA R|ɔːɹ AO R|oːɹ AO R|oːr AO R|ɛɹ EH R|ɪɹ IH R|ʊɹ UH R|aɪɚ AY ER|aɪə AY AH|iə IY AH
əl AH L|n̩ AH N|l̩ AH L|m̩ AH M|əɹ ER
"""
IPA_TO_ARPABET: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {one.split()[0]: tuple(one.split()[1:]) for line in _SAID.strip().splitlines() for one in line.split("|")}
)
"""Phones of the CMU dictionary by sounds of American English in IPA, as espeak-ng and others write them."""
_IGNORED = "ˈˌ.‿͡ '"
"""Stress, syllables, ties, blanks."""
_LONGEST = max(map(len, IPA_TO_ARPABET))


def arpabet(ipa: str) -> tuple[str, ...]:
    """Phones of a word in IPA: the longest sound that is known at each place; stress and length go.

    A tap (``ɾ``) is T, as the dictionary has ``butter``.

    Raises:
        VocabularyError: a sign is no sound of American English.
    """
    signs = "".join(sign for sign in ipa if sign not in _IGNORED)
    found: list[str] = []
    place = 0
    while place < len(signs):
        for length in range(_LONGEST, 0, -1):
            phones = IPA_TO_ARPABET.get(signs[place : place + length])
            if phones is not None:
                found.extend(phones)
                place += length
                break
        else:
            if signs[place] != "ː":
                raise VocabularyError(
                    f"{signs[place]!r} in {ipa!r} is no sound that ARPAbet writes; add the word to the lexicon"
                )
            place += 1
    return tuple(found)
