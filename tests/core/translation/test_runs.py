"""Runs on sentences: interrupted, finished, side by side, and with a source table that the data told them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.data.translation import settings_of
from kdcompress.distill import fit
from kdcompress.errors import RunError
from kdcompress.run import load_run
from kdcompress.sweep import load_sweep, run_sweep
from tests.core.translation.conftest import write_pairs


def stop_at_two(step, steps, scalars):
    if step == 2:
        raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_to_the_same_weights(recipe_of, tmp_path):
    recipe = recipe_of("student", "train.steps=4")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", stop_at_two)
    fit(recipe, tmp_path / "run")
    fit(recipe, tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_not_trained_again(recipe_of, tmp_path):
    recipe = recipe_of("student")
    summary = fit(recipe, tmp_path)
    kept = load_run(tmp_path).recipe
    assert settings_of(kept).symbols
    for asked in (recipe, kept):
        assert fit(asked, tmp_path, lambda *_: pytest.fail("trained again")) == summary


def test_a_run_keeps_the_table_that_it_began_with(recipe_of, tmp_path):
    train = write_pairs(tmp_path / "train.jsonl", [("abab baba", "da en"), ("bab ab", "en da"), ("ba", "da")] * 8)
    recipe = recipe_of(
        "student", f"data.train={train}", "data.dev=null", "train.steps=4", "frontend.subwords=8", "data.subwords=8"
    )
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", stop_at_two)
    table = settings_of(load_run_recipe(tmp_path / "run")).symbols
    write_pairs(train, [("bbaa abba", "da en"), ("aabb", "en da"), ("ba", "da")] * 8)
    fit(recipe, tmp_path / "run")
    assert settings_of(load_run(tmp_path / "run").recipe).symbols == table


def load_run_recipe(folder):
    from kdcompress.recipe_file import load_recipe

    return load_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize("change", ["frontend.subwords=40", "frontend.symbols=<mask> <unk> a b", "seed=7"])
def test_another_recipe_is_refused(recipe_of, tmp_path, change):
    fit(recipe_of("student"), tmp_path)
    with pytest.raises(RunError, match="holds a run of another recipe"):
        fit(recipe_of("student", change), tmp_path)


def test_a_sweep_gives_what_each_run_gives(recipe_of, tmp_path):
    (tmp_path / "base.yaml").write_text(recipe_of("student").dumps())
    variants = {"one": [], "other": ["model.encoder.dropout=0.1"]}
    (tmp_path / "sweep.yaml").write_text(json.dumps({"recipe": str(tmp_path / "base.yaml"), "variants": variants}))
    recipes = load_sweep(tmp_path / "sweep.yaml")
    for _ in range(2):  # the second time all is there
        assert set(run_sweep(recipes, tmp_path / "sweep")) == set(variants)
    fit(recipes["other"], tmp_path / "alone")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path / "alone", tmp_path / "sweep/other")]
    assert weights[0] == weights[1]
