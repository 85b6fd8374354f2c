#!/usr/bin/env python3
"""int8 against float32 for untrained students of each preset: size and speed, one thread, taking turns.

Usage: python benchmarks/bench_int8.py [--preset tiny --preset base] [--audio FOLDER] [--rounds 40]

Weights are random, so this says nothing about accuracy; speed and size do not depend on the weights. Ranges are
calibrated on the audio files of a folder, or on noise. The last line of the output is one JSON object.
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
import torch

from kdcompress.recipe import PRESETS, Recipe
from kdcompress.run import RunFolder, TrainedRun, build_network
from kdcompress.students.base import Student
from kdcompress_export.agreement import compare_models
from kdcompress_export.convert import convert
from kdcompress_export.export import describe
from kdcompress_export.prove import FLOAT, INT8, Speed, speed_summary
from kdcompress_export.quantize import quantize
from kdcompress_export.signature import geometry
from kdcompress_export.streams import Samples, speech_like_noise
from kdcompress_export.timing import time_steps, time_whole
from kdcompress_runtime import CtcModel, Vocabulary, read_audio

if TYPE_CHECKING:
    from collections.abc import Sequence

LETTERS = Vocabulary.from_symbols(["▁", "'", *"abcdefghijklmnopqrstuvwxyz"])
SUFFIXES = {".wav", ".flac", ".ogg"}


def untrained_student(preset: str, sample_rate: int, mel_bins: int) -> tuple[TrainedRun, Student]:
    """Build a student with random weights and statistics that are not the initial ones."""
    recipe = Recipe.model_validate(
        {
            "schema": 1,
            "name": f"untrained-{preset}",
            "data": {"train": "none.jsonl"},
            "frontend": {"sample_rate": sample_rate, "num_mel_bins": mel_bins},
            "model": {"kind": "separable_conv", "preset": preset},
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


def measure(preset: str, args: argparse.Namespace) -> dict[str, Any]:
    """Export, quantize and time one student."""
    run, student = untrained_student(preset, args.sample_rate, args.mel_bins)
    metadata = describe(run, student)
    content = convert(student, len(LETTERS), geometry(metadata, FLOAT))
    floating = CtcModel(content, metadata, LETTERS)
    audio = recordings(args.audio, args.sample_rate, 16)
    if len(audio) < 2:
        raise SystemExit(f"{args.audio}: fewer than two audio files")
    found = quantize(content, floating, audio[:-1], properties={"kdcompress": json.dumps(geometry(metadata, INT8))})
    models = {FLOAT: floating, INT8: CtcModel(found.content, metadata, LETTERS)}
    speed = Speed(
        time_whole(models, args.rounds), time_steps(models, round(320 / metadata.frame_shift_ms), 10 * args.rounds)
    )
    return {
        "parameters": metadata.parameters,
        "bytes": {FLOAT: len(content), INT8: len(found.content)},
        "size_ratio": len(found.content) / len(content),
        "quantized_nodes": found.nodes,
        "agreement": asdict(compare_models(floating, models[INT8], audio[-1:])),
        **speed_summary(speed),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description="int8 against float32: size and speed")
    parser.add_argument("--preset", action="append", choices=sorted(PRESETS), help="repeatable; all when left out")
    parser.add_argument("--audio", type=Path, help="folder of recordings to calibrate on; noise when left out")
    parser.add_argument("--sample-rate", type=int, default=16000)
    parser.add_argument("--mel-bins", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=40, help="times that 10 s are run; chunks ten times as often")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = {preset: measure(preset, args) for preset in args.preset or PRESETS}
    print(
        f"{'preset':8}{'params':>10}{'int8 MB':>9}{'size':>8}{'10 s ms':>16}{'ratio':>7}{'320 ms ms':>16}{'ratio':>7}"
    )
    for preset, row in rows.items():
        times = []
        for key in ("whole", "chunk"):
            one, other = (row[f"{key}_ms"][name]["p50"] for name in (FLOAT, INT8))
            times += [f"{one:8.2f}{other:8.2f}{one / other:7.2f}"]
        size = f"{row['bytes'][INT8] / 1e6:9.2f}{row['size_ratio']:8.4f}"
        print(f"{preset:8}{row['parameters']:10}{size}{times[0]}{times[1]}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
