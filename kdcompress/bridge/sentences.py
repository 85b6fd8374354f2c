"""What a report says of tokens that were bridged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.bridge.texts import SIZE
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from kdcompress.bridge.tokens import Fates
    from kdcompress.data.text import Units

NAMED = 12
"""Tokens that a sentence names; the others are counted."""


def named(tokens: Collection[str]) -> str:
    """Name tokens, in quotes, the first few of many."""
    words = ", ".join(map(repr, list(tokens)[:NAMED]))
    return words if len(tokens) <= NAMED else f"{words} and {len(tokens) - NAMED} more"


def added_sentence(found: Fates) -> str:
    """Say how many tokens are one of the student's, blank not counted."""
    return f"{len(found.shared)} of {_count(found)} tokens besides blank are shared{_folding(found.shared)}"


def characters_sentence(found: Fates) -> str:
    """Say how subwords become characters."""
    spelled = found.shared | found.spelled
    return (
        f"{len(spelled)} of {_count(found)} subwords are spelled in the student's characters{_folding(spelled)}: these "
        "stand around the spike of their subword, and its alternatives share their places"
    )


def texts_sentence(student: Units, teacher: Units, *, searched: bool) -> str:
    """Say that texts alone are left; ``searched`` for those of a search here, or else its own."""
    units = f"other {teacher} than the student's" if student == teacher else f"{teacher}, and the student's {student}"
    if not searched:
        return f"its texts are in {units}: they are written in the student's tokens"
    return f"its tokens are {units}: the {SIZE} best texts of its search are learned from, and no frames"


def dropped_sentences(found: Fates, lacking: Collection[str]) -> tuple[str, ...]:
    """Say what is dropped, and what becomes blank; ``lacking`` are tokens of texts that find no place."""
    sentences = []
    if found.special:
        sentences.append(f"dropped, and its share given to the others: {named(found.special)}")
    if lacking:
        sentences.append(f"not written by the student, and dropped in the same way: {named(lacking)}")
    if WORD_SEPARATOR in found.silent:
        sentences.append("the student writes no space between words: it becomes blank")
    if silent := [token for token in found.silent if token != WORD_SEPARATOR]:
        sentences.append(f"not said, and becomes blank: {named(silent)}")
    return tuple(sentences)


def _count(found: Fates) -> int:
    return sum(map(len, found))


def _folding(written: Mapping[str, str]) -> str:
    """What was done to tokens that are written differently."""
    changed = {token: text for token, text in written.items() if token != text}
    if not changed:
        return ""
    if all(token.lower() == text for token, text in changed.items()):
        return " after lower-casing"
    if all(token.upper() == text for token, text in changed.items()):
        return " after upper-casing"
    return " after folding case, accents and signs"
