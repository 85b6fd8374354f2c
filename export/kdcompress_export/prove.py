"""What is measured before a bundle is written, and the choice of the precision that apps load by default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_export.agreement import SplitDifferences, split_differences
from kdcompress_export.inputs import inputs_of
from kdcompress_export.timing import Milliseconds, cpu_name, time_steps, time_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_export.error_rates import Counted
    from kdcompress_export.inputs import Units
    from kdcompress_runtime.model import CtcModel

FLOAT, INT8 = "float32", "int8"
MIN_AGREEMENT = 0.9
"""Least share of frames with the same best label; below it int8 is not the same model."""
MAX_WORSE_POINTS: Mapping[Counted, float] = {"words": 0.5, "characters": 0.3}
"""Error rate that int8 may cost, by what is counted (``Inputs.counted``). A word is several characters, and wrong by
one of them."""
SPLIT_ATOL = {FLOAT: 1e-4, INT8: 0.75}
"""Largest difference in nats between whole and pieces. Pieces change float32 sums in their last bits; in int8
such a bit can move a feature by one step of its scale, and with it log-probabilities of rare labels. Other small
precisions round as well, and are held to the bound of int8 (``split_atol``)."""
_SPLITS = 3


@dataclass(frozen=True)
class Speed:
    """Time of one step, one thread, all precisions taking turns."""

    whole: dict[str, Milliseconds]
    """Over a long input, by precision."""
    chunk: dict[str, Milliseconds]
    """Over one streaming chunk, by precision; empty for a model that takes whole inputs."""
    small: str = INT8
    """The precision that is compared with float32."""
    long: str = "10 s"
    """What a long input is."""

    @property
    def whole_ratio(self) -> float:
        """Float32 time over the small precision's, long input."""
        return self.whole[FLOAT].cpu / self.whole[self.small].cpu

    @property
    def chunk_ratio(self) -> float | None:
        """Float32 time over the small precision's, one chunk; None where there are no chunks."""
        return self.chunk[FLOAT].cpu / self.chunk[self.small].cpu if self.chunk else None

    @property
    def least_ratio(self) -> float:
        """The smaller of the ratios."""
        return self.whole_ratio if self.chunk_ratio is None else min(self.whole_ratio, self.chunk_ratio)

    @property
    def sentence(self) -> str:
        """Both ratios in words."""
        whole = f"{self.whole_ratio:.2f}x on {self.long}"
        return whole if self.chunk_ratio is None else f"{whole}, {self.chunk_ratio:.2f}x on a chunk"


@dataclass(frozen=True)
class Choice:
    """The default precision."""

    precision: str
    """``float32`` or the small one."""
    reason: str
    """One sentence."""


def small_precisions(models: Mapping[str, object]) -> list[str]:
    """Names of the precisions that can be compared with float32."""
    return [name for name in models if name != FLOAT] if FLOAT in models else []


def split_atol(precision: str) -> float:
    """Largest difference in nats between whole and pieces; see ``SPLIT_ATOL``."""
    return SPLIT_ATOL.get(precision, SPLIT_ATOL[INT8])


def measure_speed(models: Mapping[str, CtcModel], small: str = INT8) -> Speed:
    """Time whole and, where the models stream, chunk, models taking turns."""
    some = next(iter(models.values()))
    chunk = time_steps(models, some.metadata.chunk_frames) if some.metadata.streaming else {}
    return Speed(time_whole(models), chunk, small, inputs_of(some).long_words)


def worst_split(model: CtcModel, recordings: Sequence[Units]) -> SplitDifferences:
    """Whole against pieces on every recording; the largest difference, and whether all texts agree.

    Raises:
        ValueError: the model takes whole inputs only; see ``split_summary``.
    """
    found = [split_differences(model, samples, seed=i, splits=_SPLITS) for i, samples in enumerate(recordings)]
    return SplitDifferences(max(one.max_abs_diff for one in found), all(one.texts_equal for one in found))


def split_summary(model: CtcModel, recordings: Sequence[Units]) -> dict[str, Any] | None:
    """JSON object of ``worst_split``; None where the model takes whole inputs and cannot be split."""
    return asdict(worst_split(model, recordings)) if model.metadata.streaming else None


def speed_summary(speed: Speed) -> dict[str, Any]:
    """JSON object of a speed measurement, with the machine's name; null for chunks where there are none."""
    return {
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "threads": 1,
        "whole": speed.long,
        "whole_ms": {name: asdict(value) for name, value in speed.whole.items()},
        "chunk_ms": {name: asdict(value) for name, value in speed.chunk.items()} if speed.chunk else None,
        "whole_ratio": speed.whole_ratio,
        "chunk_ratio": speed.chunk_ratio,
    }
