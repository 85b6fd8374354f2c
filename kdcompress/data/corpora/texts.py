"""What becomes of the corpus's texts; the rule is chosen once for all items."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Literal

from kdcompress.data.lexicon import normalised

if TYPE_CHECKING:
    from collections.abc import Callable

TextRule = Literal["keep", "lower", "normalised"]


def kept(text: str) -> str:
    """The text as it is; line breaks and repeated blanks become one blank."""
    return " ".join(text.split())


def lowered(text: str) -> str:
    """As ``kept``, in small letters; letters and their accents as one character (Unicode NFC)."""
    return kept(unicodedata.normalize("NFC", text.lower()))


def spoken(text: str) -> str:
    """As ``kdcompress.data.lexicon.normalised``; an empty text stays empty, and the report counts it.

    Raises:
        VocabularyError: something is neither a letter a to z, an apostrophe nor punctuation, or no word is left.
    """
    return normalised(text) if text.strip() else ""


TEXT_RULES: dict[str, Callable[[str], str]] = {"keep": kept, "lower": lowered, "normalised": spoken}
