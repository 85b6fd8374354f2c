"""Every packaged recipe for text lines and sentence pairs trains on the samples that come with kdcompress."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from kdcompress.distill import fit
from kdcompress.labels.label import label
from kdcompress.recipe_file import load_recipe, packaged_recipes
from kdcompress.run import load_run
from kdcompress.steps import path_setting

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "kdcompress" / "recipes"
TASKS = {"lines": "scene_text", "pairs": "translation"}
TAUGHT = {
    "lines-from-conventional": ("lines-conventional",),
    "lines-from-oracle": ("lines-oracle",),
    "lines-from-hybrid": ("lines-oracle", "lines-conventional"),
    "pairs-from-conventional": ("pairs-conventional",),
    "pairs-from-oracle": ("pairs-oracle",),
    "pairs-from-sequences": ("pairs-conventional",),
}
"""Students and who teach them here; where sentences are stored, any teacher can have said them."""
MILLIONS = {
    "lines-labels": (0.9, 1.2),
    "lines-crnn": (0.9, 1.4),
    "lines-conventional": (2.0, 3.2),
    "lines-oracle": (3.5, 5.5),
    "pairs-labels": (2.0, 3.5),
    "pairs-conventional": (4.0, 7.0),
    "pairs-oracle": (6.0, 10.0),
}
NAMES = [name for name in packaged_recipes() if name.startswith(tuple(TASKS))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``trained("lines-labels")``: the run of two updates, made when it is first asked for."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("recipes")

    def run(name):
        if (folder / name / "run.json").is_file():
            return load_run(folder / name)
        data = [f"data.{split}={ROOT / 'data' / name.partition('-')[0] / split}.jsonl" for split in ("train", "dev")]
        overrides = [*data, "train.steps=2", "train.batch_size=4"]
        if teachers := TAUGHT.get(name):
            taught = [run(teacher).folder.path for teacher in teachers]
            if name == "pairs-from-sequences":
                taught = [stored(taught[0], overrides)]
            overrides.append(path_setting("distill.teachers", *taught))
        fit(load_recipe(name, overrides), folder / name)
        return load_run(folder / name)

    def stored(teacher, overrides):
        settings = [*overrides, f"distill.teachers={teacher}", "label={kind: nbest, size: 1, beam_width: 2}"]
        label(load_recipe("pairs-from-sequences", settings), folder / "sequences")
        return folder / "sequences"

    return run


def test_every_family_has_its_recipes():
    for family in TASKS:
        found = {name.partition("-")[2] for name in NAMES if name.startswith(family)}
        assert {"labels", "conventional", "oracle", "from-conventional", "from-oracle"} <= found


@pytest.mark.parametrize("name", NAMES)
def test_recipe_trains(trained, name):
    run = trained(name)
    assert run.summary["name"] == run.recipe.name == name
    assert run.recipe.task == TASKS[name.partition("-")[0]]
    assert run.summary["steps"] == 2
    assert ("leak" in run.summary) == (run.recipe.model.kind == "oracle")
    assert bool(run.summary.get("teachers")) == (name in TAUGHT)
    if name in MILLIONS:
        low, high = MILLIONS[name]
        assert low <= run.summary["parameters"] / 1e6 <= high


@pytest.mark.parametrize("name", [name for name in NAMES if "-from-" in name])
def test_students_differ_in_their_teacher_alone(name):
    plain = load_recipe(f"{name.partition('-')[0]}-labels")
    left_out = {"name", "losses", "distill"}
    assert load_recipe(name).model_dump(exclude=left_out) == plain.model_dump(exclude=left_out)


@pytest.mark.parametrize("family", TASKS)
def test_twins_share_encoder_and_schedule(family):
    teacher, twin = load_recipe(f"{family}-oracle"), load_recipe(f"{family}-conventional")
    assert teacher.model.encoder == twin.model.encoder
    assert (teacher.train, teacher.data, teacher.augment) == (twin.train, twin.data, twin.augment)


@pytest.mark.parametrize("name", NAMES)
def test_file_is_named_like_its_recipe_and_says_where_its_data_comes_from(name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert load_recipe(name).name == name
    assert re.match(r"(# .*\n)+# Data: .* come with kdcompress, to try it; .*\n(# .*\n)*schema: 1\n", text)
