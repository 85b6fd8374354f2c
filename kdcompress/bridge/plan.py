"""Which way leads from a teacher's tokens to the student's, worked out from both vocabularies; or why none does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from kdcompress.bridge.characters import spelled_characters
from kdcompress.bridge.sentences import added_sentence, characters_sentence, dropped_sentences, named, texts_sentence
from kdcompress.bridge.spelling import Spelling, are_phones
from kdcompress.bridge.texts import Texts
from kdcompress.bridge.tokens import fates, token_map
from kdcompress.data.text import Encoder
from kdcompress.errors import MismatchError
from kdcompress_runtime.vocabulary import BLANK, WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Collection

    from kdcompress.bridge.bridge import StudentSide
    from kdcompress.bridge.characters import Characters
    from kdcompress.bridge.tokens import Fates, TokenMap
    from kdcompress.teachers.teacher import TeacherInfo

Way = Literal["same", "reordered", "added", "characters", "texts"]
"""The same tokens; in another order; added up where they fold into one; characters of subwords; texts alone."""


@dataclass(frozen=True)
class TokenPlan:
    """How answers over a teacher's tokens become answers over the student's."""

    way: Way
    sentences: tuple[str, ...] = ()
    """What is done, for reports."""
    same_labels: bool = False
    """Whether both sides encode a reference in as many labels, which mean the same."""
    columns: TokenMap | None = None
    """For ``reordered`` and ``added``."""
    characters: Characters | None = None
    """For ``characters``."""
    texts: Texts | None = None
    """How a text is written; none where the tokens are the same."""


def plan_tokens(
    student: StudentSide, teacher: TeacherInfo, needed: Collection[str], texts_will_do: bool = False
) -> TokenPlan:
    """Choose a way; arguments as for ``build_bridge``.

    Raises:
        MismatchError: there is none.
    """
    mine, its = student.vocabulary, teacher.vocabulary
    if mine.symbols == its.symbols:
        return TokenPlan("same", same_labels=student.units == teacher.units)
    _check_sounds(student, teacher)
    spelling = Spelling(mine, student.units)
    found = fates(its, spelling)
    if set(mine.symbols) == set(its.symbols):
        columns = token_map(its, mine, found)
        return TokenPlan("reordered", ("the same tokens in another order",), _same_labels(student, teacher), columns)
    _check_needed(student, teacher, found, needed)
    special = torch.tensor([symbol in found.special for symbol in its.symbols])
    texts = Texts(its, spelling, Encoder(mine, student.units), special)
    if _adds(student, teacher, spelling, found):
        sentences = (added_sentence(found), *dropped_sentences(found, [*found.lacking, *found.spelled]))
        return TokenPlan("added", sentences, columns=token_map(its, mine, found), texts=texts)
    if student.units == "characters" and teacher.units == "subwords" and not texts_will_do:
        characters = spelled_characters(its, mine, found)
        sentences = (characters_sentence(found), *dropped_sentences(found, found.lacking))
        return TokenPlan("characters", sentences, characters=characters, texts=texts)
    return TokenPlan(
        "texts", (texts_sentence(student.units, teacher.units, searched="log_probs" in teacher.gives),), texts=texts
    )


def _same_labels(student: StudentSide, teacher: TeacherInfo) -> bool:
    """Of vocabularies of the same symbols; which subwords a word becomes depends on their order."""
    bare = [[symbol for symbol in side.vocabulary.symbols if symbol != BLANK] for side in (student, teacher)]
    return student.units == teacher.units and (student.units != "subwords" or bare[0] == bare[1])


def _adds(student: StudentSide, teacher: TeacherInfo, spelling: Spelling, found: Fates) -> bool:
    """Whether token becomes token. Subwords must all have their counterpart: else both sides cut words differently."""
    if student.units != teacher.units:
        return False
    whole = not found.spelled and not found.lacking and set(found.shared.values()) == spelling.symbols
    return student.units != "subwords" or whole


def _check_sounds(student: StudentSide, teacher: TeacherInfo) -> None:
    mine, its = (are_phones(side.vocabulary, side.units) for side in (student, teacher))
    if mine != its:
        sides = ("phones", "letters") if its else ("letters", "phones")
        remedy = "in phones, a word each, and set data.units to words" if its else "in letters"
        raise MismatchError(
            f"{teacher.source}: its tokens are {sides[0]}, the student's {sides[1]}, and nothing turns one into the "
            f"other; take a teacher of {sides[1]}, or give the texts {remedy}"
        )


def _check_needed(student: StudentSide, teacher: TeacherInfo, found: Fates, needed: Collection[str]) -> None:
    """Whether the teacher can write the training texts.

    Raises:
        MismatchError: it cannot; the message names the symbols.
    """
    can, wanted = set(found.shared.values()), set(needed)
    if student.units != teacher.units or student.units == "subwords":
        can = {character for text in (*found.shared.values(), *found.spelled.values()) for character in text}
        wanted = {character for symbol in needed for character in symbol}
    missing = sorted(wanted - can)
    if not missing:
        return
    spaces = (
        f" ({WORD_SEPARATOR} is the space between words, which it does not write)" if WORD_SEPARATOR in missing else ""
    )
    raise MismatchError(
        f"{teacher.source}: has no token for {named(missing)}{spaces}, and the training texts hold it; normalise the "
        "texts so that they do without, or take a teacher that writes it"
    )
