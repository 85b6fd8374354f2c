#!/usr/bin/env python3
"""An hour of audio through 1 and 8 streams, with endpoints and resets: flat memory, no drift of times, nothing open.

Usage: python benchmarks/soak.py --bundle BUNDLE --manifest MANIFEST.jsonl [--lm LM.kdlm] [--minutes 60]
       [--streams 1 8] [--decoders greedy beam]

Each stream gets ``--minutes`` of audio, as fast as it is recognised: a lap of about a minute (recordings with the noise
of their rooms between), again and again. Every utterance ends by the endpoint rules and a ``reset``; every tenth lap
ends by ``flush`` and ``reset``, which begins the model anew. With more than one stream, ``decode_streams`` steps them
together; they begin one after another, so that batches hold streams of every age.

A lap is a whole number of chunks, so laps must agree: the words and times of every lap are compared with those of the
second (or, after a ``flush``, of the first), times less the laps before. At the end of each lap: resident memory, open
files, threads and seconds of work. Slope of the memory: least squares over the laps after a warm-up of a fifth; its
interval (95 %) resamples blocks of laps. Each way runs in a process of its own.

Rows go to benchmarks/results/stream; the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_stream import one_thread, write
from exit_codes import with_exit_code
from stream_audio import recordings, room_noise
from stream_worker import memory_mb

from kdcompress_runtime import Bundle, DecoderOptions, EndpointRules, Recognizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime import Result, Stream

HERE = Path(__file__).parent
LAP_SECONDS = 60.0
GAP_SECONDS = 1.2
FLUSH_EVERY = 10
"""Laps between two ``flush``."""
WARM_UP = 0.2
FLAT_MB = 1.0
"""Growth from the first tenth after the warm-up to the last that is not called growth."""
_RESAMPLES = 2000
_BLOCK = 5
"""Neighbouring laps that are resampled together."""

Heard = list[tuple[str, float, float]]
"""Words with begin and end in seconds."""


def lap_audio(manifest: Path, rate: int, chunk: int) -> NDArray[np.float32]:
    """About a minute of recordings and noise, a whole number of chunks; begins and ends with noise."""
    pieces: list[NDArray[np.float32]] = []
    total, seed = 0, 0
    for _, samples in recordings(manifest, rate, round(LAP_SECONDS)):
        if pieces and total + len(samples) > LAP_SECONDS * rate:
            break
        pieces += [room_noise(samples, GAP_SECONDS, rate, seed), samples]
        total, seed = sum(map(len, pieces)), seed + 1
    rest = round(GAP_SECONDS * rate)
    rest += -(total + rest) % chunk
    return np.concatenate([*pieces, room_noise(pieces[-1], rest / rate, rate, seed)])


class Laps:
    """What one stream heard, lap by lap, and how far laps of the same kind agree."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._heard: dict[int, Heard] = {}
        self._reference: dict[tuple[bool, bool], Heard] = {}
        self.compared, self.changed, self.words, self.drift_ms = 0, 0, 0, 0.0

    def hear(self, result: Result) -> None:
        """Sort the words of an utterance into laps by their begin."""
        for word in result.words:
            lap = int((word.begin + 1e-6) // self._period)
            shift = lap * self._period
            self._heard.setdefault(lap, []).append((word.text, word.begin - shift, word.end - shift))

    def finish(self, lap: int) -> None:
        """Compare lap ``lap`` (from 0), of which nothing more will come; laps are forgotten then."""
        heard = self._heard.pop(lap, [])
        # Its kind: whether the model began anew with it, and whether a flush ended it.
        kind = (lap % FLUSH_EVERY == 0, lap % FLUSH_EVERY == FLUSH_EVERY - 1)
        reference = self._reference.setdefault(kind, heard)
        if reference is heard:
            return
        self.compared += 1
        self.words += len(heard)
        if [word for word, *_ in heard] != [word for word, *_ in reference]:
            self.changed += 1
            return
        for one, other in zip(heard, reference, strict=True):
            self.drift_ms = max(self.drift_ms, 1000 * abs(one[1] - other[1]), 1000 * abs(one[2] - other[2]))


class Runner:
    """One stream and its endless audio."""

    def __init__(self, stream: Stream, lap: NDArray[np.float32], rate: int, chunk: int, delay: int) -> None:
        self.stream = stream
        self.laps = Laps(len(lap) / rate)
        self._lap, self._rate, self._chunk = lap, rate, chunk
        self._fed = -delay * chunk
        self.utterances = 0

    def feed(self) -> None:
        """Give the stream its next chunk, once its turn has come."""
        if self._fed >= 0:
            start = self._fed % len(self._lap)
            self.stream.accept_waveform(self._lap[start : start + self._chunk], self._rate, decode=False)
        self._fed += self._chunk

    def take_endpoint(self) -> bool:
        """Keep the result of an utterance that ended; whether one did."""
        if not self.stream.is_endpoint():
            return False
        self._take()
        return True

    def end_lap(self) -> int:
        """How many laps are through if one has just ended, else 0; flushes after every tenth."""
        if self._fed <= 0 or self._fed % len(self._lap):
            return 0
        laps = self._fed // len(self._lap)
        flushed = laps % FLUSH_EVERY == 0
        if flushed:
            self.stream.flush()
            self._take()
        # The last utterance of a lap may end in the next.
        for lap in ([laps - 2] if laps > 1 else []) + ([laps - 1] if flushed else []):
            if not (lap % FLUSH_EVERY == FLUSH_EVERY - 1 and lap == laps - 2):  # a flush has finished that one
                self.laps.finish(lap)
        return laps

    def _take(self) -> None:
        self.laps.hear(self.stream.result())
        self.utterances += 1
        self.stream.reset(decode=False)


def soak(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run one way; its rows and what came of its laps."""
    bundle = Path(settings["bundle"])
    options = {"precision": settings["precision"], "decoder": DecoderOptions(kind=settings["decoder"])}
    options |= {"endpoint": EndpointRules(), "lm": settings["lm"]}
    recognizer = Recognizer.from_dir(bundle, **options)
    source, count = recognizer.metadata.input, settings["streams"]
    rate, chunk = source.sample_rate or 16000, recognizer.chunk_frames * source.units_per_frame
    lap = lap_audio(Path(settings["manifest"]), rate, chunk)
    delay = max(1, len(lap) // chunk // (4 * count))
    runners = [Runner(recognizer.create_stream(), lap, rate, chunk, index * delay) for index in range(count)]
    laps = max(2, round(settings["minutes"] * 60 * rate / len(lap)))
    rows, begun = [], time.perf_counter()
    for _ in range(laps * (len(lap) // chunk)):
        step(recognizer, runners)
        ended = [runner.end_lap() for runner in runners]
        if ended[0]:
            rows.append({"lap": ended[0], "audio_minutes": ended[0] * len(lap) / rate / 60, **inventory()})
            rows[-1]["work_seconds"] = time.perf_counter() - begun
            begun = time.perf_counter()
    heard = [runner.laps for runner in runners]
    return {
        "rows": rows,
        "utterances": sum(runner.utterances for runner in runners),
        "laps_compared": sum(one.compared for one in heard),
        "laps_changed": sum(one.changed for one in heard),
        "words_compared": sum(one.words for one in heard),
        "drift_ms": max(one.drift_ms for one in heard),
    }


def step(recognizer: Recognizer, runners: Sequence[Runner]) -> None:
    """One chunk for every stream, and all utterances that end in it."""
    for runner in runners:
        runner.feed()
    streams = [runner.stream for runner in runners]
    recognizer.decode_streams(streams)
    while ended := [runner.stream for runner in runners if runner.take_endpoint()]:
        recognizer.decode_streams(ended)


def inventory() -> dict[str, Any]:
    """What the process holds."""
    files, tasks = Path("/proc/self/fd"), Path("/proc/self/task")
    return {
        "rss_mb": memory_mb(),
        "open_files": len(list(files.iterdir())) if files.is_dir() else None,
        "threads": len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count(),
    }


def judge(found: Mapping[str, Any]) -> dict[str, Any]:
    """Slope of the memory with its interval, growth, and whether files and threads stayed; after the warm-up."""
    rows = found["rows"]
    rows = rows[min(max(1, round(WARM_UP * len(rows))), len(rows) - 1) :]
    hours = np.array([row["audio_minutes"] for row in rows]) / 60
    memory = np.array([row["rss_mb"] or 0.0 for row in rows])
    work = np.array([row["work_seconds"] for row in rows])
    tenth = max(1, len(rows) // 10)
    first, last = float(np.median(memory[:tenth])), float(np.median(memory[-tenth:]))
    slope, low, high = slope_of(hours, memory)
    half = len(rows) // 2
    return {
        "memory_ratio": last / first if first else 1.0,
        "first_mb": first,
        "last_mb": last,
        "mb_per_hour": slope,
        "mb_per_hour_low": low,
        "mb_per_hour_high": high,
        "mb_per_hour_second_half": slope_of(hours[half:], memory[half:])[0],
        "work_ratio": float(np.median(work[-tenth:]) / np.median(work[:tenth])),
        "open_files": sorted({row["open_files"] for row in rows}),
        "threads": sorted({row["threads"] for row in rows}),
        **{key: value for key, value in found.items() if key != "rows"},
    }


def slope_of(hours: NDArray[np.float64], memory: NDArray[np.float64]) -> tuple[float, float, float]:
    """MB an hour by least squares; the interval resamples the residuals in blocks, which keeps slow waves whole."""
    if len(hours) < 3:
        return 0.0, 0.0, 0.0
    fit = np.polyfit(hours, memory, 1)
    line = np.polyval(fit, hours)
    block = min(_BLOCK, len(hours))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(hours) - block + 1, (_RESAMPLES, -(-len(hours) // block)))
    picked = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, : len(hours)]
    slopes = np.polyfit(hours, (line + (memory - line)[picked]).T, 1)[0]
    low, high = np.percentile(slopes, [2.5, 97.5])
    return float(fit[0]), float(low), float(high)


def markdown(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a way."""
    table = [
        "| way | memory MB | MB an hour (95 %) | second half | laps | changed | drift ms | work | files | threads |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for name, one in lines.items():
        slope = f"{one['mb_per_hour']:+.2f} ({one['mb_per_hour_low']:+.2f} to {one['mb_per_hour_high']:+.2f})"
        table.append(
            f"| {name} | {one['first_mb']:.1f} to {one['last_mb']:.1f} | {slope} | "
            f"{one['mb_per_hour_second_half']:+.2f} | {one['laps_compared']} | "
            f"{one['laps_changed']} | {one['drift_ms']:.3f} | {one['work_ratio']:.2f} | "
            f"{', '.join(map(str, one['open_files']))} | {', '.join(map(str, one['threads']))} |"
        )
    table.append(
        "\nMemory and work (seconds a lap, last / first): medians of the first and the last tenth. Laps: compared."
    )
    return "\n".join(table) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--precision", help="the bundle's default when left out")
    parser.add_argument("--lm", type=Path, help="language model for the beam; left out: none")
    parser.add_argument("--minutes", type=float, default=60.0, help="audio for each stream")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--decoders", nargs="+", choices=["greedy", "beam"], default=["greedy", "beam"])
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stream")
    return parser.parse_args(arguments)


@with_exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    """Soak each way in a process of its own, write rows and table, print JSON as the last line."""
    args = parse(arguments)
    precision = args.precision or Bundle.open(args.bundle).metadata.default_precision
    rows, lines = [], {}
    for decoder in args.decoders:
        for count in args.streams:
            lm = str(args.lm) if args.lm is not None and decoder == "beam" else None
            way = {"decoder": decoder, "streams": count, "lm": lm, "precision": precision, "minutes": args.minutes}
            order = {**way, "bundle": str(args.bundle), "manifest": str(args.manifest)}
            command = [sys.executable, __file__, "--way", json.dumps(order)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=one_thread())
            if done.returncode:
                raise SystemExit(f"a way ended with {done.returncode}; its message stands above")
            found = json.loads(done.stdout.splitlines()[-1])
            name = f"{decoder}{' + LM' if lm else ''}, {count} stream{'s' * (count > 1)}"
            lines[name] = judge(found)
            rows += [{"way": name, **row} for row in found["rows"]]
            print(f"{name}: {json.dumps(lines[name])}", file=sys.stderr, flush=True)
    name = f"soak-{args.bundle.name.removesuffix('-bundle')}"
    flat = all(abs(one["last_mb"] - one["first_mb"]) < FLAT_MB for one in lines.values())
    ended = {
        "ratio": max(one["memory_ratio"] for one in lines.values()),
        "flat": flat,
        "drift_ms": max(one["drift_ms"] for one in lines.values()),
        "laps_changed": sum(one["laps_changed"] for one in lines.values()),
        "minutes": args.minutes,
        "precision": precision,
        "ways": lines,
    }
    write(args.output / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(args.output / f"{name}.md", f"{args.minutes:g} minutes of audio a stream, {precision}.\n\n{markdown(lines)}")
    write(args.output / f"{name}.json", json.dumps(ended, indent=1) + "\n")
    print(markdown(lines))
    print(json.dumps(ended))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(soak(json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
