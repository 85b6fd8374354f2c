"""The token table of a bundle: ``tokens.txt``, one ``symbol id`` a line, as sherpa-onnx reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BLANK = "<blk>"
WORD_SEPARATOR = "▁"


@dataclass(frozen=True)
class Vocabulary:
    """Symbols by id. ``▁`` stands for a blank between words, alone or as the first letter of a subword."""

    symbols: tuple[str, ...]
    """One symbol an id; ``symbols[blank_id]`` is ``<blk>``."""

    def __post_init__(self) -> None:
        if BLANK not in self.symbols:
            raise BundleError(f"the vocabulary has no {BLANK} symbol; add a line '{BLANK} 0' to tokens.txt")
        if len(set(self.symbols)) != len(self.symbols):
            twice = sorted({s for s in self.symbols if self.symbols.count(s) > 1})
            raise BundleError(f"the vocabulary holds {twice} twice; every symbol needs one id")

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def blank_id(self) -> int:
        """Id of the CTC blank."""
        return self.symbols.index(BLANK)

    def text(self, ids: Iterable[int]) -> str:
        """Join the symbols of ``ids`` (no blanks among them) into text with single spaces."""
        joined = "".join(self.symbols[i] for i in ids)
        return " ".join(joined.replace(WORD_SEPARATOR, " ").split())

    def dumps(self) -> str:
        """Return the content of ``tokens.txt``."""
        return "".join(f"{symbol} {index}\n" for index, symbol in enumerate(self.symbols))

    @classmethod
    def loads(cls, content: str, source: str = "tokens.txt") -> Vocabulary:
        """Parse the content of ``tokens.txt``.

        Raises:
            BundleError: a line is not ``symbol id``, or the ids are not 0 .. n-1 once each.
        """
        found: dict[int, str] = {}
        for number, line in enumerate(content.splitlines(), start=1):
            if not line.strip():
                continue
            symbol, _, index = line.rpartition(" ")
            if not symbol or not index.isdigit():
                raise BundleError(f"{source}, line {number}: expected 'symbol id', found {line!r}")
            if int(index) in found:
                raise BundleError(f"{source}, line {number}: id {index} appears a second time")
            found[int(index)] = symbol
        if sorted(found) != list(range(len(found))):
            raise BundleError(f"{source}: ids must run from 0 to {len(found) - 1} without a gap")
        return cls(tuple(found[i] for i in range(len(found))))

    @classmethod
    def from_symbols(cls, symbols: Sequence[str]) -> Vocabulary:
        """Build a vocabulary with the blank at id 0 and ``symbols`` after it."""
        return cls((BLANK, *symbols))
