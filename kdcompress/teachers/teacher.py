"""What a teacher is, wherever it comes from: something that answers for a batch, and says what its answers are about.

Its frames, tokens, sample rate and spelling are its own; ``kdcompress.bridge`` brings them to the student's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction
    from pathlib import Path

    import torch
    from torch import Tensor

    from kdcompress.data.text import Units
    from kdcompress.hearing import Heard
    from kdcompress.losses.base import Answer, Hypotheses
    from kdcompress.recipe import AnyFrontend, Recipe
    from kdcompress.text_models.unit_labels import UnitLabels
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class TeacherInfo:
    """What a teacher says of itself; all that decides how it fits a student."""

    source: Path
    """Where it was read, for messages."""
    name: str
    """Short name, for reports."""
    kind: str
    """What it is: ``conventional``, ``oracle``, ``bundle``, ``hugging_face``, ``onnx``, ``python``..."""
    fingerprint: str
    """SHA-256 in hexadecimal over its weights and over whatever else decides its answers."""
    vocabulary: Vocabulary
    """Its tokens, in the spelling of ours: ``▁`` for the space between words, or at the beginning of a word."""
    units: Units
    """What one token is."""
    frame: Fraction
    """Input time of one output frame: seconds for audio, input units (pixels, tokens) elsewhere."""
    sample_rate: int | None
    """Hz at which it hears; None for inputs that are no audio."""
    gives: frozenset[Answer]
    """Fields that its answers have."""
    sees_labels: bool = False
    """Whether it is shown the reference: an Oracle Teacher, whose own error rate is no recognition rate."""
    lookahead: Fraction | None = None
    """Input time that it hears ahead of a frame, as ``frame``; None: it hears the whole input."""
    hidden_dims: tuple[int, ...] = ()
    """Width of each block that its answers show."""
    codebooks: tuple[int, int] | None = None
    """Number of codebooks, and of entries of each, where it gives codes."""
    dev_error: float | None = None
    """Word error rate on held-out data in percent, where it is known."""
    text_units: str | None = None
    """Of a language model, which reads the text and hears nothing: what its units are."""


@dataclass(frozen=True)
class Said:
    """A teacher's answer for N items in its own frames and tokens; no gradient. Padding may hold anything."""

    frame_lens: Tensor
    """Its valid frames, ``(N,)`` int64."""
    log_probs: Tensor | None = None
    """``(N, T, V)`` float32."""
    hidden: tuple[Tensor, ...] = ()
    """``(N, T, D)`` for each block."""
    occupancy: Tensor | None = None
    """Probability that frame t belongs to label u of the reference, ``(N, T, U)`` float32."""
    codes: Tensor | None = None
    """``(N, T, C)`` int64."""
    hypotheses: Hypotheses | None = None
    """Texts in its own tokens."""
    units: tuple[UnitLabels, ...] = ()
    """What a language model says of each text."""
    times: Tensor | None = None
    """``(N, 2)`` float64, factor and offset: what the student hears at time t, this answer holds at
    ``factor * t - offset``, both as ``TeacherInfo.frame``; frames before and after the answer are blank. None: at t."""


class Teacher(ABC):
    """Something that answers for a batch."""

    info: TeacherInfo
    answers_anything: bool = True
    """Whether it answers for any input; stored labels know only what was labelled."""
    frontend: AnyFrontend | None = None
    """How its inputs are read, where it says so; what is no audio it shares with its student."""
    reads_sources: bool = False
    """Whether it reads the source sentences of a batch as they are written, whatever ids a student makes of them."""

    @abstractmethod
    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """Answer for the batch, once for every view, or for the items whose indices into the views are given.

        ``heard.at_rate(self.info.sample_rate)`` is the batch as this teacher hears it.
        """

    def check(self, recipe: Recipe) -> None:  # noqa: B027 (most suit any data)
        """Raise where this teacher cannot answer for the training items of ``recipe``, or not as they are augmented.

        Raises:
            LabelStoreError: labels that were stored are about other items, or about items that do not move in time.
        """

    def to(self, device: torch.device) -> None:  # noqa: B027 (most need nothing)
        """Move to ``device`` whatever is computed with torch."""


def chosen(said: Said, items: Tensor | None) -> Said:
    """Keep the items whose indices are given, for a teacher that answers for all anyhow; not for hypotheses."""
    if items is None:
        return said

    def part(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[items]

    return replace(
        said,
        frame_lens=said.frame_lens[items],
        log_probs=part(said.log_probs),
        hidden=tuple(block[items] for block in said.hidden),
        occupancy=part(said.occupancy),
        codes=part(said.codes),
        times=part(said.times),
    )


def repeated(said: Said, views: int) -> Said:
    """Copy the answer for every view, for a teacher that hears no masks; not for hypotheses."""
    if views == 1:
        return said

    def copies(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.repeat(views, *[1] * (tensor.ndim - 1))

    return replace(
        said,
        frame_lens=said.frame_lens.repeat(views),
        log_probs=copies(said.log_probs),
        hidden=tuple(block.repeat(views, 1, 1) for block in said.hidden),
        occupancy=copies(said.occupancy),
        codes=copies(said.codes),
        times=copies(said.times),
    )


def dev_errors(teachers: Sequence[Teacher]) -> tuple[float | None, ...]:
    """Word error rate of each teacher on its dev manifest, in percent; None for one that has seen the answer."""
    return tuple(None if teacher.info.sees_labels else teacher.info.dev_error for teacher in teachers)
