"""A language of three tones, tiny recipes over it, and one finished run of each kind of network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch
from pydantic import TypeAdapter

from kdcompress.aligning.aligned import Aligned, Segment, write_alignments
from kdcompress.data.text import character_vocabulary
from kdcompress.distill import fit
from kdcompress.frontend import LogMel, LogMelConfig
from kdcompress.model_settings import ModelConfig
from kdcompress.recipe_file import load_recipe
from kdcompress.students import build_student
from kdcompress.text_models.fit import fit_text_model
from kdcompress.text_models.recipe import load_text_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.model_settings import StudentConfig
    from kdcompress.recipe import Recipe
    from kdcompress.students.base import Student

RATE = 8000
TONES = {"a": 400.0, "b": 900.0, "c": 1800.0}
TRAIN = ("ab", "ba c", "ca", "bab", "c ab", "a", "cc", "abc", "b a", "acb", "cab ca", "bb")
DEV = ("ab c", "ba", "ca b", "bac")
ENCODER = {"width": 8, "depth": 2, "kernel": 5, "dropout": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "student": {"kind": "separable_conv", "width": 8, "depth": 2, "kernel": 5, "lookahead_frames": 3},
    "conventional": {"kind": "conventional", "encoder": ENCODER},
    "oracle": {"kind": "oracle", "heads": 2, "fusion_depth": 1, "encoder": ENCODER},
}


def pytest_configure(config: pytest.Config) -> None:
    """Equal weights are asked of processes with one thread each; more would only be in each other's way."""
    torch.set_num_threads(1)


def speak(text: str, rng: np.random.Generator) -> np.ndarray:
    """One tone of about 0.2 s a letter over a little noise; float32 at 8 kHz."""
    return spoken(text, rng)[0]


