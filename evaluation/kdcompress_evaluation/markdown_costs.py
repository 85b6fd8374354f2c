"""Sections of ``report.md`` about what recognising costs: trade-offs, streams, speed, footprint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_evaluation import words
from kdcompress_evaluation.markdown_text import moved, of, ratio, share, spread, table, text
from kdcompress_evaluation.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress_evaluation.cost import Speed, SpeedRun
    from kdcompress_evaluation.summary import Streaming, Summary, VariantSummary
    from kdcompress_evaluation.variants import VariantInfo

_STATES = {True: "front", False: "beaten", None: words.MISSING}
_CHUNK = ("p50", "p95", "p99", "highest")
_SPREAD = "p50 / p95 / p99 / max"


def trade_offs(summary: Summary) -> Iterator[str]:
    """Who is on which front; the plots are in the page."""
    if len(summary.variants) < 2:
        return
    yield "## Trade-offs"
    yield ""
    yield (
        f"Front: no other variant is at least as good in {summary.primary.short} and in this cost, and better in one. "
        "The plots are in report.html."
    )
    yield ""
    fronts = {"size": "size", "latency": f"{TASKS[summary.run.task].step} p95", "memory": "peak memory"}
    rows = [[text(v.info.name), *(_STATES[v.fronts.get(name)] for name in fronts)] for v in summary.variants]
    yield from table(("variant", *fronts.values()), rows, left=4)


def streaming(summary: Summary) -> Iterator[str]:
    """What a stream does to the texts, and how long one waits for them."""
    streamed = [(v.info.name, v.streaming) for v in summary.variants if v.streaming is not None]
    if not streamed:
        return
    yield "## Streaming"
    yield ""
    head = (
        "variant", "stream − whole, points (95 % interval)", "same text", "same in random pieces",
        "first partial p50 / p95 s", "word stands p50 / p95 / p99 s", "taken back %",
        "end to result p50 / p95 / p99 ms", "endpoint p50 / p95 s", "early", "missed",
    )  # fmt: skip
    yield from table(head, [_stream(name, found) for name, found in streamed])
    said = " or ".join(sorted({found.word_times for _, found in streamed} - {""}))
    yield (
        "Seconds are of audio: from the beginning of the first word to the first partial text; from the end of a word"
        f"{f' (as the {said} says)' if said else ''} to the moment since which it stands; from the end of "
        "speech to the endpoint. Milliseconds are of computing. Taken back: words of partial texts that the next one "
        "did not have any more, of the final words."
    )
    yield ""


def _stream(name: str, found: Streaming) -> tuple[str, ...]:
    ends = found.endpointing
    return (
        text(name),
        moved(found.difference),
        of(found.texts_equal, found.utterances),
        of(found.splits_equal, found.splits),
        spread(found.first_partial, ("p50", "p95")),
        spread(found.emission, ("p50", "p95", "p99")),
        words.percent(found.revised, 1),
        spread(found.final, ("p50", "p95", "p99")),
        spread(None if ends is None else ends.wait, ("p50", "p95")),
        words.MISSING if ends is None else of(ends.early, ends.utterances),
        words.MISSING if ends is None else of(ends.missed, ends.utterances),
    )


def speed(summary: Summary) -> Iterator[str]:
    """Times, where they go, and how they were measured."""
    timed = [(v.info, v.speed) for v in summary.variants if v.speed is not None]
    if not timed:
        return
    yield "## Speed"
    yield ""
    task = TASKS[summary.run.task]
    if task.chunked:
        head: tuple[str, ...] = (
            "variant", "times as fast (95 % interval)", "RTF median", "RTF total", "chunk p50 / p95 / p99 / max ms",
            "paced p50 / p95 / p99 / max ms", "CPU paced", "end to result p95 ms",
        )  # fmt: skip
        yield from table(head, [_times(info, found) for info, found in timed])
    else:
        head = ("variant", "times as fast (95 % interval)", f"{task.unit}s a second", f"a {task.unit}: {_SPREAD} ms")
        yield from table(head, [_whole_times(info, found) for info, found in timed])
    head = (
        "variant", "frontend ms", "model ms", "decoder ms", "other ms",
        f"M MAC {'a second of audio' if task.chunked else f'a {task.unit}'}", "of peak compute",
        "of peak memory bandwidth",
    )  # fmt: skip
    yield from table(head, [_parts(info, found) for info, found in timed])
    if summary.speed_run is not None:
        yield _conditions(summary.speed_run)
        yield ""


def _times(info: VariantInfo, found: Speed) -> tuple[str, ...]:
    return (
        text(info.name),
        ratio(found.speedup, "baseline"),
        words.number(found.rtf_median, 5),
        words.number(found.rtf_total, 5),
        spread(found.chunk, _CHUNK) if info.streaming else "not streaming",
        spread(found.paced, _CHUNK),
        share(found.paced_cpu, 1),
        spread(found.final, ("p95",)),
    )


def _whole_times(info: VariantInfo, found: Speed) -> tuple[str, ...]:
    return (
        text(info.name),
        ratio(found.speedup, "baseline"),
        words.rate(found.per_second),
        spread(found.whole, _CHUNK),
    )


def _parts(info: VariantInfo, found: Speed) -> tuple[str, ...]:
    parts, work = found.parts, found.work
    return (
        text(info.name),
        words.milliseconds(None if parts is None else parts.frontend),
        words.milliseconds(None if parts is None else parts.model),
        words.milliseconds(None if parts is None else parts.decoder),
        words.milliseconds(None if parts is None else parts.other),
        words.MISSING if work is None else f"{work.macs / 1e6:.1f}",
        share(None if work is None else work.share_of_compute, 1),
        share(None if work is None else work.share_of_memory, 1),
    )


def _conditions(run: SpeedRun) -> str:
    pinned = ", ".join(map(str, run.pinned))
    told = [
        f"Variants in turn, {words.plural(run.threads, 'thread')}, "
        + (f"held to CPU {pinned}" if pinned else "not held to a CPU")
    ]
    if run.paced_seconds:
        told.append(f"paced: {run.paced_seconds:.1f} s of audio a variant, chunks in real time")
    if run.noise is not None:
        told.append(f"noise floor (the baseline against a copy of itself): {ratio(run.noise)} times as fast")
    if run.peaks is not None:
        peaks = run.peaks
        told.append(
            f"peaks measured on one thread: {peaks.float32 / 1e9:.1f} G MAC/s float32, {peaks.int8 / 1e9:.1f} G MAC/s "
            f"int8, {peaks.memory / 1e9:.1f} GB/s"
        )
    return "; ".join(told) + "."


def footprint(summary: Summary) -> Iterator[str]:
    """Bytes on disk and in memory, and the cold start."""
    yield "## Footprint"
    yield ""
    head = (
        "variant", "M parameters", "MB to ship", "compressed", "LM MB", "runtime MB",
        "memory loaded / steady / peak MB", "PSS MB", "cold start: import + load + first token ms",
    )  # fmt: skip
    yield from table(head, [_bytes(variant) for variant in summary.variants])


def _bytes(variant: VariantSummary) -> tuple[str, ...]:
    found = variant.footprint
    memory, cold = found.memory, found.cold_start
    steps = (
        words.MISSING
        if cold is None
        else f"{cold.imported:.0f} + {cold.loaded:.0f} + {cold.first:.0f} = {cold.total:.0f}"
    )
    held = () if memory is None else (memory.loaded, memory.steady, memory.peak)
    return (
        text(variant.info.name),
        words.millions(variant.info.parameters),
        words.megabytes(found.size_bytes or None),
        words.megabytes(found.compressed_bytes),
        words.megabytes(found.lm_bytes) if found.lm_bytes else words.MISSING,
        words.megabytes(found.runtime_bytes, 0),
        " / ".join(words.megabytes(count, 0) for count in held) or words.MISSING,
        words.megabytes(None if memory is None else memory.pss, 0),
        steps,
    )
