"""A report made by hand: few variants, every part filled, numbers that can be told apart. Nothing is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdcompress_evaluation import summary as s
from kdcompress_evaluation.bootstrap import Estimate
from kdcompress_evaluation.cost import ColdStart, Footprint, Memory, Parts, Peaks, Speed, SpeedRun, Work
from kdcompress_evaluation.machine import Machine
from kdcompress_evaluation.metrics import MetricInfo
from kdcompress_evaluation.percentiles import Percentiles
from kdcompress_evaluation.scoring import NORMALISERS, ErrorCounts, word_diff
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_evaluation.verdict import decide

WER = MetricInfo("wer", "WER", "word error rate", "%", lower_is_better=True, scorer="jiwer 4.0.0")
CER = MetricInfo("cer", "CER", "character error rate", "%", lower_is_better=True, scorer="jiwer 4.0.0")
BASE, SMALL, TINY, TEACHER, CLOUD = "base-float32", "small-int8", "tiny-int8", "teacher-float32", "cloud"
HOSTILE = "<script>alert('x')</script> | `a` *b* _c_ [d](http://e) & ~f~"
MACHINE = Machine(
    cpu="AMD EPYC 9B45",
    cores=2,
    isa=("avx2", "avx512_vnni"),
    memory_bytes=8_200_000_000,
    system="Linux 6.1.0 x86_64",
    load_average=0.41,
    python="3.11.2",
    versions={"kdcompress": "0.1.0", "onnxruntime": "1.31.1", "jiwer": "4.0.0"},
    cache_bytes=33_554_432,
    governor="performance",
    turbo=True,
    virtual=True,
)


def variant_info(name: str, number: int, size: int | None, kind: str = "bundle") -> VariantInfo:
    ours = kind == "bundle"
    named = {role: {"manifest": f"{role}.jsonl", "fingerprint": role} for role in ("train", "calibration")}
    data: dict[str, object] = {"data": named} if ours else {}
    return VariantInfo(
        name=name,
        kind=kind,
        anchor=name in {TEACHER, CLOUD},
        task="speech",
        input_kind="audio",
        bundle_name=name.rpartition("-")[0] or name,
        bundle_path=f"runs/{name}",
        precision=name.rpartition("-")[2] if ours else "",
        engine="onnxruntime 1.31.1" if ours else "",
        format_version=4 if ours else None,
        files={"model.onnx": f"{number:x}a" * 32, "bundle.json": f"{number:x}b" * 32},
        model_file="model.onnx",
        model_sha256=f"{number:x}a" * 32,
        tokens_sha256="ef" * 32,
        geometry_sha256="cd" * 32,
        size_bytes=size,
        parameters=1_000_000 + number if ours else None,
        sample_rate=16_000 + number if ours else None,
        lookahead_ms=160.5 if ours else None,
        chunk_ms=320.5 if ours else None,
        provenance={"recipe": "sentences", "method": f"method {number}", "licence": "MIT", "teachers": ["t"], **data},
        measured={"accuracy": {"wer": 0.123456}},
    )


def estimate(value: float, width: float = 0.01) -> Estimate:
    return Estimate(value, value - width, value + 1.25 * width)


def percentiles(first: float, count: int = 500) -> Percentiles:
    return Percentiles(count, first, first * 1.5, first * 1.75, first * 2.5)


def accuracy(rate: float, gap: float | None, number: int) -> s.Accuracy:
    difference = {
        "wer": s.Difference(estimate(gap or 0.0, 0.003), 0.0123 + number / 1000, 0.0456 + number / 1000),
        "cer": s.Difference(estimate((gap or 0.0) / 2, 0.002), 0.00012, None),
    }
    return s.Accuracy(
        utterances=800 + number,
        failures=3 + number,
        timeouts=1 + number,
        empty=20 + number,
        empty_references=40 + number,
        audio_seconds=2712.5 + number,
        words=ErrorCounts(9000 + number, 410 + number, 220 + number, 130 + number),
        characters=ErrorCounts(39_000 + number, 910 + number, 720 + number, 630 + number),
        metrics={"wer": estimate(rate), "cer": estimate(rate / 3)},
        differences={} if gap is None else difference,
    )


def speed(number: int) -> Speed:
    return Speed(
        utterances=24,
        rounds=5,
        audio_seconds=88.25,
        rtf_median=0.011 + number / 100,
        rtf_total=0.012 + number / 100,
        speedup=None if number == 1 else estimate(1.5 * number, 0.04),
        chunk=percentiles(3.5 * number),
        paced=percentiles(5.25 * number, 38),
        paced_cpu=0.0375 * number,
        final=percentiles(6.125 * number, 120),
        parts=Parts(0.24, 1.125 * number, 0.07, 0.04),
        work=Work(25_200_000.0 * number, 0.17, 0.031),
    )


def footprint(number: int, size: int | None) -> Footprint:
    memory = Memory(41_000_001, 52_000_002 + number, 55_000_003 + number, 88_000_004 * number, 50_000_005)
    cold = ColdStart(142.5, 11.25 * number, 9.125, 3)
    if size is None:
        return Footprint(None, None, 0, None, None, None)
    return Footprint(size, int(0.9 * size), 1001, 59_000_006, memory, cold)


def streaming(number: int) -> s.Streaming:
    return s.Streaming(
        utterances=799,
        difference=estimate(0.0004 * number, 0.0011),
        texts_equal=790 + number,
        splits=100,
        splits_equal=90 + number,
        first_partial=percentiles(0.53),
        emission=percentiles(0.34),
        word_times="recogniser",
        revised=0.0211 * number,
        final=percentiles(1.625 * number),
        endpointing=s.Endpointing(98, percentiles(0.84), 2, 5),
    )


def utterance(number: int, reference: str, hypothesis: str, baseline: str | None) -> s.WorstUtterance:
    normaliser = NORMALISERS["plain"]

    def errors(text: str) -> float:
        pieces = word_diff(reference, text, normaliser)
        return float(sum(max(len(p.reference.split()), len(p.hypothesis.split())) for p in pieces if p.kind != "equal"))

    return s.WorstUtterance(
        manifest="clean",
        id=f"u{number:04d}",
        input=f"audio/u{number:04d}.flac",
        speaker=f"speaker {number}",
        duration=2.5 + number,
        errors=errors(hypothesis),
        baseline_errors=None if baseline is None else errors(baseline),
        words=len(reference.split()),
        reference=reference,
        hypothesis=hypothesis,
        baseline_hypothesis=baseline,
        diff=word_diff(reference, hypothesis, normaliser),
    )


def variant_summary(info: VariantInfo, number: int, rate: float) -> s.VariantSummary:
    base, ours = info.name == BASE, info.kind == "bundle"
    gap = None if base else rate - 0.0712
    comparison = s.Comparison(
        better=60 + number,
        same=700,
        worse=40 + number,
        not_worse=estimate(0.95 - number / 1000),
        shift={"substitutions": 0.0021 * number, "deletions": -0.0013 * number, "insertions": 0.0007 * number},
    )
    return s.VariantSummary(
        info=info,
        pooled=accuracy(rate, gap, number),
        manifests={
            "clean": accuracy(0.7 * rate, None if gap is None else 0.7 * gap, number + 10),
            "noisy": accuracy(1.3 * rate, None if gap is None else 1.3 * gap, number + 20),
        },
        comparison=None if base else comparison,
        streaming=streaming(number) if ours else None,
        speed=speed(number) if ours else None,
        footprint=footprint(number, info.size_bytes),
        fronts={"size": ours, "latency": not base if ours else None, "memory": None},
    )


def slices() -> tuple[s.Slice, ...]:
    def rates(value: float) -> dict[str, s.SliceRate]:
        found = {BASE: s.SliceRate(estimate(value, 0.02), None)}
        for number, name in enumerate((SMALL, TINY, TEACHER, CLOUD), start=1):
            moved = 0.0013 * number
            found[name] = s.SliceRate(estimate(value + moved, 0.02), estimate(moved, 0.004))
        return found

    return (
        s.Slice("duration", "2 to 4 s", 321, 2345, rates(0.0613)),
        s.Slice("duration", "4 to 8 s", 479, 6789, rates(0.0817)),
        s.Slice("accent", HOSTILE, 11, 99, rates(0.21)),
    )


REFERENCE = "please turn the kitchen lights down a little"
WORSE = utterance(7, REFERENCE, "please turn the kitten lights little oh", REFERENCE)
BETTER = utterance(8, "she was nine by the sea", "she was nine by the sea", "he was by the sea see")
WORST = utterance(9, HOSTILE, "nothing like it", "nothing")


def make_summary(budget: str = "size<=3MB,dwer<=0.5,paced_p95<=20ms,rss<=300MB") -> s.Summary:
    sizes = {BASE: 6_100_000, SMALL: 1_700_000, TINY: 600_000, TEACHER: 48_000_000, CLOUD: None}
    rates = {BASE: 0.0712, SMALL: 0.0715, TINY: 0.0911, TEACHER: 0.0489, CLOUD: 0.0623}
    infos = tuple(
        variant_info(name, number, size, "predictions" if name == CLOUD else "bundle")
        for number, (name, size) in enumerate(sizes.items(), start=1)
    )
    run = s.RunInfo(
        variants=infos,
        baseline=BASE,
        manifests=(
            s.ManifestInfo("clean", "data/clean.jsonl", "5a" * 32, 401),
            s.ManifestInfo("noisy", "data/noisy.jsonl", "c1" * 32, 402),
        ),
        task="speech",
        decoder={"kind": "greedy", "blank_penalty": 0.0},
        normaliser="plain",
        resamples=2000,
        seed=17,
        tolerance=0.005,
        budget=budget,
        candidates=(),
        slices=("accent",),
        command="kdcompress eval runs/base -o 'report `x`'",
        device_note="a shared virtual machine",
        machine=MACHINE,
        created="2026-11-20T21:40:00+00:00",
        streaming={"every": 1, "splits": 100},
    )
    variants = tuple(variant_summary(i, n, rates[i.name]) for n, i in enumerate(infos, start=1))
    others = [name for name in sizes if name != BASE]
    return s.Summary(
        run=run,
        metrics=(WER, CER),
        headline=f"{SMALL} is the best trade-off: 28 % of the size of {BASE}.",
        reason="Nothing else is of its size.",
        chosen=SMALL,
        verdict=decide(run, variants, (WER, CER)),
        variants=variants,
        broken=(s.BrokenVariant("models/half.zip", "bundle.json is missing"),),
        slices=slices(),
        worst={name: (WORST, replace(WORSE, errors=4.0)) for name in sizes},
        regressions=dict.fromkeys(others, (WORSE,)),
        improvements=dict.fromkeys(others, (BETTER,)),
        failures=(
            s.Failure("clean", "u0100", "input", "audio/u0100.flac: no such file", tuple(sizes)),
            s.Failure("noisy", "u0101", "timeout", "not done after 60 s", (TINY,)),
        ),
        failure_count=2,
        overlaps=(
            s.Overlap("base", "train", "clean", "content", "9,120 items of train.jsonl, one by one", 0, 0, 14),
            s.Overlap("base", "calibration", "clean", "content", "9,120 items of train.jsonl, one by one", 0, 0, 14),
            s.Overlap("base", "train", "noisy", "none", "train.jsonl is not here", None, None, None),
            s.Overlap("tiny", "tuning", "noisy", "fingerprint", "the very same set", 402, 13, 377),
        ),
        resampled_by="speaker",
        speed_run=SpeedRun(
            machine=MACHINE,
            threads=1,
            pinned=(1,),
            noise=Estimate(1.0021, 0.9811, 1.0222),
            peaks=Peaks(float32=31e9, int8=118e9, memory=14e9),
            paced_seconds=12.0,
            notes=("tiny-int8: its graph could not be profiled",),
            load_after=0.52,
        ),
        notes=("2 utterances could not be recognised by at least one variant.", "The machine was busy."),
    )


@pytest.fixture
def summary() -> s.Summary:
    return make_summary()
