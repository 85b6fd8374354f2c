"""Runs that train side by side, and sweep files: the same weights as alone, resumed, grouped, one divergence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.distill import fit
from kdcompress.errors import RecipeError, TrainingDivergedError
from kdcompress.side_by_side import fit_side_by_side
from kdcompress.sweep import load_sweep, run_sweep

STEPS = 4


@pytest.fixture(scope="module")
def recipes(make_recipe, runs):
    """Recipes that read the same batches but for the last, which pairs items with streams."""
    both = f'distill.teachers=["{runs["oracle"]}", "{runs["conventional"]}"]'
    taught = 'losses=[{"kind": "ctc"}, {"kind": "frame_kl"}]'
    settings = {
        "labels": [],
        "consistent": ['losses=[{"kind": "ctc"}, {"kind": "cr_ctc"}]'],
        "in-place": ['losses=[{"kind": "ctc"}, {"kind": "in_place", "heads": 2}]'],
        "both": [taught, both, "distill.combine={kind: interpolation}"],
        "streams": [taught, both, "distill.combine={kind: multi_stream}"],
    }
    return {name: make_recipe("student", *own, f"name={name}", steps=STEPS) for name, own in settings.items()}


@pytest.fixture(scope="module")
def alone(recipes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name, recipe in recipes.items():
        fit(recipe, folder / name)
    return {name: load_file(folder / name / "model.safetensors") for name in recipes}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_weights_as_alone(recipes, alone, tmp_path):
    seen = []
    found = fit_side_by_side(
        [(r, tmp_path / n) for n, r in recipes.items()], lambda done, total: seen.append((done, total))
    )
    assert [summary["name"] for summary in found] == list(recipes)
    for name in recipes:
        assert same(load_file(tmp_path / name / "model.safetensors"), alone[name]), name
        assert json.loads((tmp_path / name / "run.json").read_text())["steps"] == STEPS
    assert seen[-1] == (STEPS * len(recipes), STEPS * len(recipes))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_done_is_kept_and_an_interrupted_run_goes_on(recipes, alone, tmp_path):
    runs = [(recipes[name], tmp_path / name) for name in ("labels", "both")]

    fit(recipes["labels"], tmp_path / "labels")
    before = (tmp_path / "labels" / "model.safetensors").stat().st_mtime_ns
    count = []

    def interrupt(done, total):
        count.append(done)
        if len(count) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_side_by_side(runs, interrupt)
    fit_side_by_side(runs)
    assert (tmp_path / "labels" / "model.safetensors").stat().st_mtime_ns == before
    assert same(load_file(tmp_path / "both" / "model.safetensors"), alone["both"])


def test_one_that_diverges_does_not_stop_the_others(recipes, alone, make_recipe, tmp_path):
    broken = make_recipe("student", 'losses=[{"kind": "ctc", "weight": 1.0e+39}]', steps=STEPS)
    with pytest.raises(TrainingDivergedError, match="at step 0"):
        fit_side_by_side([(broken, tmp_path / "broken"), (recipes["labels"], tmp_path / "labels")])
    assert same(load_file(tmp_path / "labels" / "model.safetensors"), alone["labels"])
    assert not (tmp_path / "broken" / "run.json").exists()


def test_a_sweep_file(recipes, alone, make_recipe, tmp_path):
    base = make_recipe("student", steps=STEPS)
    (tmp_path / "base.yaml").write_text(base.dumps())
    file = tmp_path / "sweep.yaml"
    consistent = 'losses=[{"kind": "ctc"}, {"kind": "cr_ctc"}]'
    file.write_text(
        json.dumps({"recipe": str(tmp_path / "base.yaml"), "variants": {"labels": [], "consistent": [consistent]}})
    )
    found = run_sweep(load_sweep(file), tmp_path / "out")
    assert list(found) == ["labels", "consistent"]
    for name in found:
        assert same(load_file(tmp_path / "out" / name / "model.safetensors"), alone[name])
    assert load_sweep(file, ["seed=5"])["labels"].seed == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("recipe: digits-labels", "has two keys"),
        ("recipe: digits-labels\nvariants: {a: 3}", "variants.a must be a list"),
        ("recipe: digits-labels\nvariants: {a: [train.stps=3]}", "variant a: .*did you mean 'steps'"),
        ("a: [", "not a readable YAML"),
    ],
)
def test_a_bad_sweep_file_is_one_sentence(tmp_path, content, words):
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(RecipeError, match=words):
        load_sweep(tmp_path / "sweep.yaml")
    with pytest.raises(RecipeError, match="not a readable"):
        load_sweep(tmp_path / "nowhere.yaml")
