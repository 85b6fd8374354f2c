"""Figures of the report from raw times made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kdcompress_evaluation.cost import Peaks
from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.records import dumps, load
from kdcompress_evaluation.speed import SpeedRecord, summarise_run, summarise_speed
from kdcompress_evaluation.speed.record import (
    ColdTimes,
    GraphProfile,
    Pacing,
    PartTimes,
    TimedUtterance,
    Timing,
    VariantCosts,
)
from kdcompress_evaluation.speed.summary import ratio


def timings(*whole: tuple[float, ...]) -> tuple[Timing, ...]:
    return tuple(Timing(rounds, (0.001, 0.003), (0.002,) * len(rounds)) for rounds in whole)


def record(**variants: VariantCosts) -> SpeedRecord:
    utterances = tuple(TimedUtterance("m", str(i), "x", d) for i, d in enumerate((10.0, 20.0)))
    return SpeedRecord({}, describe_machine(), "base", utterances, (), variants=variants)


def test_numbers_from_raw_times():
    found = record(
        base=VariantCosts(timings=timings((1.0, 3.0), (4.0, 4.0))),
        new=VariantCosts(timings=timings((0.5, 0.5), (1.0, 1.0))),
        idle=VariantCosts(),
    )
    base, new = (summarise_speed(found, name, "base") for name in ("base", "new"))
    assert base is not None
    assert base.rtf_median == pytest.approx(0.2)
    assert base.rtf_total == pytest.approx(6 / 30)
    assert base.speedup is None
    assert base.chunk is not None
    assert (base.chunk.count, base.chunk.p50, base.chunk.highest) == (4, pytest.approx(2.0), pytest.approx(3.0))
    assert base.final is not None
    assert base.final.p95 == pytest.approx(2.0)
    assert (base.paced, base.paced_cpu, base.parts, base.work) == (None, None, None, None)
    assert new is not None
    assert new.speedup is not None
    assert new.speedup.value == pytest.approx(4.0)
    assert (new.speedup.low, new.speedup.high) == (None, None)  # two utterances give no interval
    assert summarise_speed(found, "unknown", "base") is None
    assert summarise_speed(found, "idle", "base") is None


def test_a_run_cut_short_is_summed_up_as_far_as_it_came():
    found = record(base=VariantCosts(timings=timings((1.0, 3.0))))
    speed = summarise_speed(found, "base", "base")
    assert speed is not None
    assert (speed.utterances, speed.audio_seconds) == (1, 10.0)
    assert speed.rtf_total == pytest.approx(0.2)


def test_paced_chunks_and_the_share_of_a_core():
    paced = (Pacing((0.001, 0.002), 0.1, 0.5), Pacing((0.003,), 0.1, 1.5))
    costs = VariantCosts(timings=timings((1.0,), (1.0,)), pacings=paced)
    speed = summarise_speed(record(base=costs), "base", "base")
    assert speed is not None
    assert speed.paced is not None
    assert (speed.paced.count, speed.paced.p50) == (3, pytest.approx(2.0))
    assert speed.paced_cpu == pytest.approx(0.1)
    assert summarise_run(record(base=costs)).paced_seconds == pytest.approx(2.0)


def profile(**changes: object) -> GraphProfile:
    return replace(GraphProfile(0.5, 200.0, 800.0, 4000.0, 0.25, None, ()), **changes)  # type: ignore[arg-type]


def test_parts_add_up_to_the_chunk_and_the_frontend_is_a_share_of_the_graph():
    times = PartTimes((0.010, 0.012, 0.011), (0.006, 0.008, 0.007), (0.001, 0.001, 0.001))
    costs = VariantCosts(timings=timings((1.0,), (1.0,)), parts=times, profile=profile(frontend_share=0.25))
    speed = summarise_speed(record(base=costs), "base", "base")
    assert speed is not None
    parts = speed.parts
    assert parts is not None
    assert parts.frontend == pytest.approx(1.75)
    assert parts.model == pytest.approx(5.25)
    assert (parts.decoder, parts.other) == (pytest.approx(1.0), pytest.approx(3.0))
    unmarked = replace(costs, profile=profile())
    speed = summarise_speed(record(base=unmarked), "base", "base")
    assert speed is not None
    assert speed.parts is not None
    assert speed.parts.frontend is None
    assert speed.parts.model == pytest.approx(7.0)


def test_work_is_held_against_the_peak_of_each_arithmetic():
    costs = VariantCosts(timings=timings((1.0,), (1.0,)), profile=profile())
    found = record(base=costs)
    speed = summarise_speed(found, "base", "base")
    assert speed is not None
    assert speed.work is not None
    assert speed.work.macs == pytest.approx(2000.0)
    assert (speed.work.share_of_compute, speed.work.share_of_memory) == (None, None)
    speed = summarise_speed(replace(found, peaks=Peaks(8000.0, 16000.0, 64000.0)), "base", "base")
    assert speed is not None
    assert speed.work is not None
    assert speed.work.share_of_compute == pytest.approx((200 / 8000 + 800 / 16000) / 0.25)
    assert speed.work.share_of_memory == pytest.approx(4000 / 64000 / 0.25)


def test_the_noise_of_a_machine_is_found_and_so_is_a_real_difference():
    generator = np.random.default_rng(1)

    def noisy(factor: float) -> tuple[Timing, ...]:
        return tuple(Timing(tuple(factor * generator.lognormal(0, 0.05, 3)), (), ()) for _ in range(20))

    base = noisy(1.0)
    same, faster = ratio(base, noisy(1.0)), ratio(base, noisy(0.8))
    assert same.low is not None
    assert same.high is not None
    assert same.low < 1.0 < same.high
    assert same.high - same.low < 0.15
    assert faster.low is not None
    assert faster.high is not None
    assert 1.15 < faster.low < faster.high < 1.35
    found = replace(record(base=VariantCosts(timings=base)), again=VariantCosts(timings=base))
    noise = summarise_run(found).noise
    assert noise is not None
    assert (noise.value, noise.low, noise.high) == (1.0, 1.0, 1.0)


def test_the_record_comes_back_as_it_was_written(tmp_path):
    costs = VariantCosts(timings=timings((1.0, 2.0)), cold_starts=(ColdTimes(0.1, 0.2, 0.3),), profile=profile())
    written = replace(record(base=costs), pinned=(1,), notes=("a",), again=costs)
    (tmp_path / "speed.json").write_text(dumps(written), encoding="utf-8")
    assert load(SpeedRecord, tmp_path / "speed.json") == written
