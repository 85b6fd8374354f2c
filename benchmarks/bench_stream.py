#!/usr/bin/env python3
"""The same student in our runtime and in sherpa-onnx: what a chunk costs, one thread, back-to-back and paced.

Usage: python benchmarks/bench_stream.py --bundle BUNDLE [--bundle BUNDLE] --manifest MANIFEST.jsonl
       [--chunks 160 320 640] [--precisions float32 int8] [--rounds 8] [--paced-rounds 3] [--quick]

Timed on both sides, for each chunk of audio at the model's rate: handing it over, all computation that became possible,
and fetching the text so far. Ours: ``accept_waveform``, ``partial_result``. sherpa-onnx: ``accept_waveform``,
``decode_stream`` while ``is_ready``, ``get_result``. Both greedy, float32 samples, one thread, graphs with the same
weights and chunks of the same frames, each engine in a process of its own, taking turns: ``back-to-back`` (a chunk
follows the last at once; a turn begins with one recording that is not timed) and ``paced`` (a chunk comes when it
would have been spoken, so caches and clocks cool in between).

Real-time factor: seconds of a whole turn, streams opened and finished, for a second of audio. CPU share: CPU seconds
of the process for a second of wall time, paced. Peak memory: of the process, models and recordings among it.
Rows and tables go to benchmarks/results/stream; the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from exit_codes import with_exit_code
from stream_tables import configurations, parts_markdown, stream_markdown, summary

from kdcompress_runtime import Bundle, read_audio, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_runtime import BundleMetadata

HERE = Path(__file__).parent
ENGINES = ("ours", "sherpa")
MODES = ("back-to-back", "paced")
LEAST_SECONDS = 2.0
"""Shorter recordings are left out: a stream of one chunk says nothing about streaming."""


class Worker:
    """``stream_worker.py`` with one engine; answers orders one at a time."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        command = [sys.executable, str(HERE / "stream_worker.py"), json.dumps(settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread()
        )
        self.started = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)

    def turn(self, pace: float, count: int) -> dict[str, Any]:
        """Recognise ``count`` recordings; ``pace`` is the seconds of a chunk, or 0."""
        if self._process.stdin is not None:
            print(json.dumps({"pace": pace, "count": count}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise SystemExit(f"a worker ended with {self._process.wait()}; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def one_thread() -> dict[str, str]:
    """The environment of a worker."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def prepare(bundle: Path, chunks: Sequence[int], work: Path) -> dict[int, Path]:
    """Make a folder for sherpa-onnx for each chunk (frames), and the frontend of the bundle; what is there, stays."""
    opened = Bundle.open(bundle)
    digest = opened.metadata.files[opened.metadata.models[0].file][:12]
    room = work / f"{bundle.name}-{digest}"
    folders = {frames: room / f"sherpa-onnx-{frames}" for frames in chunks}
    for frames, folder in folders.items():
        if not folder.is_dir():
            from kdcompress_export.bundle_writer import write_bundle
            from kdcompress_export.targets import sherpa

            write_bundle(folder, sherpa.files(opened, chunk_frames=frames))
    frontend = room / "frontend.onnx"
    if not frontend.is_file():
        from frontend_cut import frontend_graph

        frontend.write_bytes(frontend_graph(opened.read(opened.metadata.models[0].file), opened.metadata))
    return folders


def keep_recordings(manifest: Path, metadata: BundleMetadata, count: int, path: Path) -> float:
    """Write the first ``count`` recordings that are long enough, at the model's rate; return their seconds."""
    rate = metadata.input.sample_rate or 16000
    audio = (read_audio(entry.input, rate)[0] for entry in read_manifest(manifest))
    chosen = list(islice((one for one in audio if len(one) >= LEAST_SECONDS * rate), count))
    if not chosen:
        raise SystemExit(f"{manifest}: no recording of {LEAST_SECONDS:g} s or more")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f"{index:05}": one for index, one in enumerate(chosen)})
    return sum(map(len, chosen)) / rate


def measure(bundle: Path, args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All rows of one bundle (one a turn), and the parts of a chunk, one row a configuration."""
    metadata = Bundle.open(bundle).metadata
    frames_of = {ms: round(ms / metadata.frame_shift_ms) for ms in args.chunks}
    folders = prepare(bundle, list(frames_of.values()), args.work)
    audio = args.work / f"{bundle.name}-audio.npz"
    keep_recordings(args.manifest, metadata, args.count, audio)
    known = [model.precision for model in metadata.models]
    rows, parts = [], []
    for precision in [one for one in args.precisions if one in known]:
        for ms, frames in frames_of.items():
            folder = folders[frames]
            common = {
                "precision": precision,
                "chunk_frames": frames,
                "rate": metadata.input.sample_rate,
                "size": frames * metadata.input.units_per_frame,
                "audio": str(audio),
            }
            settings = {
                engine: {**common, "engine": engine, "path": str(path)}
                for engine, path in zip(ENGINES, (bundle, folder), strict=True)
            }
            key = {"bundle": bundle.name, "precision": precision, "chunk_ms": ms}
            say(f"{bundle.name} {precision} {ms} ms")
            rows += [{**key, **row} for row in turns(settings, ms / 1000, args)]
            if args.parts_rounds:
                parts.append({**key, **time_parts(settings, folder.parent / "frontend.onnx", args.parts_rounds)})
    return rows, parts


def turns(settings: Mapping[str, Mapping[str, Any]], pace: float, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Let both engines take turns, the first one changing from round to round."""
    rows = []
    with Worker(settings["ours"]) as ours, Worker(settings["sherpa"]) as sherpa:
        workers = {"ours": ours, "sherpa": sherpa}
        plan = [("back-to-back", 0.0, args.count, index) for index in range(args.rounds)]
        plan += [("paced", pace, args.paced_count, index) for index in range(args.paced_rounds)]
        for mode, seconds, count, index in plan:
            for engine in ENGINES if index % 2 == 0 else ENGINES[::-1]:
                row = workers[engine].turn(seconds, count)
                rows.append({"mode": mode, "engine": engine, "round": index, **workers[engine].started, **row})
    return rows


def time_parts(settings: Mapping[str, Mapping[str, Any]], frontend: Path, rounds: int) -> dict[str, Any]:
    """Run ``stream_parts.py``."""
    ours = settings["ours"]
    order = {**settings, "audio": ours["audio"], "size": ours["size"], "rounds": rounds}
    order["ours"] = {**ours, "frontend": str(frontend)}
    command = [sys.executable, str(HERE / "stream_parts.py"), json.dumps(order)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=one_thread())
    if done.returncode:
        raise SystemExit(f"stream_parts.py ended with {done.returncode}; its message stands above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def write(path: Path, content: str) -> None:
    """Write at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", dest="bundles", type=Path, action="append", required=True, help="repeatable")
    parser.add_argument("--manifest", type=Path, required=True, help="recordings of 2 s and more are taken from it")
    parser.add_argument("--chunks", type=int, nargs="+", default=[160, 320, 640], help="ms")
    parser.add_argument("--precisions", nargs="+", default=["float32", "int8"])
    parser.add_argument("--count", type=int, default=16, help="recordings of a turn")
    parser.add_argument("--paced-count", type=int, default=5, help="recordings of a paced turn, which takes their time")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each engine, back-to-back")
    parser.add_argument("--paced-rounds", type=int, default=3, help="turns of each engine, paced")
    parser.add_argument("--parts-rounds", type=int, default=4, help="rounds for the parts of a chunk; 0 leaves it out")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-stream"))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stream")
    return parser.parse_args(arguments)


@with_exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every bundle, write rows and tables, print JSON as the last line."""
    args = parse(arguments)
    found = {}
    for bundle in args.bundles:
        rows, parts = measure(bundle, args)
        lines = configurations(rows)
        name = f"stream-{bundle.name.removesuffix('-bundle')}"
        write(args.output / f"{name}.jsonl", "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
        table = f"# {bundle.name}\n\n{stream_markdown(lines)}\n{parts_markdown(parts)}"
        write(args.output / f"{name}.md", table)
        found[bundle.name] = {"configurations": lines, "parts": parts}
        whole = {**summary(found[bundle.name]), **found[bundle.name]}
        write(args.output / f"{name}.json", json.dumps(whole, indent=1) + "\n")
        print(table)
    everything = {"configurations": [line for one in found.values() for line in one["configurations"]]}
    print(json.dumps(summary(everything)))


if __name__ == "__main__":
    sys.exit(main())
