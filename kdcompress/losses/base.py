"""What a loss is given, and the settings that all losses share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from kdcompress.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress.network import Outputs


class Hypotheses(NamedTuple):
    """Texts for the items of a batch, any number for each."""

    items: Tensor
    """Item that each is about, ``(H,)`` int64."""
    labels: Tensor
    """Its tokens, padded, ``(H, U)`` int64."""
    label_lens: Tensor
    """Valid tokens, ``(H,)`` int64; zero is allowed."""
    weights: Tensor
    """``(H,)`` float32; those of an item sum to one."""


Answer = Literal["log_probs", "hidden", "occupancy", "codes", "hypotheses", "units"]
"""Fields of ``TeacherSignals`` that a teacher may fill."""


@dataclass(frozen=True)
class TeacherSignals:
    """What a teacher, or several together, say about a batch, in the student's frames and tokens; no gradient.

    A network gives ``log_probs`` and ``hidden``. Labels that were stored give what they were stored as, and a teacher
    whose tokens cannot become the student's gives ``hypotheses`` alone.
    """

    log_probs: Tensor | None = None
    """``(N, T, V)`` float32."""
    hidden: tuple[Tensor, ...] = ()
    """``(N, T, D)`` for each block, if one teacher spoke; empty for a combination."""
    wait_frames: int = 0
    """How much later than the teacher this student can answer, by the kind of teacher and the student's look-ahead."""
    occupancy: Tensor | None = None
    """Probability that frame t belongs to label u of the reference, ``(N, T, U)`` float32."""
    codes: Tensor | None = None
    """Entry of each codebook, ``(N, T, C)`` int64; -100 in padding."""
    hypotheses: Hypotheses | None = None
    """Texts in the student's tokens."""

    def posteriors(self) -> Tensor:
        """Return ``log_probs``, for whoever needs them.

        Raises:
            ValueError: the teacher does not give any.
        """
        if self.log_probs is None:
            raise ValueError("this needs a teacher's posteriors, and the teacher gives none")
        return self.log_probs


@dataclass(frozen=True)
class UnitTargets:
    """What a language model says of the units of each text, and which frames they have; no gradient.

    Of a distribution the most probable units are there; the others share what is left of it.
    """

    units: Tensor
    """Units of each text, padded, ``(N, U)`` int64."""
    unit_lens: Tensor
    """Valid units, ``(N,)`` int64."""
    ids: Tensor
    """Most probable units in the place of each, ``(N, U, K)`` int64."""
    log_probs: Tensor
    """Ln P of these given the units around, ``(N, U, K)`` float32."""
    num_units: int
    """Units that the model chooses from."""
    frames: Tensor | None = None
    """Unit that each of the student's frames belongs to, -1 for none (silence, padding), ``(N, T)`` int64; None
    without an alignment."""
    states: Tensor | None = None
    """State of the model at each unit, ``(N, U, D)`` float32."""
    tokens: Tensor | None = None
    """The student's token for each unit, ``(num_units,)`` int64; None where they are not the same units."""


@dataclass(frozen=True)
class Signals:
    """One batch as a loss sees it. Frames at or after ``frame_lens`` are padding and must not count."""

    log_probs: Tensor
    """The student's answer, ``(N, T, V)`` float32."""
    hidden: tuple[Tensor, ...]
    """The student's blocks, ``(N, T, D)`` each."""
    frame_lens: Tensor
    """Valid frames, ``(N,)`` int64."""
    labels: Tensor
    """Reference ids, ``(N, U)`` int64."""
    label_lens: Tensor
    """Valid labels, ``(N,)`` int64."""
    blank_id: int
    """Id of the blank."""
    teacher: TeacherSignals | None
    """The targets; none without a ``distill`` section."""
    head: Tensor | None = None
    """What the loss's own head said, see ``LossConfig.head``."""
    fitted: Mapping[str, Tensor] = field(default_factory=dict)
    """Buffers of that head by name, see ``LossConfig.prepare``."""
    texts: Mapping[str, UnitTargets] = field(default_factory=dict)
    """What language models say of the texts, by their names in the recipe."""

    def taught(self) -> TeacherSignals:
        """Return the teacher's signals, for a loss that needs them.

        Raises:
            ValueError: there is no teacher.
        """
        if self.teacher is None:
            raise ValueError("this loss needs a teacher's signals")
        return self.teacher

    def posteriors(self) -> Tensor:
        """Return the teacher's log-probabilities ``(N, T, V)``, for a loss that needs them.

        Raises:
            ValueError: there is no teacher, or it gives none.
        """
        return self.taught().posteriors()

    def from_head(self) -> Tensor:
        """Return what the head said, for a loss that has one.

        Raises:
            ValueError: there is no head.
        """
        if self.head is None:
            raise ValueError("this loss needs the answer of its head")
        return self.head


