"""Runs on lines of text, distorted anew at every update: interrupted, with more readers, finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe

LINES = Path(__file__).parents[3] / "data" / "lines"
ENCODER = {"channels": [4, 6], "width": 16, "depth": 1, "kernel": 3, "dropout": 0.1}


@pytest.fixture
def recipe(tmp_path):
    def make(*overrides):
        settings = [f"data.{split}={LINES / split}.jsonl" for split in ("train", "dev")]
        settings += [f"model.encoder={json.dumps(ENCODER)}", "train.steps=4", "train.batch_size=4"]
        return load_recipe("lines-labels", [*settings, *overrides])

    return make


def test_an_interrupted_run_goes_on_to_the_same_weights(recipe, tmp_path):
    def stop(step, steps, scalars):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe(), tmp_path / "run", stop)
    summary = fit(recipe(), tmp_path / "run")
    fit(recipe("data.workers=2"), tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert fit(recipe(), tmp_path / "run", lambda *_: pytest.fail("trained again")) == summary
