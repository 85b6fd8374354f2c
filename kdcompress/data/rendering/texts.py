"""Where the texts of rendered lines come from: a file, or generators of what stands on printed paper."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from kdcompress.data.rendering.phrases import PHRASES, phrase
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

TRIES = 200


class Texts(Protocol):
    """A source of texts."""

    def draw(self, rng: np.random.Generator) -> str:
        """Draw a text, with no blank at its ends."""

    def fingerprint(self) -> str:
        """Say in a line what the texts follow from."""


class BuiltInTexts:
    """Words, names, numbers, prices, dates, codes, addresses, e-mails; upper, lower and title case."""

    def draw(self, rng: np.random.Generator) -> str:
        """See ``Texts.draw``."""
        return phrase(rng)

    def fingerprint(self) -> str:
        """See ``Texts.fingerprint``."""
        return f"built in, {len(PHRASES)} kinds"


class FileTexts:
    """Lines of a text file, in UTF-8; from long ones a run of words is drawn.

    Raises:
        OptionsError: the file is missing, no text, or empty.
    """

    def __init__(self, path: Path, longest: int) -> None:
        try:
            content = path.read_bytes()
            lines = content.decode("utf-8-sig").splitlines()
        except FileNotFoundError as error:
            raise OptionsError(f"no such file of texts: {path}; check --texts") from error
        except UnicodeDecodeError as error:
            raise OptionsError(f"{path}: no UTF-8 text (byte {error.start}); convert it") from error
        self._lines = [words for line in lines if (words := line.split())]
        if not self._lines:
            raise OptionsError(f"{path}: holds no text; write one text a line")
        self._longest = longest
        self._fingerprint = hashlib.sha256(content).hexdigest()

    def draw(self, rng: np.random.Generator) -> str:
        """See ``Texts.draw``."""
        words = self._lines[int(rng.integers(len(self._lines)))]
        text = " ".join(words)
        if len(text) <= self._longest:
            return text
        return _cut(" ".join(words[int(rng.integers(len(words))) :]), self._longest)

    def fingerprint(self) -> str:
        """See ``Texts.fingerprint``."""
        return self._fingerprint


class ChosenTexts:
    """Texts of a source, in capitals where asked, cut to a length and to the characters of a set.

    Args:
        source: where they come from.
        charset: characters that may stand, besides the blank; texts with others are drawn again. All when left out.
        longest: characters of the longest.
        upper: all in capitals.
    """

    def __init__(self, source: Texts, charset: str | None, longest: int, *, upper: bool) -> None:
        self._source, self._longest, self._upper = source, longest, upper
        self._charset = None if charset is None else frozenset(charset + " ")

    def draw(self, rng: np.random.Generator, shows: Callable[[str], bool] = bool) -> str:
        """Draw a text that ``shows`` agrees to.

        Raises:
            OptionsError: there is none, or nearly none.
        """
        text, others = "", ""
        for _ in range(TRIES):
            text = self._source.draw(rng)
            text = _cut(text.upper() if self._upper else text, self._longest)
            others = "" if self._charset is None else "".join(sorted(set(text) - self._charset))
            if text and not others and shows(text):
                return text
        remedy = f"the last one has {others!r}" if others else f"no font has all of {text!r}"
        raise OptionsError(
            f"of {TRIES} texts none can be drawn: {remedy}; name other characters with --charset, texts with "
            "--texts or fonts with --fonts"
        )

    def fingerprint(self) -> str:
        """See ``Texts.fingerprint``."""
        return self._source.fingerprint()


def _cut(text: str, longest: int) -> str:
    """Take as many whole words from the start as fit, or a part of the first."""
    if len(text) <= longest:
        return text.strip()
    whole = text[: longest + 1].rpartition(" ")[0]
    return (whole or text[:longest]).strip()