def spoken(text: str, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """What ``speak`` gives, and the seconds from which to which each letter sounds."""
    pieces, spans = [np.zeros(400)], []
    for letter in text:
        time = np.arange(int(rng.integers(1400, 1900))) / RATE
        start = sum(map(len, pieces)) / RATE
        spans.append((start, start + len(time) / RATE))
        pieces += [0.4 * np.sin(2 * np.pi * TONES.get(letter, 0.0) * time), np.zeros(300)]
    clean = np.concatenate(pieces)
    return (clean + 0.01 * rng.standard_normal(len(clean))).astype(np.float32), spans


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests ``train`` (12 items) and ``dev`` (4 items) with their audio."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(5)
    manifests = {}
    for split, texts in (("train", TRAIN), ("dev", DEV)):
        rows = []
        for index, text in enumerate(texts):
            samples = speak(text, rng)
            name = f"{split}{index}.wav"
            soundfile.write(folder / name, samples, RATE, subtype="FLOAT")
            rows.append({"audio_filepath": name, "text": text, "duration": len(samples) / RATE, "id": name})
        manifests[split] = write_manifest(folder / f"{split}.jsonl", rows)
    return manifests


@pytest.fixture(scope="session")
def alignment(corpus: dict[str, Path]) -> Path:
    """Where the letters of ``train`` are, exactly."""
    rng, rows = np.random.default_rng(5), []
    for place, text in enumerate(TRAIN):
        samples, spans = spoken(text, rng)
        words = [text[:index].count(" ") for index in range(len(text))]
        segments = [
            Segment(letter.replace(" ", "▁"), start, end, word)
            for letter, (start, end), word in zip(text, spans, words, strict=True)
        ]
        name, seconds = f"train{place}.wav", len(samples) / RATE
        rows.append(Aligned(name, place, "characters", tuple(text.split()), tuple(segments), seconds, -1.0))
    path = corpus["train"].parent / "alignment.jsonl"
    write_alignments(path, rows)
    return path


@pytest.fixture(scope="session")
def text_model(corpus: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a masked language model of the letters of ``train``, trained for a few updates."""
    tree = {
        "schema": 1,
        "name": "tiny-letters",
        "text": {"train": str(corpus["train"]), "units": "characters"},
        "model": {"kind": "masked_transformer", "width": 8, "depth": 1, "heads": 2},
        "train": {"steps": 4, "batch_tokens": 64},
    }
    folder = tmp_path_factory.mktemp("text-model")
    (folder / "lm.yaml").write_text(json.dumps(tree), encoding="utf-8")
    fit_text_model(load_text_recipe(folder / "lm.yaml"), folder / "letters")
    return folder / "letters"


@pytest.fixture(scope="session")
def recipe_tree(corpus: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """``recipe_tree("oracle", steps=3)``: the content of a recipe file; keywords go into ``train``."""

    def make(model: str = "student", **train: Any) -> dict[str, Any]:
        loop = {"steps": 6, "batch_size": 4, "log_every": 1, "eval_every": 100, "checkpoint_every": 2, **train}
        return {
            "schema": 1,
            "name": f"tiny-{model}",
            "data": {split: str(path) for split, path in corpus.items()},
            "frontend": {"sample_rate": RATE, "num_mel_bins": 16},
            "model": MODELS[model],
            "train": loop,
        }

    return make


@pytest.fixture(scope="session")
def make_recipe(recipe_tree: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``make_recipe("student", "model.dropout=0", steps=3) -> Recipe``: as ``recipe_tree``, with overrides."""

    def make(model: str = "student", *overrides: str, **train: Any) -> Recipe:
        path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
        path.write_text(json.dumps(recipe_tree(model, **train)), encoding="utf-8")  # JSON is YAML
        return load_recipe(path, overrides)

    return make


@pytest.fixture(scope="session")
def taught() -> Callable[..., list[str]]:
    """``taught(runs["oracle"], weight=0.3)``: overrides that add a teacher, or several, and ``frame_kl`` to CTC."""

    def overrides(*teachers: Path, weight: float = 0.5, combine: dict[str, Any] | None = None) -> list[str]:
        losses = [{"kind": "ctc", "weight": 1 - weight}, {"kind": "frame_kl", "weight": weight}]
        distill = {"teachers": [str(path) for path in teachers], **({"combine": combine} if combine else {})}
        return [f"losses={json.dumps(losses)}", f"distill={json.dumps(distill)}"]  # JSON is YAML

    return overrides


@pytest.fixture(scope="session")
def runs(make_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, trained for a few updates; to be read only."""
    folder = tmp_path_factory.mktemp("runs")
    for model in MODELS:
        fit(make_recipe(model, steps=3), folder / model)
    return {model: folder / model for model in MODELS}


@pytest.fixture(scope="session")
def vocabulary() -> Any:
    return character_vocabulary(TRAIN)


@pytest.fixture(scope="session")
def frontend() -> LogMel:
    return LogMel(LogMelConfig(sample_rate=RATE, num_mel_bins=16))


@pytest.fixture(scope="session")
def lively() -> Callable[[torch.nn.Module], Any]:
    """Give a fresh network the batch-norm statistics and gains of a trained one, and put it in evaluation mode."""

    def wake(network: torch.nn.Module, seed: int = 3) -> Any:
        generator = torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5, generator=generator)
                module.running_var.uniform_(0.3, 2.0, generator=generator)
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.5, generator=generator)
            elif isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d) and module.bias is None:
                # a batch norm follows, which would make up for small weights after training
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if hasattr(network, "feature_norm"):
            network.feature_norm.set_statistics(torch.full_like(network.feature_norm.mean, -8.0), torch.tensor(3.0))
        return network.eval()

    return wake


@pytest.fixture(scope="session")
def make_student(frontend: LogMel, lively: Any) -> Callable[..., Student]:
    """``make_student("cnn", lookahead_frames=8, depth=3)``: a student with weights of its own and five tokens."""

    def make(kind: str = "separable_conv", **settings: Any) -> Student:
        tree = {"kind": kind, "width": 8, "depth": 3, "kernel": 5, **settings}
        config: StudentConfig = TypeAdapter(ModelConfig).validate_python(tree)
        torch.manual_seed(11)
        return lively(build_student(config, frontend, 5))

    return make
