"""Words into subwords by a table of merges alone: symbols of several characters in the order they were merged."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def split_word(word: str, ids: Mapping[str, int]) -> list[str]:
    """Symbols of one word, which begins with ``▁``: of neighbours that make a symbol, the lowest id first, to the end.

    Characters that are no symbols stay as they are; the caller finds them missing.
    """
    parts = list(word)
    while True:
        joined = (left + right for left, right in itertools.pairwise(parts))
        found = [(ids[symbol], place) for place, symbol in enumerate(joined) if symbol in ids]
        if not found:
            return parts
        place = min(found)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
