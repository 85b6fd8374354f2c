"""What a variant costs, as values: time, computation, bytes. Derived from ``rows/speed.json``."""

from __future__ import annotations

from dataclasses import dataclass

# The JSON reader resolves these annotations when it runs, so they are imported for real.
from kdcompress_evaluation.bootstrap import Estimate  # noqa: TC001
from kdcompress_evaluation.machine import Machine  # noqa: TC001
from kdcompress_evaluation.percentiles import Percentiles  # noqa: TC001


@dataclass(frozen=True)
class Parts:
    """Median milliseconds of a chunk (a whole line or sentence) by what they are spent on."""

    frontend: float | None
    """From samples to features; ``None``: the graph does not say which nodes those are, and ``model`` has them."""
    model: float
    """The rest of the graph."""
    decoder: float
    """The decoder."""
    other: float
    """Everything else: framing, states, spelling of the result."""


@dataclass(frozen=True)
class Work:
    """What the graph computes in a second of audio (a whole line or sentence), and how near the machine's limits."""

    macs: float
    """Multiply-accumulates of matrix products and convolutions, in a second of audio; for a line or sentence of middle
    length where the input is none."""
    share_of_compute: float | None
    """Multiply-accumulates a second over the peak measured for this precision on the same thread."""
    share_of_memory: float | None
    """Bytes of weights read a second, over the measured memory bandwidth."""


@dataclass(frozen=True)
class Speed:
    """One thread, interleaved with the other variants."""

    utterances: int
    """Utterances timed."""
    rounds: int
    """Repeats of each."""
    audio_seconds: float
    """Of one round; 0 where the input is no audio."""
    rtf_median: float | None
    """Processing time over audio time: median over utterances of the median over rounds; ``None``: no audio."""
    rtf_total: float | None
    """Summed processing time over summed audio time: core-hours for an hour; ``None``: no audio."""
    speedup: Estimate | None
    """Baseline's time over this variant's: median over utterances and rounds, with the bootstrap interval over
    utterances; ``None`` for the baseline."""
    chunk: Percentiles | None
    """Milliseconds of computing a chunk, one after the other; ``None``, as the next two, when no chunk was timed: the
    model does not stream, or every utterance is shorter than a chunk."""
    paced: Percentiles | None
    """The same with chunks coming in real time, as from a microphone; ``None`` also when it was not asked for."""
    paced_cpu: float | None
    """CPU time over wall time of the process while paced: share of one core."""
    final: Percentiles | None
    """Milliseconds from the end of the input to the final result. A model that takes whole recordings does everything
    then."""
    parts: Parts | None
    """Where the time of a chunk goes (of the whole utterance for models that do not stream)."""
    work: Work | None
    """``None`` when the graph could not be profiled."""
    per_second: float | None = None
    """Utterances (lines, sentences) a second, one at a time."""
    whole: Percentiles | None = None
    """Milliseconds of a whole utterance (line, sentence)."""


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes of a process of its own that loads the variant and recognises."""

    imported: int
    """Before the bundle: interpreter, numpy, onnxruntime, and the input."""
    loaded: int
    """After the bundle was loaded."""
    steady: int
    """After an input was recognised several times."""
    peak: int
    """Highest of the process."""
    pss: int | None
    """Steady, with pages that other processes share counted in part; ``None`` where the system does not say."""


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds in a fresh process, medians: what a user waits for."""

    imported: float
    """Importing the runtime, with numpy and onnxruntime."""
    loaded: float
    """Opening the model."""
    first: float
    """From there to the first token of a recording that is streamed as fast as it goes; to the answer otherwise."""
    repeats: int
    """Processes timed."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.imported + self.loaded + self.first


@dataclass(frozen=True)
class Footprint:
    """Bytes on disk and in memory."""

    size_bytes: int | None
    """To ship: the model and what must lie beside it, language model included; ``None``: unknown, as for texts of
    another system."""
    compressed_bytes: int | None
    """The same, deflated as in a .zip."""
    lm_bytes: int
    """Of those, the language model and lexicon."""
    runtime_bytes: int | None
    """Installed size of what runs it: onnxruntime, numpy and the runtime (sherpa-onnx for its models)."""
    memory: Memory | None
    """``None`` when it could not be measured."""
    cold_start: ColdStart | None
    """``None`` when it could not be measured."""


@dataclass(frozen=True)
class Peaks:
    """What one thread of the machine reaches, measured in the same run."""

    float32: float
    """Multiply-accumulates a second of a large float32 matrix product in onnxruntime."""
    int8: float
    """Of a large 8-bit one."""
    memory: float
    """Bytes a second, read from memory far larger than the caches."""


@dataclass(frozen=True)
class SpeedRun:
    """How speed was measured."""

    machine: Machine
    """As it was when the measurement began."""
    threads: int
    """Of onnxruntime; spinning off."""
    pinned: tuple[int, ...]
    """CPUs that the measuring process was held to; empty: not pinned."""
    noise: Estimate | None
    """An A/A run: the baseline's time over that of a second copy of itself, measured as if it were another variant.
    Speed-ups within this interval are noise."""
    peaks: Peaks | None
    """``None`` when they could not be measured."""
    paced_seconds: float
    """Of audio, paced for each variant."""
    notes: tuple[str, ...]
    """What could not be measured, and why."""
    load_after: float | None = None
    """Load average when the measurement was over; that before it is the machine's."""
