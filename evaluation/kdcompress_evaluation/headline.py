"""The answer in one sentence: which variant, and what it costs against the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_evaluation.words import megabytes, percent, plural, points, points_interval, share, times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.summary import RunInfo, VariantSummary


@dataclass(frozen=True)
class Headline:
    """The answer."""

    sentence: str
    """In plain words."""
    reason: str
    """How it stands against its neighbours; may be empty."""
    chosen: str
    """Name of the variant it is about."""


_SAME_SIZE = 1.1
"""Bundles within this ratio count as equally big."""


def choose(run: RunInfo, variants: Sequence[VariantSummary]) -> tuple[VariantSummary, bool]:
    """Pick the best trade-off, and say whether the data show that it stays within the tolerance.

    Among the variants smaller than the baseline whose paired interval ends below ``run.tolerance``: the smallest,
    and among those within 10 % of its size the lowest error rate. Where smaller ones exist but none is shown to
    stay within, the one with the least rise, as not shown. Where none is smaller, the lowest error rate among
    those of the baseline's size.
    """
    baseline = next(v for v in variants if v.info.name == run.baseline)
    smaller = [v for v in variants if v.info.size_bytes * _SAME_SIZE < baseline.info.size_bytes]
    within = [v for v in smaller if _end(v) <= run.tolerance]
    if smaller and not within:
        return min(smaller, key=_rise), False
    pool = within or [v for v in variants if v is baseline or (_end(v) <= run.tolerance and _same_size(v, baseline))]
    smallest = min(v.info.size_bytes for v in pool)
    same = [v for v in pool if v.info.size_bytes <= smallest * _SAME_SIZE]
    return min(same, key=lambda v: (_rate(v), v.info.size_bytes)), True


def write_headline(run: RunInfo, variants: Sequence[VariantSummary], rival: tuple[str, Estimate] | None) -> Headline:
    """Write the sentence.

    Args:
        run: what was asked for.
        variants: all of the report.
        rival: another variant of about the chosen one's size, and the chosen one's paired difference to it.
    """
    best, shown = choose(run, variants)
    baseline = next(v for v in variants if v.info.name == run.baseline)
    if best.pooled.wer.value is None:
        sentence = f"No word error rate: the references hold no words ({best.pooled.utterances} utterances)."
        return Headline(sentence=sentence, reason="", chosen=best.info.name)
    if len(variants) == 1:
        return Headline(sentence=_alone(best), reason="", chosen=best.info.name)
    if best is baseline:
        sentence = (
            f"The baseline {best.info.name} is the best trade-off: no smaller bundle is in the comparison; it gets "
            f"{percent(best.pooled.wer.value)} % of the words wrong at {megabytes(best.info.size_bytes)} MB."
        )
    elif shown:
        sentence = f"{best.info.name} is the best trade-off: {_gain(best, baseline)} {_cost(best)}."
    else:
        sentence = (
            f"No smaller bundle is shown to stay within {points(run.tolerance, 1)} points of {baseline.info.name}; "
            f"the closest is {best.info.name}: {_gain(best, baseline)} {_cost(best)}."
        )
    reason = " ".join(filter(None, [_against_rival(best, rival), _lowest(best, baseline, variants)]))
    return Headline(sentence=sentence, reason=reason, chosen=best.info.name)


def _lowest(best: VariantSummary, baseline: VariantSummary, variants: Sequence[VariantSummary]) -> str:
    """Which variant has the lowest error rate, when that is one of another size and not compared already."""
    lowest = min(variants, key=lambda v: (_rate(v), v.info.size_bytes))
    if lowest in (best, baseline) or _same_size(lowest, best):
        return ""
    size = lowest.info.size_bytes / best.info.size_bytes
    return (
        f"The lowest error rate is {percent(lowest.pooled.wer.value)} %, by {lowest.info.name} at "
        f"{times(size)}x the size."
    )


def _alone(best: VariantSummary) -> str:
    wer = best.pooled.wer
    words = best.pooled.words
    text = f"{best.info.name} gets {percent(wer.value)} % of the words wrong"
    if not words.errors:
        text = f"{best.info.name} made no error in {plural(words.reference, 'word')}"
    elif wer.low is not None:
        text += f" (95 % interval {percent(wer.low)} to {percent(wer.high)})"
    text += f" at {megabytes(best.info.size_bytes)} MB"
    if best.speed is not None and best.speed.chunk_p95_ms is not None and best.info.chunk_ms is not None:
        text += f" and computes a {best.info.chunk_ms:.0f} ms chunk in {best.speed.chunk_p95_ms:.1f} ms (p95)"
    return text + "; there is nothing to compare it with."


def _gain(best: VariantSummary, baseline: VariantSummary) -> str:
    size = best.info.size_bytes / baseline.info.size_bytes
    about = "about the size" if _same_size(best, baseline) else f"{share(size)} of the size"
    faster = None if best.speed is None else best.speed.speedup
    if faster is None:
        return f"{about} of {baseline.info.name},"
    if 0.95 < faster < 1.05:
        return f"{about} of {baseline.info.name} and as fast,"
    speed = f"{times(faster)}x as fast" if faster > 1 else f"{times(1 / faster)}x slower"
    return f"{about} of {baseline.info.name} and {speed},"


def _cost(best: VariantSummary) -> str:
    """The difference in words: less, more, or not to be told from noise."""
    difference = best.pooled.difference
    if difference is None or difference.value is None:
        return "with no error rate to compare"
    if difference.low is None or difference.high is None:
        return f"at {points(difference.value)} points of WER, with too few utterances for an interval"
    numbers = f"{points(difference.value)} points (95 % interval {points_interval(difference)})"
    if difference.low > 0:
        return f"for a higher word error rate: {numbers}"
    if difference.high < 0:
        return f"with a lower word error rate: {numbers}"
    return f"and the difference in word error rate is within noise: {numbers}"


def _against_rival(best: VariantSummary, rival: tuple[str, Estimate] | None) -> str:
    """How it stands against the nearest other variant of its size."""
    if rival is None or rival[1].value is None:
        return ""
    name, lead = rival
    if lead.low is None or lead.high is None:
        return ""
    numbers = f"{points(lead.value)} points ({points_interval(lead)})"
    if lead.low <= 0 <= lead.high:
        return f"Against {name}, of the same size, {best.info.name} differs by {numbers}: within noise."
    word = "better" if lead.high < 0 else "worse"
    return f"Against {name}, of the same size, it is {word}: {numbers}."


def _same_size(one: VariantSummary, other: VariantSummary) -> bool:
    return 1 / _SAME_SIZE <= one.info.size_bytes / other.info.size_bytes <= _SAME_SIZE


def _end(variant: VariantSummary) -> float:
    """Upper end of the paired interval; infinite where there is none."""
    difference = variant.pooled.difference
    return float("inf") if difference is None or difference.high is None else difference.high


def _rise(variant: VariantSummary) -> float:
    difference = variant.pooled.difference
    return float("inf") if difference is None or difference.value is None else difference.value


def _rate(variant: VariantSummary) -> float:
    return float("inf") if variant.pooled.wer.value is None else variant.pooled.wer.value
