"""Two processes do the updates of one: the same losses, gradient norms and weights at the same global batch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.distill import fit
from kdcompress.errors import RecipeError
from kdcompress.run import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.recipe import Recipe

VGG = {"kind": "vgg", "channels": [4, 6], "width": 8, "depth": 2, "kernel": 3, "dropout": 0}
LSTM = {"kind": "lstm", "width": 6, "depth": 2, "dropout": 0}
CNN = {"kind": "cnn", "channels": 4, "width": 8, "depth": 2, "kernel": 3, "lookahead_frames": 2, "dropout": 0}
CONFORMER = {
    "kind": "chunked_conformer",
    "width": 8,
    "depth": 2,
    "heads": 2,
    "kernel": 5,
    "left_frames": 16,
    "lookahead_frames": 3,
    "dropout": 0,
}
ORACLE = ["model.encoder.dropout=0", "model.positions=both"]


def scalars_of(recipe: Recipe, folder: Path) -> list[dict[str, float]]:
    """Train; return what is logged of every update."""
    fit(recipe, folder)
    rows = [json.loads(line) for line in RunFolder(folder).metrics.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def taught_by(run: Path, *losses: dict[str, Any]) -> list[str]:
    return [f"losses={json.dumps(losses)}", f"distill.teachers={run}", "model.dropout=0"]


@pytest.fixture(scope="module")
def cases(make_recipe, runs):
    """Recipes of every family, and of losses whose heads are fitted to data, used late, or look at a block alone."""
    settings = {"steps": 3, "batch_size": 5, "learning_rate": 2e-3}
    teacher = runs["conventional"]
    return {
        "separable_conv": make_recipe("student", "model.dropout=0", **settings),
        "cnn": make_recipe("student", f"model={json.dumps(CNN)}", **settings),
        "chunked_conformer": make_recipe(
            "student", f"model={json.dumps(CONFORMER)}", activation_checkpointing=True, **settings
        ),
        "conventional": make_recipe("conventional", "model.encoder.dropout=0", **settings),
        "oracle": make_recipe("oracle", *ORACLE, **settings),
        "vgg": make_recipe("conventional", f"model={json.dumps(VGG)}", **settings),
        "lstm": make_recipe("conventional", f"model={json.dumps(LSTM)}", **settings),
        "distilled": make_recipe(
            "student",
            *taught_by(
                teacher,
                {"kind": "ctc", "weight": 0.5},
                {"kind": "frame_kl", "ramp": {"start": 0.5, "end": 0.6}},
                {"kind": "cr_ctc", "ramp": None},
                {"kind": "codebook", "codebooks": 2, "entries": 4},
            ),
            **settings,
        ),
        "a block alone": make_recipe(
            "student", *taught_by(teacher, {"kind": "feature_match", "student_layer": 0}), **settings
        ),
        "rounded": make_recipe(
            "student",
            "model.dropout=0",
            "quantization_aware={calibration_batches: 2, range_momentum: 0.1}",
            **settings,
        ),
        "unequal": make_recipe("student", "model.dropout=0", batch_seconds=4, steps=3),
        "accumulated": make_recipe("student", "model.dropout=0", "quantization_aware={}", accumulate=2, **settings),
    }


QUICK = ["chunked_conformer", "oracle", "distilled", "a block alone", "rounded", "unequal", "accumulated"]
SLOW = ["separable_conv", "cnn", "conventional", "vgg", "lstm"]
ROUNDING = ("in_proj_bias", "query_key_value.bias")
"""The bias of a key adds the same to every score: its gradient is rounding, of which Adam makes whole steps."""


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_two_processes_give_the_losses_and_weights_of_one(in_processes, cases, tmp_path, name):
    recipe = cases[name]
    expected = scalars_of(recipe, tmp_path / "one")
    found, theirs = in_processes(2, scalars_of, recipe, tmp_path / "two")
    assert found == theirs
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for mine, other in zip(found, expected, strict=True):
        assert mine == pytest.approx(other, rel=2e-5, abs=2e-6)
    one, two = (load_file(RunFolder(tmp_path / folder).weights) for folder in ("one", "two"))
    assert one.keys() == two.keys()
    for key in (key for key in one if not key.endswith(ROUNDING)):
        torch.testing.assert_close(two[key], one[key], atol=2e-5, rtol=1e-4)


def test_a_batch_too_small_for_the_processes_is_refused(in_processes, make_recipe, tmp_path):
    recipes = [make_recipe("student", batch_size=1), make_recipe("student", batch_size=3, accumulate=2)]
    for recipe, needs in zip(recipes, ("needs an item", "divides its share into 2 parts"), strict=True):
        for problem in in_processes(2, fit, recipe, tmp_path / "run"):
            assert isinstance(problem, RecipeError)
            assert f"{recipe.train.batch_size} is too small for 2 processes, each of which {needs}" in str(problem)
    assert not (tmp_path / "run").exists()


def test_bf16_on_two_processes(in_processes, make_recipe, runs, tmp_path):
    losses = {"kind": "ctc", "weight": 0.5}, {"kind": "frame_kl", "weight": 0.5}
    recipe = make_recipe("student", *taught_by(runs["oracle"], *losses), steps=3, batch_size=5, precision="bf16")
    (expected,) = in_processes(1, scalars_of, recipe, tmp_path / "one")
    found, theirs = in_processes(2, scalars_of, recipe, tmp_path / "two")
    assert found == theirs
    for mine, other in zip(found, expected, strict=True):
        for name in mine.keys() & {"loss", "ctc", "frame_kl", "dev_ctc"}:
            assert mine[name] == pytest.approx(other[name], rel=0.03)
    weights = load_file(RunFolder(tmp_path / "two").weights)
    assert all(tensor.dtype in {torch.float32, torch.int64} for tensor in weights.values())
