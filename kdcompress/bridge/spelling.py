"""How the student writes what a teacher writes: case, accents, apostrophes, the space between words, punctuation."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from kdcompress.data.lexicon import APOSTROPHES
from kdcompress_runtime.vocabulary import BLANK, WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress.data.text import Units

SPECIAL = re.compile(r"<[^<>]*>|\[[A-Z_]+\]|⁇")
"""What toolkits add to a vocabulary and no text holds: ``<unk>``, ``</s>``, ``[PAD]``, bytes as ``<0x0A>``."""
SPACES = {" ", "|", WORD_SEPARATOR}
"""Ways to write the space between words."""
SAID = set("%‰&@#*§")
"""Punctuation by Unicode's categories, but read aloud."""
_VOWELS = "AA AE AH AO AW AX AXR AY EH ER EY IH IX IY OW OY UH UW UX"
_CONSONANTS = "B CH D DH DX EL EM EN ENG F G HH HV JH K L M N NG NX P Q R S SH T TH V W Y Z ZH"
_CLOSURES = "BCL DCL EPI GCL KCL PAU PCL SIL SP SPN TCL"
ARPABET = {*_VOWELS.split(), *_CONSONANTS.split(), *_CLOSURES.split()}
"""Phones of the CMU dictionary and of TIMIT, without stress."""
SILENCE = re.compile(r"[<\[](sil|sp|spn|pau|silence)[>\]]", re.IGNORECASE)
"""Tokens for silence, which is what blank is for."""
SILENT_PHONES = {"EPI", "PAU", "SIL", "SP"}
"""The same among phones."""
STRESSED = re.compile(rf"{WORD_SEPARATOR}?({'|'.join(_VOWELS.split())})[012]", re.IGNORECASE)
"""A vowel with its stress, as the CMU dictionary has it."""
IPA = re.compile(r"[\u0250-\u02af\u02d0]")
"""Letters that hardly any spelling has."""


class Spelling:
    """A student's way to write, and how to get there from another."""

    def __init__(self, vocabulary: Vocabulary, units: Units) -> None:
        self.units = units
        self.symbols = set(vocabulary.symbols) - {BLANK}
        self.phones = are_phones(vocabulary, units)
        """Whether it writes sounds."""
        self.alphabet = {character for symbol in self.symbols for character in symbol}
        """Characters that its tokens are made of."""
        self.separates = WORD_SEPARATOR in self.alphabet
        """Whether it writes the space between words."""

    @staticmethod
    def is_special(symbol: str) -> bool:
        """Whether no text holds this token."""
        return SPECIAL.fullmatch(symbol.strip(WORD_SEPARATOR)) is not None

    def token(self, symbol: str) -> str | None:
        """Return how the student writes another's token: empty for what is not said, None for what it cannot write."""
        if symbol in self.symbols:
            return symbol
        bare = symbol.strip(WORD_SEPARATOR)
        if SILENCE.fullmatch(bare) or (self.phones and bare.upper() in SILENT_PHONES):
            return ""
        if self.is_special(symbol):
            return None
        if self.units == "words":
            whole = next((form for form in forms(symbol) if form in self.symbols), None)
            if whole is not None:
                return whole
            if STRESSED.fullmatch(symbol):
                return self.token(symbol[:-1])
        return self._spelled(symbol)

    def text(self, text: str) -> str | None:
        """Return how the student writes a text, words apart by single blanks; None if it cannot."""
        words = []
        for word in unicodedata.normalize("NFC", text).split():
            written = self.token(WORD_SEPARATOR + word) if self.units == "words" else self._spelled(word)
            if written is None:
                return None
            words.append(written)
        return " ".join((" " if self.separates else "").join(words).replace(WORD_SEPARATOR, " ").split())

    def character(self, character: str) -> str | None:
        """Return how the student writes one character; see ``token``."""
        for form in forms(character):
            if form and self.alphabet.issuperset(form):
                return form
        if character in SPACES or _separates_words(character):
            return WORD_SEPARATOR if self.separates else ""
        return "" if _is_silent(character) else None

    def _spelled(self, word: str) -> str | None:
        written = [self.character(character) for character in word]
        return None if None in written else "".join(filter(None, written))


def forms(text: str) -> Iterator[str]:
    """Ways to write the same: as it is, compatibility forms composed and taken apart, without accents; in each case."""
    plain = unicodedata.normalize("NFKC", text.translate(APOSTROPHES))
    apart = unicodedata.normalize("NFKD", plain)
    bare = "".join(character for character in apart if not unicodedata.combining(character))
    for form in (text, plain, apart, bare):
        yield from (form, form.lower(), form.upper(), form.casefold())


def are_phones(vocabulary: Vocabulary, units: Units) -> bool:
    """Whether tokens are sounds, not spelling: phones of ARPAbet, or a fifth and more written with letters of the IPA.

    Nothing else tells: a text of phones is a text of words.
    """
    symbols = [symbol for symbol in vocabulary.symbols if symbol != BLANK and not Spelling.is_special(symbol)]
    sounds = [symbol.strip(WORD_SEPARATOR) for symbol in symbols]
    arpabet = sum(sound.rstrip("012").upper() in ARPABET for sound in sounds)
    ipa = sum(IPA.search(sound) is not None for sound in sounds)
    return (units == "words" and arpabet >= 0.9 * len(sounds) > 0) or ipa >= 0.2 * len(sounds) > 0


def _separates_words(character: str) -> bool:
    return unicodedata.category(character) == "Pd" or character == "/"


def _is_silent(character: str) -> bool:
    """Punctuation, and marks that stand alone; signs for currencies and sums are said."""
    category = unicodedata.category(character)
    return character not in SAID and (category[0] in "PMZC" or category == "Sk")
