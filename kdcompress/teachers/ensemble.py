"""How the answers of several teachers become one target.

Switching and multi-stream data after Fukuda et al., "Efficient Knowledge Distillation from an Ensemble of Teachers"
(Interspeech 2017) and US patents 11,610,108 and 11,741,355; both avoid tuning interpolation weights. CTC teachers do
not share spike times: train them with a guide first (``guided_ctc``), or compare pooled over tokens (``token_kl``).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from kdcompress.losses.base import TeacherSignals
from kdcompress.occupancy import label_occupancy, pooled_over_labels
from kdcompress.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Answer = Callable[[Tensor | None], TeacherSignals]
    """What one teacher says: of the whole batch, or of the items whose indices are given."""


@dataclass(frozen=True)
class Situation:
    """What a combination may depend on, besides the answers."""

    step: int
    """Updates done."""
    progress: float
    """Share of the updates done."""
    seed: int
    """Of the recipe."""
    dev_error: tuple[float | None, ...]
    """Word error rate of each teacher on held-out data in percent; None for one that has seen the answer."""
    streams: Tensor
    """Teacher of each item under ``multi_stream``, ``(N,)`` int64."""
    frame_lens: Tensor
    """Valid frames, ``(N,)`` int64."""
    labels: Tensor
    """Reference ids, ``(N, U)`` int64."""
    label_lens: Tensor
    """Valid labels, ``(N,)`` int64."""
    blank_id: int
    """Id of the blank."""


class Combination(Settings):
    """Settings of a way to combine, and the way itself when called."""

    kind: str
    """Selects the way; a subclass makes it a Literal."""

    @abstractmethod
    def check(self, teachers: int) -> None:
        """Raise ValueError where these settings do not fit that many teachers."""

    def check_errors(self, dev_error: tuple[float | None, ...]) -> None:
        """Raise ValueError where the way needs a word error rate that a teacher does not have."""

    @property
    def streams_per_item(self) -> bool:
        """Whether an epoch holds every item once for each teacher."""
        return False

    @property
    def frames_alone(self) -> bool:
        """Whether answers are combined frame by frame, so that each teacher must give posteriors."""
        return False

    @abstractmethod
    def __call__(self, answers: Sequence[Answer], situation: Situation) -> TeacherSignals:
        """Ask the teachers that are needed, and return one answer."""


class Single(Combination):
    """One teacher."""

    kind: Literal["single"] = "single"
    """Selects this."""

    def check(self, teachers: int) -> None:
        """See ``Combination.check``."""
        if teachers != 1:
            raise ValueError(f"combine.kind single is for one teacher, but there are {teachers}; choose another kind")

    def __call__(self, answers: Sequence[Answer], situation: Situation) -> TeacherSignals:  # noqa: ARG002
        """Its answer."""
        return answers[0](None)


class Switching(Combination):
    """One teacher a minibatch, never mixed inside it (C-1)."""

    kind: Literal["switching"] = "switching"
    """Selects this."""
    schedule: Literal["random", "round_robin", "accuracy"] = "random"
    """Drawn evenly; in the order of ``teachers``; or drawn more and more often the better the teacher is on dev."""
    sharpness: float = Field(default=4.0, gt=0)
    """For ``accuracy``: points of word error that make a teacher e times rarer at the end of the run."""

    def check(self, teachers: int) -> None:
        """See ``Combination.check``."""
        if teachers < 2:
            raise ValueError("combine.kind switching needs two teachers or more")

    def check_errors(self, dev_error: tuple[float | None, ...]) -> None:
        """See ``Combination.check_errors``."""
        if self.schedule == "accuracy" and None in dev_error:
            raise ValueError("schedule accuracy needs each teacher's error on dev; an Oracle Teacher has none")

    def __call__(self, answers: Sequence[Answer], situation: Situation) -> TeacherSignals:
        """Only the teacher whose turn it is is asked."""
        return answers[self.turn(len(answers), situation)](None)

    def turn(self, teachers: int, situation: Situation) -> int:
        """Index of the teacher of this step; a function of seed, step and settings alone."""
        if self.schedule == "round_robin":
            return situation.step % teachers
        rng = np.random.default_rng((situation.seed, situation.step, 3))
        if self.schedule == "random":
            return int(rng.integers(teachers))
        self.check_errors(situation.dev_error)
        errors = np.array(situation.dev_error, dtype=float)
        best = np.exp((errors.min() - errors) / self.sharpness)
        frequency = (1 - situation.progress) / teachers + situation.progress * best / best.sum()
        return int(rng.choice(teachers, p=frequency / frequency.sum()))


class MultiStream(Combination):
    """Every item once with each teacher's answer, as data, shuffled together (C-2)."""

    kind: Literal["multi_stream"] = "multi_stream"
    """Selects this."""

    @property
    def frames_alone(self) -> bool:
        """See ``Combination.frames_alone``."""
        return True

    def check(self, teachers: int) -> None:
        """See ``Combination.check``."""
        if teachers < 2:
            raise ValueError("combine.kind multi_stream needs two teachers or more")

    @property
    def streams_per_item(self) -> bool:
        """See ``Combination.streams_per_item``."""
        return True

    def __call__(self, answers: Sequence[Answer], situation: Situation) -> TeacherSignals:
        """Each teacher answers for the items of its stream."""
        log_probs: Tensor | None = None
        for index, answer in enumerate(answers):
            mine = (situation.streams == index).nonzero()[:, 0]
            if not len(mine):
                continue
            said = answer(mine).posteriors()
            if log_probs is None:
                frames = int(situation.frame_lens.max())
                log_probs = said.new_zeros((len(situation.streams), frames, said.shape[2]))
            log_probs[mine, : said.shape[1]] = said
        if log_probs is None:
            raise ValueError("no item of the batch belongs to a stream")
        return TeacherSignals(log_probs)


