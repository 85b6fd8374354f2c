"""What is measured before a bundle is written, and the choice of the precision that apps load by default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_export.agreement import Agreement, SplitDifferences, compare_models, split_differences
from kdcompress_export.streams import speech_like_noise
from kdcompress_export.timing import WHOLE_SECONDS, Milliseconds, cpu_name, time_steps, time_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_export.error_rates import ErrorRates, PairedDifference
    from kdcompress_export.streams import Samples
    from kdcompress_runtime.model import CtcModel

FLOAT, INT8 = "float32", "int8"
MIN_AGREEMENT = 0.9
"""Least share of frames with the same best label; below it int8 is not the same model."""
MAX_WORSE_POINTS = 0.5
"""Word error rate that int8 may cost."""
SPLIT_ATOL = {FLOAT: 1e-4, INT8: 0.75}
"""Largest difference in nats between whole and pieces. Pieces change float32 sums in their last bits; in int8
such a bit can move a feature by one step of its scale, and with it log-probabilities of rare labels."""
PROBE_SEEDS = (11, 12)
PROBE_SECONDS = 5.0
_SPLITS = 3


@dataclass(frozen=True)
class Speed:
    """Time of one step, one thread, all precisions taking turns."""

    whole: dict[str, Milliseconds]
    """Over 10 s of audio, by precision."""
    chunk: dict[str, Milliseconds]
    """Over one streaming chunk, by precision."""

    @property
    def whole_ratio(self) -> float:
        """Float32 time over int8 time, 10 s."""
        return self.whole[FLOAT].cpu / self.whole[INT8].cpu

    @property
    def chunk_ratio(self) -> float:
        """Float32 time over int8 time, one chunk."""
        return self.chunk[FLOAT].cpu / self.chunk[INT8].cpu


@dataclass(frozen=True)
class Choice:
    """The default precision."""

    precision: str
    """``float32`` or ``int8``."""
    reason: str
    """One sentence."""


def probe_recordings(sample_rate: int) -> list[Samples]:
    """Noise that is the same on every machine, for verification without data."""
    return [speech_like_noise(PROBE_SECONDS, sample_rate, seed) for seed in PROBE_SEEDS]


def measure_speed(models: Mapping[str, CtcModel]) -> Speed:
    """Time whole and chunk, models taking turns."""
    chunk = next(iter(models.values())).metadata.chunk_frames
    return Speed(time_whole(models), time_steps(models, chunk))


def worst_split(model: CtcModel, recordings: Sequence[Samples]) -> SplitDifferences:
    """Whole against pieces on every recording; the largest difference, and whether all texts agree."""
    found = [split_differences(model, samples, seed=i, splits=_SPLITS) for i, samples in enumerate(recordings)]
    return SplitDifferences(max(one.max_abs_diff for one in found), all(one.texts_equal for one in found))


def choose_default(
    agreement: Agreement, speed: Speed, rates: ErrorRates | None, difference: PairedDifference | None
) -> Choice:
    """Take int8 unless it is slower or clearly worse; the reason names the numbers."""
    ratios = f"{speed.whole_ratio:.2f}x on {WHOLE_SECONDS:.0f} s, {speed.chunk_ratio:.2f}x on a chunk"
    if min(speed.whole_ratio, speed.chunk_ratio) < 1.0:
        return Choice(FLOAT, f"int8 is slower on this CPU ({ratios})")
    if agreement.argmax_agreement < MIN_AGREEMENT:
        same = f"{100 * agreement.argmax_agreement:.1f} % of the frames"
        return Choice(FLOAT, f"int8 and float32 choose the same label in only {same}")
    if rates is None or difference is None:
        return Choice(INT8, f"int8 is faster ({ratios}); error rates were not compared: no dev manifest was given")
    points = f"{difference.wer:+.2f} points WER, 95 % interval {difference.low:+.2f} to {difference.high:+.2f}"
    if difference.wer > MAX_WORSE_POINTS and difference.low > 0:
        return Choice(FLOAT, f"int8 makes clearly more errors ({points})")
    return Choice(INT8, f"int8 is faster ({ratios}) and not clearly worse ({points})")


def compare_precisions(
    models: Mapping[str, CtcModel], recordings: Sequence[Samples], rates: ErrorRates | None
) -> tuple[dict[str, Any], Choice]:
    """Measure int8 against float32: agreement, splits, speed; return what goes into ``measured``, and the choice."""
    floating, small = models[FLOAT], models[INT8]
    probe = probe_recordings(floating.metadata.input.sample_rate or 16000)
    agreement = compare_models(floating, small, recordings or probe)
    speed = measure_speed(models)
    difference = rates.paired(INT8, FLOAT) if rates else None
    measured: dict[str, Any] = {
        "agreement": {**asdict(agreement), "audio": "recordings" if recordings else "noise"},
        "probe": asdict(compare_models(floating, small, probe)),
        "splits": asdict(worst_split(small, [*probe[:1], *recordings[:2]])),
        "speed": speed_summary(speed),
    }
    if difference:
        measured["error_rate_difference"] = asdict(difference)
    return measured, choose_default(agreement, speed, rates, difference)


def speed_summary(speed: Speed) -> dict[str, Any]:
    """JSON object of a speed measurement, with the machine's name."""
    return {
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "threads": 1,
        "whole_seconds": WHOLE_SECONDS,
        "whole_ms": {name: asdict(value) for name, value in speed.whole.items()},
        "chunk_ms": {name: asdict(value) for name, value in speed.chunk.items()},
        "whole_ratio": speed.whole_ratio,
        "chunk_ratio": speed.chunk_ratio,
    }
