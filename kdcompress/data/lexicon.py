"""Texts made alike, and words turned into phones through a pronunciation lexicon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.errors import VocabularyError
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

APOSTROPHES = str.maketrans("‘’ʼ`", "''''")
PUNCTUATION = re.compile(r"[.,;:!?\"“”„«»()\[\]{}…¿¡/\\|_–—-]")
"""What is only written and not said; it separates words."""
OTHER = re.compile(r"[^a-z' ]")
VARIANT = re.compile(r"\(\d+\)$")
"""How the CMU dictionary marks a further pronunciation: ``READ(2)``."""


def normalised(text: str) -> str:
    """Lower-case a-z and apostrophes, single blanks; punctuation separates words.

    An apostrophe that touches no letter goes. Nothing that is said is dropped: a digit, ``&`` or ``é`` is an error.

    Raises:
        VocabularyError: a character is none of these, or no word is left.
    """
    spaced = PUNCTUATION.sub(" ", text.lower().translate(APOSTROPHES))
    words = " ".join(word for word in spaced.split() if word.strip("'"))
    if other := OTHER.search(words):
        raise VocabularyError(
            f"{other[0]!r} in {text!r} is not a letter a to z, an apostrophe or punctuation; write it out as words"
        )
    if not words:
        raise VocabularyError(f"{text!r} holds no word; write it, or remove the item")
    return words


@dataclass(frozen=True)
class Lexicon:
    """How words are said."""

    path: Path
    """Where it was read, for messages."""
    pronunciations: Mapping[str, str]
    """Phones with single blanks by lower-case word; the first pronunciation of each."""

    def phones(self, text: str) -> str:
        """Phones of a normalised text, with single blanks; nothing marks where a word ends.

        Raises:
            VocabularyError: a word is not in the lexicon.
        """
        missing = sorted({word for word in text.split() if word not in self.pronunciations})
        if missing:
            raise VocabularyError(f"no pronunciation of {', '.join(map(repr, missing))} in {self.path}; add it there")
        return " ".join(self.pronunciations[word] for word in text.split())


def read_lexicon(path: Path) -> Lexicon:
    """Read lines ``WORD PHONE PHONE ...`` as the CMU dictionary has them; stress (``AH0``) is removed.

    Raises:
        ManifestError: the file is missing or empty, or a line has no phones.
    """
    if not path.is_file():
        raise ManifestError(f"lexicon not found: {path}; phones need one, with lines such as `CAT K AE1 T`")
    pronunciations: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if not phones:
            raise ManifestError(f"{path}, line {number}: {word!r} has no phones; mend or remove the line")
        said = " ".join(phone.rstrip("0123456789") for phone in phones)
        pronunciations.setdefault(VARIANT.sub("", word).lower(), said)
    if not pronunciations:
        raise ManifestError(f"lexicon is empty: {path}; it needs lines such as `CAT K AE1 T`")
    return Lexicon(path, pronunciations)
