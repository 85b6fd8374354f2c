"""From raw measurements to the figures of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.bootstrap import Estimate
from kdcompress_evaluation.cost import ColdStart, Footprint, Parts, Peaks, Speed, SpeedRun, Work
from kdcompress_evaluation.percentiles import Percentiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.speed.record import GraphProfile, PartTimes, SpeedRecord, Timing, VariantCosts
    from kdcompress_evaluation.variants import VariantInfo

_DRAWS = 2000
_MIN_UTTERANCES = 5
"""Fewer utterances than this give no interval."""


def summarise_speed(record: SpeedRecord, name: str, baseline: str) -> Speed | None:
    """Derive the figures of one variant.

    Args:
        record: of the speed run.
        name: of the variant.
        baseline: name of the variant that speed-ups refer to.

    Returns:
        ``None`` when nothing was timed.
    """
    costs, against = record.variants.get(name), record.variants.get(baseline)
    if costs is None or not costs.timings:
        return None
    timings = costs.timings
    durations = np.array([utterance.duration or 0.0 for utterance in record.utterances[: len(timings)]])
    audio = bool((durations > 0).all())
    typical = np.array([np.median(timing.whole) for timing in timings])
    compared = None
    if against is not None and against.timings and name != baseline:
        compared = ratio(against.timings, timings)
    wall = sum(pacing.wall for pacing in costs.pacings)
    return Speed(
        utterances=len(timings),
        rounds=len(timings[0].whole),
        audio_seconds=float(durations.sum()),
        rtf_median=float(np.median(typical / durations)) if audio else None,
        rtf_total=float(typical.sum() / durations.sum()) if audio else None,
        per_second=float(len(typical) / typical.sum()),
        whole=Percentiles.of([seconds for timing in timings for seconds in timing.whole], 1000),
        speedup=compared,
        chunk=Percentiles.of([seconds for timing in timings for seconds in timing.chunks], 1000),
        paced=Percentiles.of([seconds for pacing in costs.pacings for seconds in pacing.chunks], 1000),
        paced_cpu=sum(pacing.cpu for pacing in costs.pacings) / wall if wall else None,
        final=Percentiles.of([seconds for timing in timings for seconds in timing.finals], 1000),
        parts=_parts(costs.parts, costs.profile),
        work=_work(costs.profile, record.peaks),
    )


def summarise_footprint(record: SpeedRecord | None, info: VariantInfo) -> Footprint:
    """Derive bytes and the cold start of one variant; without a record only its size is known."""
    costs = None if record is None else record.variants.get(info.name)
    sizes = None if costs is None else costs.sizes
    return Footprint(
        size_bytes=info.size_bytes,
        compressed_bytes=None if sizes is None else sizes.compressed,
        lm_bytes=0 if sizes is None else sizes.lm,
        runtime_bytes=None if sizes is None else sizes.runtime,
        memory=None if costs is None else costs.memory,
        cold_start=None if costs is None else _cold_start(costs),
    )


def summarise_run(record: SpeedRecord) -> SpeedRun:
    """Derive how speed was measured, with the noise of the machine."""
    costs = record.variants.get(record.baseline)
    noise = None
    if costs is not None and costs.timings and record.again is not None and record.again.timings:
        noise = ratio(costs.timings, record.again.timings)
    paced = [sum(pacing.wall for pacing in found.pacings) for found in record.variants.values()]
    return SpeedRun(
        machine=record.machine,
        threads=record.threads,
        pinned=record.pinned,
        noise=noise,
        peaks=record.peaks,
        paced_seconds=float(max(paced, default=0.0)),
        notes=record.notes,
        load_after=record.load_after,
    )


def ratio(above: Sequence[Timing], below: Sequence[Timing]) -> Estimate:
    """Median over utterances and rounds of times of one variant over another's, with its interval.

    The interval is that of the percentile bootstrap over utterances (2000 draws, a fixed seed): utterances are the
    units, since rounds of one of them are alike.
    """
    both = list(zip(above, below, strict=False))
    rounds = min(min(len(one.whole), len(other.whole)) for one, other in both)
    ratios = np.array([np.array(one.whole[:rounds]) / np.array(other.whole[:rounds]) for one, other in both])
    value = float(np.median(ratios))
    if len(ratios) < _MIN_UTTERANCES:
        return Estimate(value)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (_DRAWS, len(ratios)))
    medians = np.median(ratios[drawn].reshape(_DRAWS, -1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _parts(times: PartTimes | None, profile: GraphProfile | None) -> Parts | None:
    if times is None or not times.total:
        return None
    total, graph, decoder = (_milliseconds(column) for column in (times.total, times.graph, times.decoder))
    share = None if profile is None else profile.frontend_share
    spent = float(np.median(graph))
    return Parts(
        frontend=None if share is None else spent * share,
        model=spent if share is None else spent * (1 - share),
        decoder=float(np.median(decoder)),
        other=float(np.median(total - graph - decoder)),
    )


def _milliseconds(seconds: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(seconds, np.float64) * 1000


def _work(profile: GraphProfile | None, peaks: Peaks | None) -> Work | None:
    """Each kind of arithmetic is held against its own peak: a graph may use both."""
    if profile is None or profile.audio_seconds <= 0:
        return None
    macs = profile.float_macs + profile.int8_macs
    compute = memory = None
    if peaks is not None and profile.seconds > 0:
        compute = (profile.float_macs / peaks.float32 + profile.int8_macs / peaks.int8) / profile.seconds
        memory = profile.weight_bytes / peaks.memory / profile.seconds
    return Work(macs=macs / profile.audio_seconds, share_of_compute=compute, share_of_memory=memory)


def _cold_start(costs: VariantCosts) -> ColdStart | None:
    if not costs.cold_starts:
        return None
    imported, loaded, first = (
        float(np.median([1000 * getattr(times, name) for times in costs.cold_starts]))
        for name in ("imported", "loaded", "first")
    )
    return ColdStart(imported=imported, loaded=loaded, first=first, repeats=len(costs.cold_starts))
