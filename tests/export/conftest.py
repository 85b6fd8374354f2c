"""Runs of tiny students and teachers with real-looking audio; made once, never changed by a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch

from kdcompress.recipe import Recipe
from kdcompress.run import build_network, load_student
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_export.convert import convert
from kdcompress_export.from_run import describe
from kdcompress_export.quantization.measure import Rounds
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.model import CtcModel
from kdcompress_runtime.vocabulary import WORD_SEPARATOR, Vocabulary
from tests.export.task_runs import save_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.run import TrainedRun

RATE = 8000
WORDS = ("zero", "one", "two")
QUICK = SearchOptions(quantize="static-u8s8-minmax-all", rounds=Rounds(3, 10))
"""One scheme, timed only so long that there is a time."""
VOCABULARY = Vocabulary.from_symbols([WORD_SEPARATOR, *sorted(set("".join(WORDS)))])


def write_manifest(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write ``count`` FLAC files and the manifest that names them."""
    rng = np.random.default_rng(seed)
    lines = []
    for index in range(count):
        path = folder / "audio" / f"{name}-{index}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = speech_like_noise(1.0 + 0.3 * index % 1.5, RATE, seed + index)
        soundfile.write(path, samples, RATE)
        text = " ".join(rng.choice(WORDS, 3))
        row = {"audio_filepath": f"audio/{path.name}", "text": text, "id": f"{name}-{index}", "duration": 1.0}
        lines.append(json.dumps(row) + "\n")
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def write_run(
    folder: Path,
    *,
    kind: str = "separable_conv",
    lookahead: int = 4,
    seed: int = 1,
    dev: bool = True,
    width: int = 24,
    teacher: dict[str, Any] | None = None,
) -> Path:
    """Write the folder of a finished run: a tiny student, or the ``teacher`` given, with lived-in batch norms."""
    data = {"train": str(write_manifest(folder, "train", 6, seed=100))}
    if dev:
        data["dev"] = str(write_manifest(folder, "dev", 4, seed=200))
    sizes = {"width": width, "depth": 2, "kernel": 5}
    student = {"kind": kind, **sizes, "lookahead_frames": lookahead, "chunk_frames": 6}
    recipe = Recipe.model_validate(
        {
            "schema": 1,
            "name": f"tiny-{lookahead}",
            "seed": seed,
            "data": data,
            "frontend": {"sample_rate": RATE, "num_mel_bins": 24},
            "model": teacher or student,
        }
    )
    torch.manual_seed(seed)
    network = build_network(recipe, len(VOCABULARY))
    live(network)
    return save_run(folder, recipe, network, VOCABULARY)


def live(network: torch.nn.Module) -> None:
    """Give statistics and gains values that are not their initial ones."""
    batch = torch.from_numpy(np.stack([speech_like_noise(2.0, RATE, seed) for seed in range(3)]))
    features = network.features(batch)
    network.feature_norm.set_statistics(features.mean((0, 1)), features.std((0, 1)))
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(5):
            empty = torch.zeros(3, 0, dtype=torch.int64)
            network(features, torch.full((3,), features.shape[1] // network.subsampling_factor), empty, empty.sum(1))
    network.eval()


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """``make_run(folder, kind=..., lookahead=..., seed=..., dev=..., width=..., teacher=...)``; see ``write_run``."""
    return write_run


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Path]:
    """``make_manifest(folder, name, count, seed)``; see ``write_manifest``."""
    return write_manifest


@pytest.fixture(scope="session")
def student(run: Path) -> TrainedRun:
    """The run, read back."""
    return load_student(run)


@pytest.fixture(scope="session")
def floating(student: TrainedRun) -> tuple[bytes, CtcModel]:
    """The float32 file of the run, and the same loaded."""
    content = convert(student.network, len(student.vocabulary), {"name": "tiny"})
    return content, CtcModel(content, describe(student, student.network), student.vocabulary)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with train and dev manifests."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def progress() -> list[str]:
    """Lines that the session's export reported."""
    return []


@pytest.fixture(scope="session")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory, progress: list[str]) -> Path:
    """The run, exported. Tests that damage it work on a copy."""
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    export_run(run, output, ExportOptions(licence="CC0-1.0", quantization=QUICK), say=progress.append)
    return output


@pytest.fixture
def converted(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds of torch's exporter where ``run`` is exported again: its file is there already."""
    content = (bundle / "model.onnx").read_bytes()
    monkeypatch.setattr("kdcompress_export.from_run.convert", lambda *_: content)
