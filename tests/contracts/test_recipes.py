"""Every packaged recipe trains on strings of the embedded corpus, for two updates, with its own network."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from kdcompress.aligning.align import align_manifest
from kdcompress.data.digits import prepare_digits
from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe, packaged_recipes
from kdcompress.run import load_run
from kdcompress.text_models.fit import fit_text_model
from kdcompress.text_models.recipe import load_text_recipe

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "kdcompress" / "recipes"
TEACHERS = {
    "digits-oracle": "digits-conventional",
    "digits-conventional": "digits-conventional",
    "digits-vgg": None,
    "sentences-oracle": "sentences-conventional",
    "sentences-conventional": "sentences-conventional",
    "sentences-narrowband-conventional": "sentences-conventional",
}
"""Each teacher, and the one whose twin it is, if any."""
STUDENTS = {
    "digits-labels": None,
    "digits-from-oracle": "digits-oracle",
    "digits-from-conventional": "digits-conventional",
    "digits-from-vgg": "digits-vgg",
    "sentences-labels": None,
    "sentences-from-oracle": "sentences-oracle",
    "sentences-from-conventional": "sentences-conventional",
    "sentences-narrowband-labels": None,
    "sentences-narrowband-from-narrowband": "sentences-narrowband-conventional",
    "sentences-narrowband-from-broadband": "sentences-conventional",
}
"""Each student's teacher."""
CONFORMERS = ("digits-conformer", "sentences-conformer")
"""Students from labels only, of another kind than those of their family."""
HEADS = ("digits-heads", "sentences-heads")
"""Students with heads that language models teach."""
CEPSTRA = ("an4-labels", "an4-conventional")
"""Recipes for frames of features; tests/core/features trains them."""
ELSEWHERE = ("lines", "pairs")
"""Families of other tasks; test_recipes_of_tasks.py trains them."""
FAMILIES = ("digits", "sentences", "sentences-narrowband")
MILLIONS = {
    "digits-labels": (0.25, 0.35),
    "digits-conformer": (0.35, 0.45),
    "sentences-conformer": (0.35, 0.5),
    "digits-conventional": (0.5, 0.7),
    "digits-oracle": (0.8, 1.2),
    "sentences-labels": (0.3, 0.4),
    "sentences-narrowband-labels": (0.25, 0.35),
    "sentences-conventional": (1.4, 1.8),
    "sentences-oracle": (2.0, 2.8),
}


def family(name: str) -> str:
    """``sentences-narrowband`` of ``sentences-narrowband-from-broadband``."""
    return max((prefix for prefix in FAMILIES if name.startswith(f"{prefix}-")), key=len)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``trained("digits-labels")``: the run of two updates, made when it is first asked for."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("recipes")
    manifests = prepare_digits(ROOT / "data" / "fsdd", folder / "data", strings={"train": 8, "dev": 2})

    def read(name):
        """Overrides: language models of characters under the names that the recipe has, and an alignment."""
        settings = {
            "schema": 1,
            "name": "lm",
            "text": {"train": str(manifests["train"]), "units": "characters"},
            "model": {"kind": "ngram"},
        }
        (folder / "lm.yaml").write_text(json.dumps(settings))
        fit_text_model(load_text_recipe(folder / "lm.yaml"), folder / "lm")
        align_manifest(run("digits-labels"), manifests["train"], folder / "alignment")
        models = dict.fromkeys(load_recipe(name).distill.language_models, str(folder / "lm"))
        distill = {"language_models": models, "alignment": str(folder / "alignment" / "alignment.jsonl")}
        pieces = ["data.subwords=20"] if load_recipe(name).data.units == "subwords" else []
        return [f"distill={json.dumps(distill)}", *pieces]

    def run(name):
        overrides = [f"data.{split}={path}" for split, path in manifests.items()]
        overrides += ["train.steps=2", "train.batch_size=2"]
        if teacher := STUDENTS.get(name):
            overrides.append(f"distill.teachers={run(teacher).folder.path}")
        if name in HEADS:
            overrides += read(name)
        fit(load_recipe(name, overrides), folder / name)
        return load_run(folder / name)

    return run


def test_these_are_the_packaged_recipes():
    found = [name for name in packaged_recipes() if not name.startswith(ELSEWHERE)]
    assert found == sorted([*TEACHERS, *STUDENTS, *CONFORMERS, *HEADS, *CEPSTRA])


