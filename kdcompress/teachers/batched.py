"""Teachers that can hear a batch at once, and whether this one may: an item's answer must be that of the item alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from kdcompress.errors import TeacherError
from kdcompress.teachers.foreign import ForeignTeacher, rehearsal, side_by_side, unpadded
from kdcompress.teachers.teacher import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_TRIED_SECONDS = (1.007, 0.713, 0.431)
_TOGETHER_ATOL = 5e-4
"""Largest difference of a log-probability between an item alone and beside longer ones: rounding, no more."""


class BatchedTeacher(ForeignTeacher):
    """Hears a batch at once, or, if it was seen to hear padding, items of different lengths one by one."""

    together = True
    """Whether items of different lengths are given to the model in one call."""

    @abstractmethod
    def run(self, items: Sequence[Tensor]) -> Said:
        """Answer for items ``(n_i, ...)`` in one call of the model, padded as it likes them.

        Raises:
            TeacherError: the model fails, or its answer is no distribution over its tokens.
        """

    @torch.no_grad()
    def hear(self, inputs: Tensor, input_lens: Tensor) -> Said:
        """See ``ForeignTeacher.hear``."""
        items = unpadded(inputs, input_lens, self.info.sample_rate)
        if self.together or len({len(item) for item in items}) == 1:
            return self.run(items)
        return _joined([self.run([item]) for item in items])

    @torch.no_grad()
    def rehearse(self, sample_rate: int, frame: Fraction, source: object) -> list[Said]:
        """Try noise of different lengths alone and together; what comes out alone is returned, ``together`` is set.

        Raises:
            TeacherError: the model fails, or answers frames of another duration.
        """
        items = rehearsal(sample_rate, _TRIED_SECONDS)
        alone = [self.run([item]) for item in items]
        counts = [int(said.frame_lens) for said in alone]
        heard = Fraction(len(items[0]) - len(items[-1]), sample_rate)
        if abs((counts[0] - counts[-1]) * frame - heard) > 2 * frame:
            raise TeacherError(
                f"{source}: {counts} frames for {[len(item) for item in items]} samples do not fit frames of "
                f"{float(1000 * frame):g} ms; correct the duration of a frame, or its lengths"
            )
        both = self.run(items)
        pairs = zip(_rows(both), (row for said in alone for row in _rows(said)), strict=True)
        self.together = all(_close(left, right) for left, right in pairs)
        return alone


def _rows(said: Said) -> list[Tensor]:
    """Valid log-probabilities of each item."""
    if said.log_probs is None:
        return []
    return [rows[:count] for rows, count in zip(said.log_probs, said.frame_lens.tolist(), strict=True)]


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool(((left - right).abs() <= _TOGETHER_ATOL).all())


def _joined(alone: Sequence[Said]) -> Said:
    """Answers of one item each, side by side."""
    logs = [said.log_probs[0] for said in alone if said.log_probs is not None]
    blocks = zip(*(said.hidden for said in alone), strict=True)
    return Said(
        torch.cat([said.frame_lens for said in alone]),
        side_by_side(logs, -math.log(logs[0].shape[1])) if logs else None,
        tuple(side_by_side([block[0] for block in parts]) for parts in blocks),
    )
