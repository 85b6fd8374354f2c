"""How to evaluate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - part of the public type of a field

from kdcompress_evaluation.budget import parse_budget
from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.fields import SPEAKER
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_runtime.errors import OptionsError

_LOWEST = {
    "resamples": 1000,
    "seed": 0,
    "jobs": 1,
    "stream_every": 1,
    "split_utterances": 0,
    "speed_utterances": 0,
    "speed_rounds": 1,
    "paced_seconds": 0,
}


@dataclass(frozen=True)
class EvalOptions:
    """How to evaluate.

    Raises:
        OptionsError: a value is outside its range.
        BudgetError: the budget cannot be read.
    """

    baseline: str | tuple[str, ...] | None = None
    """Variant or bundle that others are compared with, of each task one at most; where none is named, the first bundle
    (its float32)."""
    precisions: str = "default"
    """``default`` (what each bundle loads by itself), ``all``, or one precision by name."""
    decoding: Decoding = field(default_factory=Decoding)
    """Decoder of every variant; left out, each bundle's own."""
    normaliser: str = ""
    """Key of ``scoring.NORMALISERS``; empty: that of the task, ``tasks.Task.normaliser``."""
    budget: str = ""
    """Bounds to hold, as ``budget.parse_budget`` reads them."""
    candidates: tuple[str, ...] = ()
    """Variants or bundles that may ship; none: every variant but the baseline."""
    anchors: tuple[Path, ...] = ()
    """More systems, shown for comparison and never to ship: a teacher, a rival."""
    slices: tuple[str, ...] = ()
    """Fields of the manifests to slice by, beside those that suggest themselves."""
    resample_by: str = SPEAKER
    """Field of the manifests whose values the bootstrap draws as wholes: what hangs together, such as all lines of a
    document. Where it names fewer than 10 in a manifest, single inputs are drawn."""
    resamples: int = 2000
    """Bootstrap draws, at least 1000; also the random sign flips of the permutation test."""
    seed: int = 0
    """Of both."""
    tolerance: float = 0.005
    """Rise of the first metric's cost, as a fraction, that the headline accepts for a smaller bundle."""
    jobs: int = 1
    """Processes that recognise at once."""
    timeout_seconds: float | None = None
    """For one utterance; ``None``: 20 times its length, at least 60."""
    retry: bool = False
    """Try utterances again that crashed, ran out of time or were not attempted."""
    stream: bool = True
    """Stream the utterances, too, where the model can."""
    stream_every: int = 1
    """Stream only every so many utterances."""
    split_utterances: int = 100
    """Of those, utterances that are streamed again in random pieces and tried for their endpoint."""
    speed_utterances: int = 20
    """Utterances that are timed, spread over the manifests; 0 measures no speed and no memory."""
    speed_rounds: int = 3
    """Repeats of each timed utterance."""
    paced_seconds: float = 12.0
    """Audio for each variant that is fed in real time; 0: none."""
    command: str = ""
    """The command line, for the report."""
    device_note: str = ""
    """Words of the user about the machine, for the report."""

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of baselines."""
        if isinstance(self.baseline, str):
            return (self.baseline,)
        return self.baseline or ()

    def __post_init__(self) -> None:
        for name, least in _LOWEST.items():
            if not getattr(self, name) >= least:
                raise OptionsError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if not 0 <= self.tolerance < 1:
            raise OptionsError(f"tolerance is a fraction (0.005 is half a point), found {self.tolerance}")
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise OptionsError(f"timeout_seconds must be more than 0, found {self.timeout_seconds}")
        if self.normaliser and self.normaliser not in NORMALISERS:
            raise OptionsError(f"normaliser {self.normaliser!r} is unknown; choose one of {', '.join(NORMALISERS)}")
        parse_budget(self.budget)
