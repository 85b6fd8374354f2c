"""Source sentences, to what a translation model reads: ids of subwords from a table in the bundle.

The table is all there is: characters and their merges in order, ``▁`` at the beginning of a word, as for the tokens of
an output (byte-pair encoding, Sennrich et al., arXiv 1508.07909). Id 0 is a hidden or missing token, id 1 an unknown
character. No other package is needed.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.errors import BundleError, SourceTextError
from kdcompress_runtime.subwords import split_word
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HIDDEN, UNKNOWN = "<mask>", "<unk>"
"""The first two symbols of a table."""
MAX_TOKENS = 1000
"""Of one text: far longer than any sentence, and short enough for memory that grows with the square."""
MAX_CHARACTERS = 10 * MAX_TOKENS
"""Of one text: what is longer is not even split, which takes time that grows with the square of a word."""


class SourceTable:
    """Symbols of a source language by id; ``encode`` turns text into ids."""

    def __init__(self, symbols: Sequence[str], source: str = "source_tokens.txt") -> None:
        """Take a table.

        Raises:
            BundleError: it does not begin with ``<mask>`` and ``<unk>``, or a symbol is there twice.
        """
        self.symbols = tuple(symbols)
        if self.symbols[:2] != (HIDDEN, UNKNOWN):
            raise BundleError(f"{source}: a table of source tokens begins with {HIDDEN} and {UNKNOWN}; export again")
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(self._ids) != len(self.symbols):
            raise BundleError(f"{source}: a symbol is there twice; export again")

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, where: str = "") -> NDArray[np.int64]:
        """Ids of a text, ``(tokens,)`` int64; Unicode is composed (NFC) first. ``where`` names it in messages.

        Raises:
            SourceTextError: no text, empty, or longer than ``MAX_TOKENS`` tokens or ``MAX_CHARACTERS`` characters.
        """
        named = f"{where}: " if where else ""
        if not isinstance(text, str):
            raise SourceTextError(f"{named}a source is a text, found {type(text).__name__}")
        if len(text) > MAX_CHARACTERS:
            raise SourceTextError(
                f"{named}{len(text)} characters are no sentence (at most {MAX_CHARACTERS}); cut the text up"
            )
        words = unicodedata.normalize("NFC", text).split()
        if not words:
            raise SourceTextError(f"{named}the source is empty; leave it out")
        if (longest := max(map(len, words))) > MAX_TOKENS:  # the time that merging takes grows with its square
            raise SourceTextError(f"{named}a word of {longest} characters is no word; leave the text out")
        unknown = self._ids[UNKNOWN]
        ids = [self._ids.get(part, unknown) for word in words for part in split_word(WORD_SEPARATOR + word, self._ids)]
        if len(ids) > MAX_TOKENS:
            raise SourceTextError(f"{named}{len(ids)} tokens are no sentence (at most {MAX_TOKENS}); cut the text up")
        return np.array(ids, dtype=np.int64)

    def dumps(self) -> str:
        """Return the table as a file: ``symbol id`` a line."""
        return "".join(f"{symbol} {index}\n" for index, symbol in enumerate(self.symbols))

    @classmethod
    def loads(cls, content: str, source: str = "source_tokens.txt") -> SourceTable:
        """Parse what ``dumps`` wrote.

        Raises:
            BundleError: a line is not ``symbol id`` with the ids in order; or see ``SourceTable``.
        """
        symbols = []
        for number, line in enumerate(content.splitlines()):
            symbol, _, index = line.rpartition(" ")
            if not symbol or index != str(number):
                raise BundleError(
                    f"{source}, line {number + 1}: expected 'symbol {number}', found {line!r}; export again"
                )
            symbols.append(symbol)
        return cls(symbols, source)
