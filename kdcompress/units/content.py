"""What inventories share: reading ``units.json`` with care, and saying what a text holds that no unit writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress.errors import VocabularyError
from kdcompress_runtime.vocabulary import BLANK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kdcompress_runtime.vocabulary import Vocabulary

NAMED = 5
"""So many of what is missing are named; the rest is counted."""


def checked_symbols(content: dict[str, Any], kind: str, source: str) -> tuple[str, ...]:
    """``symbols`` of a unit set of that ``kind``.

    Raises:
        VocabularyError: it is of another kind, or the symbols are no list of different texts.
    """
    if content.get("kind") != kind:
        raise damaged(source, f"its kind is {content.get('kind')!r}, not {kind!r}")
    symbols = content.get("symbols")
    if not isinstance(symbols, list) or not symbols or not all(isinstance(s, str) and s for s in symbols):
        raise damaged(source, "its symbols are no list of texts")
    if len(set(symbols)) != len(symbols):
        twice = next(symbol for symbol in symbols if symbols.count(symbol) > 1)
        raise damaged(source, f"the symbol {twice!r} stands in it twice")
    return tuple(symbols)


def damaged(source: str, reason: str) -> VocabularyError:
    """Error of a unit set that cannot be read back."""
    return VocabularyError(f"{source} is damaged: {reason}; make it again")


def not_covered(missing: Iterable[str], where: str, what: str, remedy: str) -> VocabularyError:
    """Error of a text that the units do not cover; ``what`` is missing: characters, words."""
    return VocabularyError(
        f"{where}: the unit set does not cover the text: it lacks the {what} {named(missing)}; {remedy}"
    )


def named(missing: Iterable[str]) -> str:
    """The first five of the sorted, and how many more."""
    found = sorted(set(missing))
    rest = len(found) - NAMED
    return ", ".join(map(repr, found[:NAMED])) + (f" and {rest} more" if rest > 0 else "")


def without_blank(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Symbols of a student's tokens, in their order."""
    return tuple(symbol for symbol in vocabulary.symbols if symbol != BLANK)


def places(symbols: Sequence[str]) -> dict[str, int]:
    """Id by symbol."""
    return {symbol: index for index, symbol in enumerate(symbols)}
