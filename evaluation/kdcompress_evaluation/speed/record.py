"""Raw measurements as they lie in ``rows/speed.json``: seconds and bytes, nothing summed up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# The JSON reader resolves these annotations when it runs, so they are imported for real.
from kdcompress_evaluation.cost import Memory, Peaks  # noqa: TC001
from kdcompress_evaluation.machine import Machine  # noqa: TC001

SPEED = "speed.json"
"""Where a report keeps the record, under ``rows/``."""


@dataclass(frozen=True)
class TimedUtterance:
    """One utterance of the speed run."""

    manifest: str
    """Its manifest."""
    id: str
    """Its id."""
    path: str
    """Its recording or image, or the sentence itself."""
    duration: float | None
    """Seconds of audio; ``None``: it is none."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one variant on one utterance."""

    whole: tuple[float, ...]
    """Recognition of the whole utterance, by round."""
    chunks: tuple[float, ...]
    """Every full chunk of every round, one after the other; none for a model that takes whole recordings."""
    finals: tuple[float, ...]
    """From ``input_finished`` to the result, by round; all of ``whole`` for a system that cannot be fed in pieces."""


@dataclass(frozen=True)
class Pacing:
    """One variant on one utterance whose chunks came in real time."""

    chunks: tuple[float, ...]
    """Seconds of computing, every full chunk."""
    cpu: float
    """CPU seconds of the process, from the first chunk to the last."""
    wall: float
    """Wall seconds of the same."""


@dataclass(frozen=True)
class PartTimes:
    """Seconds inside a chunk (inside the whole utterance, where the model does not stream), chunk by chunk."""

    total: tuple[float, ...]
    """From the first sample given to the partial result."""
    graph: tuple[float, ...]
    """Of those, in steps of the model."""
    decoder: tuple[float, ...]
    """Of those, in the decoder."""


@dataclass(frozen=True)
class GraphProfile:
    """What onnxruntime's profile says about one step of the graph."""

    audio_seconds: float
    """Seconds of audio in the step; 1 for a whole line or sentence."""
    float_macs: float
    """Multiply-accumulates on floating-point numbers."""
    int8_macs: float
    """Multiply-accumulates on integers."""
    weight_bytes: float
    """Constants that the step reads."""
    seconds: float
    """Median time of such a step, without profiling."""
    frontend_share: float | None
    """Part of the node times that nodes named ``frontend/...`` take; ``None``: there are none of that name."""
    uncounted: tuple[str, ...]
    """Operators that multiply and that nobody counted."""


@dataclass(frozen=True)
class ColdTimes:
    """Seconds of one fresh process."""

    imported: float
    """Imports."""
    loaded: float
    """Opening the model."""
    first: float
    """From there to the first text."""


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk."""

    compressed: int | None
    """What is shipped, deflated."""
    lm: int
    """Language model and lexicon among them, as they are."""
    runtime: int | None
    """Installed files of what runs it."""


@dataclass(frozen=True)
class VariantCosts:
    """Everything measured about one variant; parts may be missing."""

    timings: tuple[Timing, ...] = ()
    """In the order of the record's utterances; fewer when the run was cut short."""
    pacings: tuple[Pacing, ...] = ()
    """In the order of the record's paced utterances."""
    parts: PartTimes | None = None
    """``None``: not measured."""
    profile: GraphProfile | None = None
    """``None``: not measured."""
    sizes: Sizes | None = None
    """``None``: not measured."""
    memory: Memory | None = None
    """``None``: not measured."""
    cold_starts: tuple[ColdTimes, ...] = ()
    """Each of a process of its own."""


@dataclass(frozen=True)
class SpeedRecord:
    """The content of ``rows/speed.json``."""

    identity: dict[str, Any]
    """What the times belong to; other ones are measured again."""
    machine: Machine
    """As it was when the measurement began."""
    baseline: str
    """Name of the variant that ``again`` is a second copy of."""
    utterances: tuple[TimedUtterance, ...]
    """That are timed one after the other."""
    paced: tuple[TimedUtterance, ...]
    """That are paced."""
    threads: int = 1
    """Of onnxruntime."""
    pinned: tuple[int, ...] = ()
    """CPUs that the measuring process was held to; empty: not pinned."""
    variants: dict[str, VariantCosts] = field(default_factory=dict)
    """By variant."""
    again: VariantCosts | None = None
    """A second copy of the baseline, timed as if it were another variant."""
    peaks: Peaks | None = None
    """``None``: not measured."""
    load_after: float | None = None
    """Load average when the last measurement was over."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""
    done: bool = False
    """Whether everything was measured that was asked for."""
