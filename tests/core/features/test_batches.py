"""Manifests of features -> batches, and the recipes that ask for what features do not have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from kdcompress.data.features import FeatureBatches, feature_evaluation_batches, feature_items, with_deltas
from kdcompress.data.speech import speech_items
from kdcompress.data.task import TASKS
from kdcompress.data.text import unit_vocabulary
from kdcompress.errors import FeaturesNotFoundError, RecipeError, TargetTooLongError
from kdcompress.recipe_file import load_recipe
from kdcompress_runtime.errors import InputError, ManifestError
from tests.core.features.conftest import DIM, TEXTS, write_rows

if TYPE_CHECKING:
    from kdcompress.recipe import Recipe


@pytest.fixture(scope="module")
def words():
    return unit_vocabulary(TEXTS["train"], "words", 256)


def batches(recipe: Recipe, vocabulary, **shares) -> FeatureBatches:
    return TASKS["features"].training_batches(recipe, vocabulary, units_per_frame=4, **shares)


def test_a_batch_follows_from_seed_and_step(recipe_of, words):
    recipe = recipe_of("student", steps=5)
    one, two, other = batches(recipe, words), batches(recipe, words), batches(recipe_of("student", "seed=2"), words)
    for step in (3, 0, 3):
        assert torch.equal(one[step].inputs, two[step].inputs)
        assert torch.equal(one[step].times, two[step].times)
    assert one[0].items.tolist() != other[0].items.tolist()
    batch = one[0]
    assert batch.inputs.shape == (6, int(batch.input_lens.max()), 3 * DIM)
    assert batch.inputs.dtype == torch.float32
    assert batch.sample_rate is None
    assert len(one) == 5


def test_processes_share_a_batch(recipe_of, words):
    recipe = recipe_of("student")
    whole = batches(recipe, words)[1]
    parts = [batches(recipe, words, rank=rank, world=2)[1] for rank in range(2)]
    for rank, part in enumerate(parts):
        assert part.texts == whole.texts[rank::2]
        for row, length, mine in zip(part.inputs, part.input_lens, whole.inputs[rank::2], strict=True):
            assert torch.equal(row[:length], mine[:length])


def test_items_are_evaluated_once_as_they_are(recipe_of, features, frames, words):
    recipe = recipe_of("student", batch_size=3)
    items = feature_items(features["dev"], recipe, words, 4)
    found = list(feature_evaluation_batches(items, recipe))
    assert [len(batch.texts) for batch in found] == [3, 1]
    for batch in found:
        for number, text, row, length in zip(batch.items, batch.texts, batch.inputs, batch.input_lens, strict=True):
            values = frames[f"dev-{number}"]
            wanted = with_deltas(values - values.mean(axis=0), 2)
            assert text == TEXTS["dev"][number]
            assert int(length) == len(values) == items[int(number)].units
            np.testing.assert_allclose(row[:length].numpy(), wanted, atol=1e-6)
            assert not row[length:].any()


def test_mean_and_deltas_can_be_left_out(recipe_of, features, frames, words):
    recipe = recipe_of("student", "frontend.mean=none", "frontend.deltas=0")
    items = feature_items(features["dev"], recipe, words, 4)
    (batch,) = feature_evaluation_batches(items[1:2], recipe)
    np.testing.assert_array_equal(batch.inputs[0].numpy(), frames["dev-1"])


def test_batches_of_seconds(recipe_of, words):
    recipe = recipe_of("student", "augment.lead_in_s=[0,0]", "augment.speed=[1.0]", batch_seconds=3.0)
    made = batches(recipe, words)
    for step in range(4):
        assert made[step].inputs.shape[0] * made[step].inputs.shape[1] <= 300
    items = made.items
    for batch in feature_evaluation_batches(items, recipe):
        assert batch.inputs.shape[0] * batch.inputs.shape[1] <= 300


def test_lengths_come_from_the_line_or_from_the_header(recipe_of, features, frames, words, tmp_path):
    folder = features["dev"].parent
    rows = [{"feature_filepath": str(folder / f"dev-{i}.npy"), "text": text} for i, text in enumerate(TEXTS["dev"])]
    rows[0]["num_frames"] = 70
    rows[1]["duration"] = 0.5
    items = feature_items(write_rows(tmp_path / "m.jsonl", rows), recipe_of("student"), words, 4)
    assert items.lengths.tolist() == [70, 50, len(frames["dev-2"]), len(frames["dev-3"])]


def test_unusable_items_are_told(recipe_of, features, words, tmp_path):
    recipe, folder = recipe_of("student"), features["dev"].parent
    row = {"feature_filepath": str(folder / "dev-0.npy"), "text": "low high"}

    def read(**changes):
        path = write_rows(tmp_path / "m.jsonl", [{**row, **changes}])
        items = feature_items(path, recipe, words, 4)
        return list(feature_evaluation_batches(items, recipe))

    with pytest.raises(TargetTooLongError, match="needs 9 frames, the input has 2"):
        read(num_frames=8, text="low " * 5)
    with pytest.raises(InputError, match=r"31\.0 s is longer than data.max_duration"):
        read(duration=31)
    with pytest.raises(FeaturesNotFoundError, match=r"gone\.npy"):
        read(feature_filepath="gone.npy", duration=1)


def test_another_kind_of_manifest_is_refused(recipe_of, make_recipe, features, corpus, words):
    with pytest.raises(ManifestError, match="train-0: is features, and the task of the recipe takes audio"):
        speech_items(features["train"], make_recipe("student"), words, 320)
    with pytest.raises(ManifestError, match="is audio, and the task of the recipe takes features"):
        feature_items(corpus["train"], recipe_of("student"), words, 4)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("augment.noise={manifest: n.jsonl}", "augment.noise does nothing to the items of task features"),
        ("augment.gain_db=[-3, 3]", "augment.gain_db does nothing to the items of task features"),
        ("task=speech", "task is speech, and frontend.kind features is for task features"),
        ("frontend={sample_rate: 8000}", "task is features, and frontend.kind log_mel is for task speech"),
        ("frontend={kind: features}", "key 'frontend.feature_dim' is missing"),
        ("frontend.delta=1", "unknown key 'frontend.delta'; did you mean 'deltas'"),
        ("frontend.deltas=3", "frontend.deltas: Input should be less than or equal to 2"),
        ("frontend.kind=mfcc", "frontend.kind: 'mfcc' is unknown; choose one of 'log_mel', 'features'"),
        ("task=images", "task: .*'features'"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_sentence(recipe_of, override, words):
    with pytest.raises(RecipeError, match=words):
        recipe_of("student", override)


def test_a_recipe_comes_back_as_it_was_written(recipe_of, tmp_path):
    recipe = recipe_of("student", "augment.gain_db=[0,0]")
    (tmp_path / "r.yaml").write_text(recipe.dumps())
    again = load_recipe(tmp_path / "r.yaml")
    assert again.dumps() == recipe.dumps()
    assert "gain_db" not in recipe.dumps()
    assert json.loads(recipe.frontend.model_dump_json())["feature_dim"] == DIM
