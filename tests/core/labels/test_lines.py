"""Stored labels of text lines: they follow columns that are stretched, and know how high the lines were."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kdcompress.data.task import TASKS
from kdcompress.distill import fit
from kdcompress.errors import LabelStoreError
from kdcompress.hearing import Heard
from kdcompress.labels.estimate import estimate
from kdcompress.labels.job import open_job
from kdcompress.labels.label import label
from kdcompress.recipe_file import load_recipe
from kdcompress.run import load_run
from kdcompress.teachers.opening import open_teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.recipe import Recipe

ENCODER = {"block": "convolution", "width": 8, "depth": 1, "kernel": 5, "channels": [4, 4], "dropout": 0.0}
STRETCHED = "augment.image={probability: 1.0, width: {probability: 1.0, strength: [1.3, 1.3]}}"
PLAIN = "augment.image={probability: 0.0}"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of eight lines of bars."""
    folder, rows = tmp_path_factory.mktemp("lines"), []
    for place, text in enumerate(("ab", "ba", "a b", "abab", "b", "aab", "bb a", "a")):
        image = Image.new("L", (12 + 12 * len(text), 20), 255)
        for number, letter in enumerate(text):
            ImageDraw.Draw(image).rectangle([8 + 12 * number, 4, 11 + 12 * number + 3 * (letter == "b"), 16], fill=0)
        image.save(folder / f"{place}.png")
        rows.append({"image_filepath": f"{place}.png", "text": text})
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe_of(lines: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    """``recipe_of("conventional", "train.steps=3")``."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"

    def make(kind: str, *overrides: str) -> Recipe:
        tree = {
            "schema": 1,
            "name": "lines",
            "task": "scene_text",
            "data": {"train": str(lines)},
            "frontend": {"kind": "image", "height": 16},
            "augment": {"spec": None},
            "model": {"kind": kind, "subsampling_factor": 4, "encoder": ENCODER},
            "train": {"steps": 2, "batch_size": 4},
        }
        path.write_text(json.dumps(tree), encoding="utf-8")
        return load_recipe(str(path), list(overrides))

    return make


@pytest.fixture(scope="module")
def teacher(recipe_of: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    fit(recipe_of("conventional", "train.steps=4"), folder)
    return folder


def stored(recipe_of: Callable[..., Recipe], teacher: Path, store: Path, kind: str = "top_k") -> Path:
    label(recipe_of("full_context", f"distill.teachers={teacher}", f"label={{kind: {kind}}}"), store)
    return store


def test_labels_follow_stretched_columns(recipe_of, teacher, tmp_path):
    store = stored(recipe_of, teacher, tmp_path / "store", "full")
    run = load_run(teacher)
    recipe = recipe_of("full_context", f"distill.teachers={store}", STRETCHED)
    batch = TASKS["scene_text"].training_batches(recipe, run.vocabulary, units_per_frame=4)[0]
    assert torch.allclose(batch.times[:, 0], torch.full((4,), 1 / 1.3, dtype=torch.float64), atol=0.05)
    none = torch.zeros(4, dtype=torch.int64)
    heard = Heard(batch, recipe, torch.zeros(4, 0, 1), none, batch.labels, batch.label_lens, 1)
    said = open_teacher(store).answer(heard)
    plain = [len(np.asarray(Image.open(lines_of(recipe, int(item))))[0]) * 16 / 20 for item in batch.items]
    assert said.frame_lens.tolist() == [-(-round(columns) // 4) for columns in plain]
    assert torch.equal(said.times, batch.times)
    summary = fit(recipe, tmp_path / "student")
    assert summary["teachers"][0]["kind"] == "labels of conventional"


def lines_of(recipe, place):
    row = json.loads(recipe.data.train.read_text(encoding="utf-8").splitlines()[place])
    return recipe.data.train.parent / row["image_filepath"]


def test_lines_of_another_height_are_refused(recipe_of, teacher, tmp_path):
    store = stored(recipe_of, teacher, tmp_path / "store")
    recipe = recipe_of("full_context", f"distill.teachers={store}", "frontend.height=24")
    with pytest.raises(LabelStoreError, match=r"frontend\.height is 16 there, 24 here; leave frontend\.height out"):
        fit(recipe, tmp_path / "student")


def test_a_line_that_was_replaced_is_measured_in_columns(recipe_of, teacher, lines, tmp_path):
    copy = tmp_path / "lines"
    copy.mkdir()
    for file in lines.parent.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    train = f"data.train={copy / 'lines.jsonl'}"
    label(recipe_of("full_context", train, f"distill.teachers={teacher}"), tmp_path / "store")
    Image.new("L", (200, 20)).save(copy / "0.png")
    recipe = recipe_of("full_context", train, f"distill.teachers={tmp_path / 'store'}", "train.batch_size=8")
    with pytest.raises(
        LabelStoreError, match=r"entry 1 .* 160\.00 columns long, and was 29\.00 columns.*the input was"
    ):
        fit(recipe, tmp_path / "student")


def test_codes_of_plain_lines_need_no_speed(recipe_of, teacher, tmp_path):
    store = stored(recipe_of, teacher, tmp_path / "store", "codebook, codebooks: 2, entries: 4")
    losses = "losses=[{kind: ctc}, {kind: codebook, codebooks: 2, entries: 4}]"
    fit(recipe_of("full_context", f"distill.teachers={store}", losses, PLAIN), tmp_path / "student")
    with pytest.raises(LabelStoreError, match=r"augment\.image"):
        fit(recipe_of("full_context", f"distill.teachers={store}", losses, STRETCHED), tmp_path / "other")


def test_an_estimate_counts_items_where_there_are_no_hours(recipe_of, teacher, tmp_path):
    found = estimate(open_job(recipe_of("full_context", f"distill.teachers={teacher}"), tmp_path / "store"))
    assert found.hours is found.seconds_per_hour is None
    assert "items a second" in found.sentence()
    assert " h, " not in found.sentence()


def test_lines_that_are_too_long_are_told_in_columns(recipe_of, teacher, tmp_path):
    from kdcompress_runtime.errors import InputError

    recipe = recipe_of("full_context", f"distill.teachers={teacher}", "data.max_duration=30")
    with pytest.raises(InputError, match=r"columns is longer than data\.max_duration 30\.0 columns"):
        label(recipe, tmp_path / "store")
    skipped = label(recipe_of("full_context", f"distill.teachers={teacher}", "data.max_duration=30",
                              "data.on_unusable=skip"), tmp_path / "store")  # fmt: skip
    assert skipped["left_out"] == 4
    with pytest.raises(LabelStoreError, match="longer than 30 columns; set"):
        fit(recipe_of("full_context", f"distill.teachers={tmp_path / 'store'}"), tmp_path / "student")
