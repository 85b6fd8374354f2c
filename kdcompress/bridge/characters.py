"""Character marginals of a subword teacher: a distribution over characters in the student's frames.

The teacher's best path says which tokens there are and when. A token's characters stand around its spike, one frame
each, blank between them; what each of them could have been is what the teacher thought the token could have been: the
posterior over the token's run of frames, given that it is no blank, summed over all tokens by their i-th letter. Tokens
are aligned at their beginning, the space before a word apart: "▁he" and "her" share their first letter. An alternative
that is too short says blank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcompress.bridge.placing import Sequences, place, single_spaced, without_excess
from kdcompress.layers import frame_mask
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.bridge.tokens import Fates
    from kdcompress_runtime.vocabulary import Vocabulary


class Runs(NamedTuple):
    """Tokens of the best paths of a batch, in order."""

    item: Tensor
    """``(R,)`` int64."""
    token: Tensor
    """In the teacher's tokens; one of those that are spelled alike, ``(R,)`` int64."""
    spike: Tensor
    """Frame of the teacher where it is likeliest, ``(R,)`` int64."""
    confidence: Tensor
    """Its probability there, ``(R,)`` float32."""
    pooled: Tensor
    """What the token could have been, ``(R, V')`` float32; rows sum to one."""


@dataclass(frozen=True)
class Characters:
    """The spelling of every token of a teacher, in the student's characters."""

    slots: Tensor
    """``(V', S)`` int64: the space before a word, then letters; -1 where there is none."""
    alike: Tensor
    """For each token the first one that is spelled alike, ``(V',)`` int64; the blank for those that are not said."""
    dropped: Tensor
    """Tokens that the student cannot write, ``(V',)`` bool."""
    blank_id: int
    """The teacher's blank."""
    student_blank: int
    """The student's blank."""
    separator: int
    """The student's space between words, or -1."""
    size: int
    """Tokens of the student, blank included."""

    def __call__(
        self, log_probs: Tensor, said_lens: Tensor, frame_lens: Tensor, where: Tensor
    ) -> tuple[Tensor, int, int]:
        """Bring a batch over.

        Args:
            log_probs: the teacher's, ``(N, T', V')``.
            said_lens: its valid frames, ``(N,)`` int64.
            frame_lens: the student's, ``(N,)`` int64.
            where: middle of each of the teacher's frames, in the student's frames, ``(N, T')`` float64.

        Returns:
            Probabilities ``(N, T, V)`` float32 that sum to one; characters that were placed, and those of them that
            were left out because an item has too few frames for its characters.
        """
        runs = self._runs(log_probs, said_lens)
        sequences = single_spaced(self._spelled(runs, where), self.separator)
        kept = without_excess(sequences, runs.confidence, frame_lens, self.separator)
        found = log_probs.new_zeros((len(frame_lens), int(frame_lens.max()), self.size), dtype=torch.float32)
        found[..., self.student_blank] = 1
        if len(kept.item):
            frame = place(kept, frame_lens)
            found[kept.item, frame] = self._marginals(runs.pooled, kept)
        return found, len(sequences.item), len(sequences.item) - len(kept.item)

    def _runs(self, log_probs: Tensor, said_lens: Tensor) -> Runs:
        """Find the tokens of the best paths, as if those that the student cannot write were not there."""
        scores, dropped = log_probs.float(), self.dropped.to(log_probs.device)
        if bool(dropped.any()):
            scores = scores.masked_fill(dropped, -torch.inf)
        valid = frame_mask(said_lens, scores.shape[1])
        best = self.alike.to(scores.device)[scores.argmax(dim=2)].where(valid, self.blank_id)
        spoken = best != self.blank_id
        begins = spoken.clone()
        begins[:, 1:] &= best[:, 1:] != best[:, :-1]
        item, frame = spoken.nonzero(as_tuple=True)
        run = begins[spoken].cumsum(0) - 1
        count = int(begins.sum())
        silent = self.alike.to(scores.device) == self.blank_id
        heard = scores[spoken].exp().masked_fill(silent, 0)
        pooled = heard.new_zeros((count, heard.shape[1])).index_add_(0, run, heard)
        sure = heard.amax(dim=1)
        peak = sure.new_zeros(count).scatter_reduce_(0, run, sure, "amax")
        late = torch.full((count,), scores.shape[1], device=run.device)
        spike = late.scatter_reduce_(0, run, frame.where(sure == peak[run], scores.shape[1]), "amin")
        first = begins[spoken]
        pooled = pooled / pooled.sum(dim=1, keepdim=True).clamp(min=1e-30)
        return Runs(item[first], best[spoken][first], spike, peak, pooled)

    def _spelled(self, runs: Runs, where: Tensor) -> Sequences:
        """Spell the best paths."""
        slots = self.slots.to(runs.token.device)[runs.token]
        run, slot = (slots >= 0).nonzero(as_tuple=True)
        spike = where[runs.item, runs.spike]
        return Sequences(runs.item[run], slots[run, slot], run, slot, spike, runs.item)

    def _marginals(self, pooled: Tensor, kept: Sequences) -> Tensor:
        """Distribution over the student's tokens of each character that was placed, ``(M, V)``."""
        slots = self.slots.to(pooled.device)
        found = pooled.new_zeros((len(kept.run), self.size))
        for slot in range(slots.shape[1]):
            mine = (kept.slot == slot).nonzero()[:, 0]
            # tokens that are too short say blank
            column = slots[:, slot].where(slots[:, slot] >= 0, self.student_blank)
            found[mine] = pooled.new_zeros((len(mine), self.size)).index_add_(1, column, pooled[kept.run[mine]])
        return found


def spelled_characters(teacher: Vocabulary, student: Vocabulary, found: Fates) -> Characters:
    """Tabulate how the tokens of a teacher are spelled in a student's characters."""
    ids = {symbol: index for index, symbol in enumerate(student.symbols)}
    spelled = found.shared | found.spelled
    texts = [spelled.get(symbol, "") for symbol in teacher.symbols]
    rows = [_slots(text, ids) for text in texts]
    slots = torch.full((len(rows), max(map(len, rows))), -1)
    for row, slot in zip(slots, rows, strict=True):
        row[: len(slot)] = torch.tensor(slot, dtype=torch.int64)
    first = {"": teacher.blank_id}
    dropped = {*found.special, *found.lacking}
    return Characters(
        slots=slots,
        alike=torch.tensor([first.setdefault(text, index) for index, text in enumerate(texts)]),
        dropped=torch.tensor([symbol in dropped for symbol in teacher.symbols]),
        blank_id=teacher.blank_id,
        student_blank=student.blank_id,
        separator=ids.get(WORD_SEPARATOR, -1),
        size=len(student),
    )


def _slots(text: str, ids: dict[str, int]) -> list[int]:
    """The space before a word first, or -1, then letters."""
    space = text.startswith(WORD_SEPARATOR)
    return [ids[WORD_SEPARATOR] if space else -1, *(ids[letter] for letter in text[space:])]