class Interpolation(Combination):
    """Weighted average of all posteriors: the expensive baseline."""

    kind: Literal["interpolation"] = "interpolation"
    """Selects this."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """One for each teacher; equal when left out."""
    average: Literal["prob", "log"] = "prob"
    """Of probabilities, or of their logarithms (product of experts)."""

    @property
    def frames_alone(self) -> bool:
        """See ``Combination.frames_alone``."""
        return True

    def check(self, teachers: int) -> None:
        """See ``Combination.check``."""
        if teachers < 2:
            raise ValueError("combine.kind interpolation needs two teachers or more")
        if self.weights and len(self.weights) != teachers:
            raise ValueError(f"combine.weights has {len(self.weights)} numbers for {teachers} teachers")
        if self.weights and not sum(self.weights):
            raise ValueError("combine.weights are all zero")

    def __call__(self, answers: Sequence[Answer], situation: Situation) -> TeacherSignals:  # noqa: ARG002
        """Every teacher is asked."""
        said = torch.stack([answer(None).posteriors() for answer in answers])
        weights = said.new_tensor(self.weights or (1.0,) * len(answers))[:, None, None, None]
        weights = weights / weights.sum()
        if self.average == "prob":
            return TeacherSignals((said + weights.log()).logsumexp(dim=0))
        return TeacherSignals((weights * said).sum(dim=0).log_softmax(dim=2))


class Hybrid(Combination):
    """The first teacher says *where* each label is, the second *what* it could have been (notes on the Oracle Teacher).

    Frame t gets blank where the first teacher's occupancies leave it, and elsewhere the second teacher's distribution
    over the tokens that are no blank, pooled over the frames where the second teacher itself hears that label.
    """

    kind: Literal["hybrid"] = "hybrid"
    """Selects this."""

    @property
    def frames_alone(self) -> bool:
        """See ``Combination.frames_alone``."""
        return True

    def check(self, teachers: int) -> None:
        """See ``Combination.check``."""
        if teachers != 2:
            raise ValueError(f"combine.kind hybrid takes two teachers, where and what, but there are {teachers}")

    def __call__(self, answers: Sequence[Answer], situation: Situation) -> TeacherSignals:
        """See the class."""
        where, what = answers[0](None).posteriors(), answers[1](None).posteriors()
        reference = (situation.frame_lens, situation.labels, situation.label_lens, situation.blank_id)
        # teachers are asked under autocast; in bfloat16 the products would not sum to one
        with torch.autocast(where.device.type, enabled=False):
            occupied = label_occupancy(where, *reference)
            heard = pooled_over_labels(what.exp(), label_occupancy(what, *reference))
            heard[..., situation.blank_id] = 0
            heard = heard / heard.sum(dim=2, keepdim=True).clamp(min=1e-30)
            mixed = torch.einsum("ntu,nuv->ntv", occupied, heard)
            mixed[..., situation.blank_id] = (1 - occupied.sum(dim=2)).clamp(min=0)
            return TeacherSignals(mixed.clamp(min=1e-35).log())


AnyCombination = Annotated[
    Single | Switching | MultiStream | Interpolation | Hybrid,
    Field(discriminator="kind"),
]
"""Every way there is; ``distill.combine`` selects by ``kind``."""