@pytest.mark.parametrize("name", [*TEACHERS, *STUDENTS, *CONFORMERS, *HEADS])
def test_recipe_trains(trained, name):
    run = trained(name)
    assert run.summary["name"] == run.recipe.name == name
    assert run.summary["steps"] == 2
    assert run.summary["parameters"] == sum(weight.numel() for weight in run.network.parameters())
    assert set("efghinorstuvwxz") == set("".join(run.vocabulary.symbols[1:]).replace("▁", ""))
    teacher = STUDENTS.get(name)
    assert [entry["name"] for entry in run.summary.get("teachers", [])] == ([teacher] if teacher else [])
    assert ("leak" in run.summary) == (run.recipe.model.kind == "oracle")
    if name in MILLIONS:
        low, high = MILLIONS[name]
        assert low <= run.summary["parameters"] / 1e6 <= high


@pytest.mark.parametrize("prefix", FAMILIES)
def test_students_differ_in_their_teacher_alone(prefix):
    names = [name for name in STUDENTS if family(name) == prefix]
    plain = load_recipe(f"{prefix}-labels").model_dump(exclude={"name", "losses", "distill"})
    for name in names:
        assert load_recipe(name).model_dump(exclude={"name", "losses", "distill"}) == plain
    taught = {name: load_recipe(name) for name in names if STUDENTS[name]}
    assert len(taught) >= 2
    first = next(iter(taught.values()))
    for name, recipe in taught.items():
        assert recipe.losses == first.losses
        assert recipe.distill.combine == first.distill.combine
        assert [path.name for path in recipe.distill.teachers] == [STUDENTS[name]]
    assert [loss.kind for loss in load_recipe(f"{prefix}-labels").losses] == ["ctc"]


@pytest.mark.parametrize("name", CONFORMERS)
def test_a_conformer_is_trained_like_the_student_of_its_family(name):
    conformer, plain = load_recipe(name), load_recipe(f"{family(name)}-labels")
    assert conformer.model.kind == "chunked_conformer"
    assert (conformer.model.preset, conformer.model.lookahead_frames) == (
        plain.model.preset,
        plain.model.lookahead_frames,
    )
    assert conformer.model_dump(exclude={"name", "model"}) == plain.model_dump(exclude={"name", "model"})


@pytest.mark.parametrize("name", HEADS)
def test_a_student_with_heads_differs_in_its_heads_alone(name):
    heads, plain = load_recipe(name), load_recipe(f"{family(name)}-labels")
    assert heads.data.model_copy(update={"units": "characters"}) == plain.data
    left_out = {"name", "data", "losses", "distill"}
    assert heads.model_dump(exclude=left_out) == plain.model_dump(exclude=left_out)
    assert [loss.layer for loss in heads.losses if loss.reads] == [2, 4, 7]


@pytest.mark.parametrize("name", [name for name, twin in TEACHERS.items() if twin])
def test_twins_share_encoder_and_schedule(name):
    teacher, like = load_recipe(name), load_recipe(TEACHERS[name])
    assert teacher.model.encoder == like.model.encoder
    assert (teacher.train, teacher.data, teacher.augment) == (like.train, like.data, like.augment)
    assert teacher.frontend == load_recipe(f"{family(name)}-labels").frontend


def test_a_narrowband_family_is_the_other_one_at_half_the_rate():
    for name in ("labels", "conventional"):
        wide, narrow = load_recipe(f"sentences-{name}"), load_recipe(f"sentences-narrowband-{name}")
        assert wide.model_dump(exclude={"name", "frontend"}) == narrow.model_dump(exclude={"name", "frontend"})
        assert (wide.frontend.sample_rate, narrow.frontend.sample_rate) == (16000, 8000)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(FOLDER.iterdir()) if not path.name.startswith(ELSEWHERE)],
    ids=lambda path: path.name,
)
def test_file_is_named_like_its_recipe_and_says_where_its_data_comes_from(path):
    text = path.read_text(encoding="utf-8")
    assert load_recipe(path).name == path.stem
    assert load_recipe(path) == load_recipe(path.stem)
    if path.stem in CEPSTRA:
        assert text.startswith("# Needs CMU AN4 as cepstra")
        return
    if family(path.stem) == "digits":
        start = r"# .*\n# Data: kdcompress prepare digits -o runs/digits\n"
    else:  # what a user must fetch comes first
        command = "kdcompress prepare sentences -o runs/sentences --source FOLDER"
        start = rf"# Needs speech that does not come with kdcompress.*\n# .*\n# Data: {command}\n"
    assert re.match(start + ("# .*\n" if path.stem in HEADS else "") + "schema: 1\n", text)
