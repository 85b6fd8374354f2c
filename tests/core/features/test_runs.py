"""Training on frames of features: from labels, from teachers, from stores; interrupted, swept, streamed, refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdcompress.data.packing import pack
from kdcompress.data.task import TASKS
from kdcompress.distill import fit
from kdcompress.errors import FeaturesNotFoundError, MismatchError, RecipeError
from kdcompress.labels.label import label
from kdcompress.pruning import PruneOptions, prune_run
from kdcompress.recipe_file import load_recipe, packaged_recipes
from kdcompress.run import load_run
from kdcompress.sweep import load_sweep, run_sweep
from kdcompress.teacher_check import check_run
from kdcompress_evaluation.manifests import plan_manifest
from kdcompress_export.errors import ExportError
from kdcompress_export.from_run import source_from_run
from kdcompress_runtime.errors import ManifestError
from tests.core.features.conftest import DIM, WORDS, write_rows

PLAIN = ("augment.speed=[1.0]", "augment.lead_in_s=[0,0]", "augment.spec=null")


def taught(*teachers, kind="frame_kl"):
    losses = [{"kind": "ctc", "weight": 0.5}, {"kind": kind, "weight": 0.5}]
    return [f"losses={json.dumps(losses)}", f"distill={json.dumps({'teachers': [str(path) for path in teachers]})}"]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_student_learns_the_language(recipe_of, tmp_path):
    summary = fit(recipe_of("student", steps=60, learning_rate=0.02, checkpoint_every=100, log_every=20), tmp_path)
    assert summary["dev"]["wer"] < 20
    run = load_run(tmp_path)
    assert set(run.vocabulary.symbols[1:]) == {f"▁{word}" for word in WORDS}
    assert run.recipe.task == "features"


def test_an_interrupted_run_goes_on_to_the_same_weights(recipe_of, tmp_path):
    recipe = recipe_of("student", steps=6)

    def stop(step, steps, scalars):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", stop)
    fit(recipe, tmp_path / "run")
    fit(recipe_of("student", "data.workers=2", steps=6), tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("teacher", ["conventional", "oracle", "student"])
def test_a_run_teaches(recipe_of, feature_runs, tmp_path, teacher):
    summary = fit(recipe_of("student", *taught(feature_runs[teacher]), steps=2), tmp_path)
    assert summary["teachers"][0]["name"] == f"tiny-{teacher}"
    assert summary["dev"]["ctc"] > 0


def test_a_store_teaches_what_its_teacher_does(recipe_of, feature_runs, tmp_path):
    online = recipe_of("student", *taught(feature_runs["conventional"]), *PLAIN, steps=3)
    label(recipe_of("student", *taught(feature_runs["conventional"]), 'label={kind: "full"}'), tmp_path / "store")
    stored = recipe_of("student", *taught(tmp_path / "store"), *PLAIN, steps=3)
    fit(online, tmp_path / "online")
    fit(stored, tmp_path / "stored")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("online", "stored"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-3)
    fit(recipe_of("student", *taught(tmp_path / "store"), steps=2), tmp_path / "moved")  # at other speeds


def test_labels_of_items_that_are_long_or_missing(recipe_of, feature_runs, features, tmp_path):
    """``data.max_duration`` is seconds for frames, too: the longest items have some 100 frames."""
    recipe = recipe_of("student", *taught(feature_runs["student"]), "data.max_duration=5")
    assert label(recipe, tmp_path / "all")["left_out"] == 0
    rows = [{"feature_filepath": str(features["dev"].parent / name), "text": "low"} for name in ("dev-0.npy", "gone")]
    manifest = write_rows(tmp_path / "some.jsonl", rows)
    changed = [*taught(feature_runs["student"]), f"data.train={manifest}"]
    with pytest.raises(FeaturesNotFoundError, match="gone"):
        label(recipe_of("student", *changed), tmp_path / "none")
    assert label(recipe_of("student", *changed, "data.on_unusable=skip"), tmp_path / "some")["left_out"] == 1


def test_a_sweep_gives_what_each_run_gives(recipe_of, feature_runs, tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text(recipe_of("student", steps=3).dumps())
    variants = {"labels": [], "taught": taught(feature_runs["conventional"])}
    (tmp_path / "sweep.yaml").write_text(json.dumps({"recipe": str(base), "variants": variants}))
    recipes = load_sweep(tmp_path / "sweep.yaml")
    assert set(run_sweep(recipes, tmp_path / "sweep")) == {"labels", "taught"}
    fit(recipes["taught"], tmp_path / "alone")
    assert weights(tmp_path / "alone") == weights(tmp_path / "sweep" / "taught")


def test_a_stream_says_what_the_whole_says(feature_runs, features):
    run = load_run(feature_runs["student"])
    task, network = TASKS["features"], run.network
    items = task.items(features["dev"], run.recipe, run.vocabulary, network.units_per_frame)
    for batch in task.evaluation_batches(items, run.recipe.model_copy(update={"train": run.recipe.train})):
        lens = network.frame_lens(batch.input_lens)
        whole = network(network.features(batch.inputs), lens, batch.labels, batch.label_lens)
        features_in, states, found = network.features(batch.inputs), network.init_states(len(lens)), []
        for start in range(0, features_in.shape[1], 2 * network.units_per_frame):
            said, states = network.step(features_in[:, start : start + 2 * network.units_per_frame], states)
            found.append(said)
        streamed = torch.cat(found, dim=1)[:, network.lookahead_frames :]
        torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-5)
        assert network.frontend.state_specs() == ()
        assert network.frontend.feature_dim == 3 * DIM


def test_a_teacher_is_checked_and_a_student_is_pruned(feature_runs, tmp_path):
    assert check_run(feature_runs["conventional"]).passed
    prune_run(feature_runs["student"], tmp_path / "smaller", PruneOptions(keep_blocks=1, batches=1))
    assert load_run(tmp_path / "smaller").summary["dev"]["ctc"] > 0


def test_what_does_not_fit_together_is_one_sentence(recipe_of, make_recipe, feature_runs, runs, tmp_path):
    with pytest.raises(MismatchError, match="is of task speech, and the recipe of task features"):
        fit(recipe_of("student", *taught(runs["conventional"])), tmp_path / "a")
    with pytest.raises(MismatchError, match="is of task features, and the recipe of task speech"):
        fit(make_recipe("student", *taught(feature_runs["conventional"])), tmp_path / "b")
    with pytest.raises(MismatchError, match=r"given other inputs: frontend.deltas is 2 there and 1 here"):
        fit(recipe_of("student", *taught(feature_runs["conventional"]), "frontend.deltas=1"), tmp_path / "c")
    with pytest.raises(RecipeError, match=r"init: .* holds another model: frontend.mean is item there and none here"):
        fit(recipe_of("student", f"init={feature_runs['student']}", "frontend.mean=none"), tmp_path / "d")


TEACHER = """
from fractions import Fraction
from pathlib import Path
from kdcompress.teachers.teacher import Teacher, TeacherInfo
from kdcompress_runtime.vocabulary import Vocabulary

