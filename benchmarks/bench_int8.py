#!/usr/bin/env python3
"""int8 against float32 for untrained students of each preset: size and speed, one thread, taking turns.

Usage: python benchmarks/bench_int8.py [--kind chunked_conformer] [--preset tiny --preset base] [--audio FOLDER]

Weights are random, so this says nothing about accuracy; speed and size do not depend on the weights. Ranges are
calibrated on the audio files of a folder, or on noise. int8 is compared with float32 as exported and with the same
graph in 2-D convolutions (``planar``), which onnxruntime computes faster: the ratio to the faster one is the honest
one. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from frontend_cut import frontend_graph

from kdcompress.model_settings import PRESETS
from kdcompress.recipe import Recipe
from kdcompress.run import RunFolder, TrainedRun, build_network
from kdcompress.students.base import Student
from kdcompress_export.agreement import compare_models
from kdcompress_export.convert import convert
from kdcompress_export.from_run import describe
from kdcompress_export.planar import with_2d_convolutions
from kdcompress_export.prove import FLOAT, INT8
from kdcompress_export.quantization.static import QuantizeOptions, quantize
from kdcompress_export.signature import geometry
from kdcompress_export.streams import Samples, speech_like_noise
from kdcompress_export.timing import WHOLE_SECONDS, cpu_name, interleaved, model_step
from kdcompress_runtime import BundleMetadata, CtcModel, SessionOptions, Vocabulary, read_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LETTERS = Vocabulary.from_symbols(["▁", "'", *"abcdefghijklmnopqrstuvwxyz"])
SUFFIXES = {".wav", ".flac", ".ogg"}
KINDS = ("separable_conv", "chunked_conformer")
PLANAR = "float32, 2-D"


def untrained_student(
    preset: str, sample_rate: int, mel_bins: int, kind: str = "separable_conv"
) -> tuple[TrainedRun, Student]:
    """Build a student with random weights and statistics that are not the initial ones."""
    recipe = Recipe.model_validate(
        {
            "schema": 1,
            "name": f"untrained-{preset}",
            "data": {"train": "none.jsonl"},
            "frontend": {"sample_rate": sample_rate, "num_mel_bins": mel_bins},
            "model": {"kind": kind, "preset": preset},
        }
    )
    torch.manual_seed(0)
    network = build_network(recipe, len(LETTERS))
    if not isinstance(network, Student):
        raise SystemExit(f"{preset} is no student")
    batch = torch.from_numpy(np.stack([speech_like_noise(3.0, sample_rate, seed) for seed in range(4)]))
    features = network.features(batch)
    network.feature_norm.set_statistics(features.mean((0, 1)), features.std((0, 1)))
    network.train()
    labels = torch.zeros(4, 0, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(5):
            network(features, labels.sum(1), labels, labels.sum(1))
    network.eval().requires_grad_(requires_grad=False)
    return TrainedRun(RunFolder(Path(tempfile.gettempdir())), recipe, LETTERS, network, {}), network


def recordings(folder: Path | None, sample_rate: int, count: int) -> list[Samples]:
    """Return at most 20 s of each of ``count`` files of a folder, or noise where there is none."""
    if folder is None:
        return [speech_like_noise(5.0, sample_rate, seed) for seed in range(100, 100 + count)]
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES)
    return [read_audio(path, sample_rate)[0][: 20 * sample_rate] for path in islice(paths, count)]


def cut_frontend(content: bytes, metadata: BundleMetadata) -> Callable[[int], Callable[[], object]]:
    """Cut the float32 frontend, which both precisions share, out of a graph; return what makes a step of it."""
    session = onnxruntime.InferenceSession(frontend_graph(content, metadata), SessionOptions().build())

    def step(frames: int) -> Callable[[], object]:
        shapes = {value.name: [1, *value.shape[1:]] for value in session.get_inputs()}
        shapes[metadata.input.name] = [1, frames * metadata.input.units_per_frame]
        rng = np.random.default_rng(0)
        feed = {name: rng.uniform(-0.3, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
        return lambda: session.run(None, feed)

    return step


def time_all(models: dict[str, CtcModel], content: bytes, rounds: int) -> dict[str, dict[str, float]]:
    """Time all models and the frontend alone, taking turns: median CPU ms of 10 s and of a chunk, by name."""
    metadata = models[FLOAT].metadata
    frontend = cut_frontend(content, metadata)
    found = {}
    whole = round(1000 * WHOLE_SECONDS / metadata.frame_shift_ms)
    for key, frames, burst in (("whole", whole, 1), ("chunk", metadata.chunk_frames, 10)):
        calls = {name: model_step(model, frames) for name, model in models.items()}
        times = interleaved({**calls, "frontend": frontend(frames)}, rounds * burst, burst)
        found[key] = {name: one.cpu for name, one in times.items()}
    return found


def measure(preset: str, args: argparse.Namespace) -> dict[str, Any]:
    """Export, quantize and time one student."""
    run, student = untrained_student(preset, args.sample_rate, args.mel_bins, args.kind)
    metadata = describe(run, student)
    content = convert(student, len(LETTERS), geometry(metadata, FLOAT))
    floating = CtcModel(content, metadata, LETTERS)
    audio = recordings(args.audio, args.sample_rate, 16)
    if len(audio) < 2:
        raise SystemExit(f"{args.audio}: fewer than two audio files")
    properties = {"kdcompress": json.dumps(geometry(metadata, INT8))}
    options = QuantizeOptions(glue=args.kind == "separable_conv")
    found = quantize(content, floating, audio[:-1], options, properties)
    planar = CtcModel(with_2d_convolutions(content), metadata, LETTERS)
    models = {FLOAT: floating, PLANAR: planar, INT8: CtcModel(found.content, metadata, LETTERS)}
    times = time_all(models, content, args.rounds)
    return {
        "parameters": metadata.parameters,
        "bytes": {FLOAT: len(content), INT8: len(found.content)},
        "size_ratio": len(found.content) / len(content),
        "quantized_nodes": found.nodes,
        "agreement": asdict(compare_models(floating, models[INT8], audio[-1:])),
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "ms": times,
        "ratio": {
            key: {name: times[key][name] / times[key][INT8] for name in (FLOAT, PLANAR)} for key in ("whole", "chunk")
        },
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Lay out the rows."""
    head = "".join(f" | {name:>9} f32   2-D  int8 front ratio   2-D" for name in ("10 s", "chunk"))
    lines = [f"{'preset':8}{'params':>9}{'int8 MB':>9}{'size':>8}{head}"]
    for preset, row in rows.items():
        cells = ""
        for key in ("whole", "chunk"):
            ms, ratio = row["ms"][key], row["ratio"][key]
            times = f"{ms[FLOAT]:13.2f}{ms[PLANAR]:6.2f}{ms[INT8]:6.2f}{ms['frontend']:6.2f}"
            cells += f" | {times}{ratio[FLOAT]:6.2f}{ratio[PLANAR]:6.2f}"
        lines.append(f"{preset:8}{row['parameters']:9}{row['bytes'][INT8] / 1e6:9.2f}{row['size_ratio']:8.4f}{cells}")
    lines.append("ms of CPU time, one thread, median; front: the float32 frontend, part of each; ratio: float32 / int8")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description="int8 against float32: size and speed")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="family of students")
    parser.add_argument("--preset", action="append", choices=sorted(PRESETS), help="repeatable; all when left out")
    parser.add_argument("--audio", type=Path, help="folder of recordings to calibrate on; noise when left out")
    parser.add_argument("--sample-rate", type=int, default=16000)
    parser.add_argument("--mel-bins", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=40, help="times that 10 s are run; chunks ten times as often")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = {preset: measure(preset, args) for preset in args.preset or PRESETS}
    print(table(rows))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
