"""A language of three tones as frames of features: an archive, manifests, tiny recipes, and finished runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe
from kdcompress_runtime.manifest import ManifestEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.recipe import Recipe

DIM = 5
WORDS = ("low", "mid", "high")
TEXTS = {
    "train": [" ".join(WORDS[(i * k + i // 3) % 3] for k in range(1, 2 + i % 3)) for i in range(24)],
    "dev": ["low high", "mid", "high mid low", "mid mid"],
}
ENCODER = {"width": 8, "depth": 2, "kernel": 5, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "student": {"kind": "separable_conv", "width": 16, "depth": 2, "kernel": 5, "lookahead_frames": 2},
    "conventional": {"kind": "conventional", "encoder": ENCODER},
    "oracle": {"kind": "oracle", "heads": 2, "fusion_depth": 1, "encoder": ENCODER},
}


def tones(text: str, rng: np.random.Generator) -> np.ndarray:
    """Quiet frames, and about 20 loud ones a word, whose shape is the word's: ``(n, DIM)`` float32."""
    quiet = np.zeros((8, DIM))
    pieces = [quiet]
    for word in text.split():
        shape = np.array([3.0, *np.eye(DIM - 1)[WORDS.index(word)] * 2])
        pieces += [np.tile(shape, (int(rng.integers(16, 24)), 1)), quiet]
    clean = np.concatenate(pieces)
    return (clean + 0.1 * rng.standard_normal(clean.shape)).astype(np.float32)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def frames() -> dict[str, np.ndarray]:
    """Frames of every item, by its key."""
    rng = np.random.default_rng(3)
    return {f"{split}-{i}": tones(text, rng) for split, texts in TEXTS.items() for i, text in enumerate(texts)}


@pytest.fixture(scope="session")
def features(frames: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests ``train`` (24 items of an archive) and ``dev`` (4 items, each a file)."""
    folder = tmp_path_factory.mktemp("features")
    np.savez_compressed(folder / "train.npz", **{key: value for key, value in frames.items() if "train" in key})
    train, dev = [], []
    for i, text in enumerate(TEXTS["train"]):
        key = f"train-{i}"
        train.append({"feature_archive": "train.npz", "feature_key": key, "num_frames": len(frames[key]), "text": text})
    for i, text in enumerate(TEXTS["dev"]):
        np.save(folder / f"dev-{i}.npy", frames[f"dev-{i}"])
        dev.append({"feature_filepath": f"dev-{i}.npy", "text": text, "duration": len(frames[f"dev-{i}"]) / 100})
    return {
        "train": write_rows(folder / "train.jsonl", train),
        "dev": write_rows(folder / "dev.jsonl", dev),
    }


@pytest.fixture(scope="session")
def recipe_of(features: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    """``recipe_of("student", "model.dropout=0", steps=3) -> Recipe``."""

    def make(model: str = "student", *overrides: str, **train: Any) -> Recipe:
        tree = {
            "schema": 1,
            "name": f"tiny-{model}",
            "task": "features",
            "data": {**{split: str(path) for split, path in features.items()}, "units": "words"},
            "frontend": {"kind": "features", "feature_dim": DIM},
            "augment": {"lead_in_s": [0.0, 0.2], "spec": {"time_frames": 4}},
            "model": MODELS[model],
            "train": {"steps": 4, "batch_size": 6, "checkpoint_every": 2, "log_every": 1, **train},
        }
        path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
        path.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
        return load_recipe(path, overrides)

    return make


@pytest.fixture(scope="session")
def feature_runs(recipe_of: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, trained for a few updates; to be read only."""
    folder = tmp_path_factory.mktemp("feature-runs")
    for model in MODELS:
        fit(recipe_of(model), folder / model)
    return {model: folder / model for model in MODELS}


def entry_of(path: Path, key: str | None = None) -> ManifestEntry:
    """Entry for a file of features, or for a member of an archive."""
    name = str(path) if key is None else f"{path}#{key}"
    return ManifestEntry("item", name, "", extra={} if key is None else {"feature_key": key}, kind="features")