class Hears(Teacher):
    info = TeacherInfo(
        source=Path("hears"), name="hears", kind="python", fingerprint="0" * 64,
        vocabulary=Vocabulary(("<blk>", "low", "mid", "high")), units="words", frame=Fraction(1, 25),
        sample_rate=16000, gives=frozenset({"log_probs"}))
    def answer(self, heard, items=None):
        raise AssertionError

def teacher():
    return Hears()
"""


def test_a_teacher_that_hears_recordings_is_refused(recipe_of, tmp_path):
    (tmp_path / "hears.py").write_text(TEACHER)
    recipe = recipe_of("student", *taught(tmp_path / "hears.py"))
    with pytest.raises(MismatchError, match="hears recordings, and the student's items are none"):
        fit(recipe, tmp_path / "run")
    with pytest.raises(MismatchError, match="hears recordings, and task features has none"):
        label(recipe, tmp_path / "store")


def test_what_takes_recordings_alone_says_so(feature_runs, features, tmp_path):
    with pytest.raises(ExportError, match="is of task features, whose inputs no bundle takes:"):
        source_from_run(feature_runs["student"])
    with pytest.raises(ManifestError, match="its items are frames of features, which no bundle takes"):
        plan_manifest("dev", features["dev"])
    with pytest.raises(ManifestError, match="frames of features are not packed into tars"):
        pack(features["train"], tmp_path / "packed")


@pytest.mark.parametrize("name", [name for name in packaged_recipes() if name.startswith("an4-")])
def test_packaged_recipes_train(name, tmp_path):
    rng = np.random.default_rng(1)
    np.savez_compressed(tmp_path / "all.npz", **{str(i): rng.standard_normal((120, 13)) for i in range(4)})
    rows = [{"feature_archive": "all.npz", "feature_key": str(i), "text": "yes no"} for i in range(4)]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(name, [f"data.train={path}", f"data.dev={path}", "train.steps=2", "train.batch_size=2"])
    summary = fit(recipe, tmp_path / "run")
    assert summary["name"] == recipe.name == name
    low, high = {"an4-labels": (0.25, 0.4), "an4-conventional": (1.0, 3.0)}[name]
    assert low < summary["parameters"] / 1e6 < high
