"""Runs of tiny networks for lines of text and for sentences, with data made on the spot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from kdcompress.recipe import Recipe
from kdcompress.run import RunFolder, build_network
from kdcompress_export import ExportOptions, SearchOptions
from kdcompress_export.export import export_source
from kdcompress_export.quantization.measure import Rounds
from kdcompress_runtime.vocabulary import WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_export.source import Source

HEIGHT = 16
LETTERS = Vocabulary.from_symbols(["a", "b", WORD_SEPARATOR, "c", "1"])
SUBWORDS = Vocabulary.from_symbols([f"{WORD_SEPARATOR}da", f"{WORD_SEPARATOR}en", "t", "ta"])
SYMBOLS = "<mask> <unk> a b c ▁ ▁a ▁b bc"
SENTENCES = ("a bc", "b a c", "abc", "c", "bb aa", "a a b b")


def line_of_text(width: int, height: int, seed: int) -> np.ndarray:
    """Dark strokes on bright ground, ``(height, width, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    ink = (rng.random((height // 2, -(-width // 3))) < 0.3).repeat(2, axis=0).repeat(3, axis=1)[:, :width, None]
    return np.where(ink, 40, rng.integers(190, 250, (1, 1, 3))).astype(np.uint8)


def write_lines(folder: Path, name: str, count: int, seed: int, height: int = HEIGHT) -> Path:
    """Write ``count`` images and the manifest that names them."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(count):
        pixels = line_of_text(int(rng.integers(40, 90)), height, seed + index)
        Image.fromarray(pixels).save(folder / f"{name}-{index}.png")
        text = " ".join("".join(rng.choice(list("abc1"), 3)) for _ in range(2))
        rows.append({"image_filepath": f"{name}-{index}.png", "text": text, "id": f"{name}-{index}"})
    return _manifest(folder / f"{name}.jsonl", rows)


def write_pairs(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write ``count`` pairs of sentences."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(count):
        source = f"{SENTENCES[index % len(SENTENCES)]} {'abc'[seed % 3]}{index}"
        rows.append({"source": source, "target": " ".join(rng.choice(["da", "en", "ent"], 3)), "id": f"{name}-{index}"})
    return _manifest(folder / f"{name}.jsonl", rows)


def lines_run(folder: Path, model: dict[str, Any], *, channels: int = 1) -> Path:
    """Write the folder of a finished run of a network for lines of text."""
    data = {name: str(write_lines(folder, name, 6, seed)) for name, seed in (("train", 100), ("dev", 200))}
    frontend = {"kind": "image", "height": HEIGHT, "channels": channels}
    return _write_run(folder, LETTERS, task="scene_text", data=data, frontend=frontend, model=model)


def pairs_run(folder: Path, model: dict[str, Any], *, upsampling: int = 3) -> Path:
    """Write the folder of a finished run of a network for sentences."""
    data = {name: str(write_pairs(folder, name, 6, seed)) for name, seed in (("train", 100), ("dev", 200))}
    frontend = {"kind": "tokens", "symbols": SYMBOLS, "upsampling": upsampling}
    data |= {"units": "subwords", "subwords": len(SUBWORDS)}
    return _write_run(folder, SUBWORDS, task="translation", data=data, frontend=frontend, model=model)


def _manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def told(network: torch.nn.Module, units: np.ndarray) -> np.ndarray:
    """What a network says about ``(N, units, ...)``, columns or ids, as the training loop asks it."""
    lengths = torch.full((len(units),), units.shape[1])
    empty = torch.zeros(len(units), 0, dtype=torch.int64)
    with torch.no_grad():
        features = network.features(torch.from_numpy(units).float())
        return network(features, network.frame_lens(lengths), empty, empty.sum(1)).numpy()


def export_small(source: Source, output: Path, scheme: str) -> Path:
    """Export a source with one int8 file beside float32."""
    export_source(source, output, ExportOptions(quantization=SearchOptions(quantize=scheme, rounds=Rounds(3, 10))))
    return output


def save_run(folder: Path, recipe: Recipe, network: torch.nn.Module, tokens: Vocabulary) -> Path:
    """Write what export reads of a finished run."""
    run = RunFolder(folder / "run")
    run.path.mkdir()
    run.recipe.write_text(recipe.dumps(), encoding="utf-8")
    run.tokens.write_text(tokens.dumps(), encoding="utf-8")
    run.summary.write_text("{}", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, run.weights)
    return run.path


def _write_run(folder: Path, tokens: Vocabulary, **settings: Any) -> Path:
    task = settings["task"]
    common = {"schema": 1, "name": f"tiny-{task}", "seed": 1, "augment": {"spec": None}}
    recipe = Recipe.model_validate({**common, **settings})
    torch.manual_seed(1)
    network = build_network(recipe, len(tokens))
    live(network, task)
    return save_run(folder, recipe, network, tokens)


def live(network: torch.nn.Module, task: str) -> None:
    """Give statistics and gains values that are not their initial ones, and the head some contrast."""
    torch.manual_seed(2)
    if task == "scene_text":
        features = network.features(torch.randint(0, 256, (3, 40, network.frontend.feature_dim)).float())
        network.feature_norm.set_statistics(features.mean((0, 1)), features.std((0, 1)))
    else:
        features = network.features(torch.randint(2, network.frontend.symbols, (3, 10)).float())
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for name, weight in network.named_parameters():
            if name.startswith("head") and weight.ndim == 2:
                weight.mul_(6)
        frames = torch.full((3,), features.shape[1] // network.subsampling_factor)
        for _ in range(5):
            empty = torch.zeros(3, 0, dtype=torch.int64)
            network(features, frames, empty, empty.sum(1))
    network.eval()
