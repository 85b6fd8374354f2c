"""A teacher's tokens added up in the student's, where single tokens of both sides mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcompress_runtime.vocabulary import BLANK

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.bridge.spelling import Spelling
    from kdcompress_runtime.vocabulary import Vocabulary

NOTHING = 1e-30
"""A frame of which less is left after dropping tokens is blank."""


@dataclass(frozen=True)
class TokenMap:
    """Which token of the student each of the teacher's becomes."""

    columns: Tensor
    """By the teacher's tokens, ``(V',)`` int64; -1 for those that are dropped."""
    size: int
    """Tokens of the student, blank included."""
    blank_id: int
    """The student's blank."""

    @property
    def drops(self) -> bool:
        """Whether any token is dropped, so that the others must share what it had."""
        return bool((self.columns < 0).any())

    @property
    def reorders(self) -> bool:
        """Whether every token becomes another one, and all of the student's are reached."""
        return self.columns.sort().values.tolist() == list(range(self.size))

    def reordered(self, values: Tensor) -> Tensor:
        """Put the columns of ``(N, T, V)`` in the student's order, for a map that reorders."""
        order = self.columns.argsort().to(values.device)
        return values.gather(2, order.expand(*values.shape[:2], -1))

    def added(self, probabilities: Tensor) -> Tensor:
        """Add up ``(N, T, V')`` in the student's tokens: ``(N, T, V)``; rows sum to one if they did before."""
        rows = probabilities.flatten(0, 1)
        # one column more takes what is dropped
        columns = self.columns.where(self.columns >= 0, self.size).to(rows.device)
        found = rows.new_zeros((len(rows), self.size + 1)).index_add_(1, columns, rows)[:, : self.size]
        if self.drops:
            total = found.sum(dim=1, keepdim=True)
            found = found / total.clamp(min=NOTHING)
            found[:, self.blank_id] += (total[:, 0] < NOTHING).to(found.dtype)
        return found.view(*probabilities.shape[:2], self.size)


class Fates(NamedTuple):
    """Tokens of a teacher besides blank, by what the student can do with them."""

    shared: dict[str, str]
    """Those that are one token of the student, and which."""
    spelled: dict[str, str]
    """Those that take several tokens of the student, or one that it does not have, and how they are written."""
    silent: tuple[str, ...]
    """Not said, or not written by the student."""
    special: tuple[str, ...]
    """Of no text."""
    lacking: tuple[str, ...]
    """Said, but in letters that the student does not have."""


def fates(teacher: Vocabulary, spelling: Spelling) -> Fates:
    """Sort a teacher's tokens."""
    found = Fates({}, {}, (), (), ())
    silent: list[str] = []
    special: list[str] = []
    lacking: list[str] = []
    for index, token in enumerate(teacher.symbols):
        if index == teacher.blank_id:
            continue
        written = spelling.token(token)
        if written is None:
            (special if spelling.is_special(token) else lacking).append(token)
        elif not written:
            silent.append(token)
        else:
            (found.shared if written in spelling.symbols else found.spelled)[token] = written
    return found._replace(silent=tuple(silent), special=tuple(special), lacking=tuple(lacking))


def token_map(teacher: Vocabulary, student: Vocabulary, found: Fates) -> TokenMap:
    """Build the map: what is shared becomes its token, what is silent becomes blank, and the rest is dropped."""
    ids = {symbol: index for index, symbol in enumerate(student.symbols)}
    columns = {token: ids[symbol] for token, symbol in found.shared.items()}
    columns |= dict.fromkeys((*found.silent, BLANK), student.blank_id)
    return TokenMap(
        torch.tensor([columns.get(symbol, -1) for symbol in teacher.symbols]), len(student), student.blank_id
    )