class UnitShape(NamedTuple):
    """Sizes of what a language model says."""

    num_units: int
    """Units that it chooses from."""
    state_dim: int = 0
    """Width of its states; 0: it shows none."""


@dataclass(frozen=True)
class Shapes:
    """Sizes that a head is built for."""

    num_tokens: int
    """Tokens, blank included."""
    hidden_dims: tuple[int, ...]
    """Width of each of the student's blocks."""
    teacher_hidden_dims: tuple[int, ...] = ()
    """Width of each of the teacher's blocks; empty unless there is one teacher."""
    teacher_codebooks: tuple[int, int] | None = None
    """Number of codebooks and of entries of each, where the teacher's labels were stored as codes."""
    texts: Mapping[str, UnitShape] = field(default_factory=dict)
    """Sizes of what language models say, by their names in the recipe."""


class Head(nn.Module, ABC):
    """Extra layers of a loss; trained with the student, never exported."""

    @abstractmethod
    def forward(self, outputs: Outputs, frame_lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        """What the loss finds in ``Signals.head``; arguments as in ``CtcNetwork.outputs``."""


class Ramp(Settings):
    """Weight over the run: ``initial`` until ``start``, then linear to the loss's weight at ``end``."""

    initial: float = Field(default=0.0, ge=0)
    """Weight at the beginning."""
    start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the updates at which it begins to change."""
    end: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the updates at which the full weight is reached."""

    @model_validator(mode="after")
    def _check(self) -> Ramp:
        if self.start > self.end:
            raise ValueError(f"start {self.start} comes after end {self.end}")
        return self


RESERVED_NAMES = {"loss", "step", "seconds", "lr", "grad_norm", *dir(nn.ModuleDict())}
"""What rows of metrics hold besides losses, and what torch would not have a head called."""


class LossConfig(Settings):
    """Settings of a loss, and the loss itself when called. A subclass is one line in ``kdcompress.losses``."""

    needs_teacher: ClassVar[bool] = False
    """Whether ``Signals.teacher`` must be there."""
    learns_from: ClassVar[tuple[Answer, ...]] = ("log_probs",)
    """Fields of ``Signals.teacher`` any one of which will do, the best first."""
    views: ClassVar[int] = 1
    """Differently masked copies of each item that the student must answer; the copies stand one after the other."""
    prepares: ClassVar[bool] = False
    """Whether ``prepare`` wants to be called."""

    kind: str
    """Selects the loss; a subclass makes it a Literal."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    """Name in metrics and overrides; the kind when left out. Needed where a kind is used twice."""
    weight: float = Field(default=1.0, ge=0)
    """Factor in the sum."""
    ramp: Ramp | None = None
    """How the weight gets there; none: it is there from the first update."""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str | None) -> str | None:
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} means something else; choose another name")
        return name

    @property
    def reads(self) -> str | None:
        """Name of the language model that the loss learns from; most learn from none."""
        return None

    @property
    def needs_alignment(self) -> bool:
        """Whether ``UnitTargets.frames`` must be there."""
        return False

    @property
    def needs_own_tokens(self) -> bool:
        """Whether ``UnitTargets.tokens`` must be there."""
        return False

    @property
    def key(self) -> str:
        """Name of this loss in the recipe."""
        return self.name or self.kind

    def weight_at(self, progress: float) -> float:
        """Weight after the share ``progress`` of the updates."""
        if self.ramp is None or progress >= self.ramp.end:
            return self.weight
        done = max(0.0, progress - self.ramp.start) / max(1e-9, self.ramp.end - self.ramp.start)
        return self.ramp.initial + (self.weight - self.ramp.initial) * done

    def head(self, shapes: Shapes) -> Head | None:  # noqa: ARG002
        """Build what the loss adds to the network while training; it never reaches the bundle. Most add nothing."""
        return None

    def prepare(self, head: Head, teacher_hidden: Sequence[Tensor], seed: int) -> None:
        """Fit buffers of ``head`` to the teacher before the first update; called where ``prepares`` is true.

        Args:
            head: what ``head`` built; its buffers are changed, checkpoints hold them, ``Signals.fitted`` shows them.
            teacher_hidden: valid frames of the first training batches after each of the teacher's blocks, ``(M, D)``.
            seed: the recipe's.
        """

    @abstractmethod
    def __call__(self, signals: Signals) -> Tensor:
        """Return the value, a float32 scalar."""
