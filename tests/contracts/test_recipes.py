"""Every packaged recipe trains on strings of the embedded corpus, for two updates, with its own network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from kdcompress.data.digits import prepare_digits
from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe, packaged_recipes
from kdcompress.run import load_run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "kdcompress" / "recipes"
TEACHERS = ("digits-oracle", "digits-conventional")
STUDENTS = {
    "digits-labels": None,
    "digits-from-oracle": "digits-oracle",
    "digits-from-conventional": "digits-conventional",
}
MILLIONS = {"digits-labels": (0.25, 0.35), "digits-conventional": (0.5, 0.7), "digits-oracle": (0.8, 1.2)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``trained("digits-labels")``: the run of two updates, made when it is first asked for."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("recipes")
    manifests = prepare_digits(ROOT / "data" / "fsdd", folder / "data", strings={"train": 8, "dev": 2})

    def run(name):
        overrides = [f"data.{split}={path}" for split, path in manifests.items()]
        overrides += ["train.steps=2", "train.batch_size=2"]
        if teacher := STUDENTS.get(name):
            overrides.append(f"distill.teachers={run(teacher).folder.path}")
        fit(load_recipe(name, overrides), folder / name)
        return load_run(folder / name)

    return run


def test_these_are_the_packaged_recipes():
    assert packaged_recipes() == sorted([*TEACHERS, *STUDENTS])


@pytest.mark.parametrize("name", packaged_recipes())
def test_recipe_trains(trained, name):
    run = trained(name)
    assert run.summary["name"] == run.recipe.name == name
    assert run.summary["steps"] == 2
    assert run.summary["parameters"] == sum(weight.numel() for weight in run.network.parameters())
    assert set("efghinorstuvwxz") == set("".join(run.vocabulary.symbols[1:]).replace("▁", ""))
    teacher = STUDENTS.get(name)
    assert [entry["name"] for entry in run.summary.get("teachers", [])] == ([teacher] if teacher else [])
    assert ("leak" in run.summary) == (name == "digits-oracle")
    if name in MILLIONS:
        low, high = MILLIONS[name]
        assert low <= run.summary["parameters"] / 1e6 <= high


def test_students_differ_in_their_teacher_alone():
    plain = load_recipe("digits-labels").model_dump(exclude={"name", "losses", "distill"})
    for name in STUDENTS:
        assert load_recipe(name).model_dump(exclude={"name", "losses", "distill"}) == plain
    one, two = (load_recipe(name) for name, teacher in STUDENTS.items() if teacher)
    assert one.losses == two.losses
    assert one.distill.model_dump(exclude={"teachers"}) == two.distill.model_dump(exclude={"teachers"})
    assert one.distill.teachers != two.distill.teachers
    assert [loss.kind for loss in load_recipe("digits-labels").losses] == ["ctc"]


def test_teachers_share_encoder_and_schedule():
    oracle, conventional = (load_recipe(name) for name in TEACHERS)
    assert oracle.model.encoder == conventional.model.encoder
    assert oracle.train == conventional.train
    assert oracle.frontend == conventional.frontend == load_recipe("digits-labels").frontend


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_file_is_named_like_its_recipe_and_says_where_its_data_comes_from(path):
    text = path.read_text(encoding="utf-8")
    assert load_recipe(path).name == path.stem
    assert load_recipe(path) == load_recipe(path.stem)
    assert re.match(r"# .*\n# Data: kdcompress prepare digits -o runs/digits\nschema: 1\n", text)
