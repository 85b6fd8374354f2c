"""``init_encoder``: the weights of a finished run under an output layer for other tokens."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.distill import fit
from kdcompress.errors import RecipeError, RunError
from kdcompress.follow_up import quantization_aware_recipe
from kdcompress.recipe_file import load_recipe
from kdcompress.run import RunFolder, build_network, load_run
from kdcompress.start import shaped_by_tokens, start_encoder_from

WORDS = "data={train: %s, units: words}"


@pytest.fixture
def of_words(make_recipe, corpus, runs):
    """``of_words("student")``: a recipe that starts from the run of that kind, which knows characters, for words."""

    def make(kind, *overrides, **train):
        return make_recipe(kind, WORDS % corpus["train"], f"init_encoder={runs[kind]}", *overrides, **train)

    return make


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("student", {"head.weight", "head.bias"}),
        ("conventional", {"head.weight", "head.bias"}),
        ("oracle", {"head.weight", "head.bias", "embedding.weight"}),
    ],
)
def test_all_but_what_the_tokens_shape_is_copied(of_words, runs, kind, output):
    start, recipe = load_run(runs[kind]), of_words(kind)
    theirs = start.network.state_dict()
    # As many tokens as the run has are not the same tokens: the layer is fresh even where it would fit.
    for tokens in (20, len(start.vocabulary)):
        network = build_network(recipe, tokens)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        fresh = shaped_by_tokens(network, build_network(recipe, tokens + 1))
        start_encoder_from(start, network, recipe, fresh)
        assert fresh == output
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[name] if name in fresh else theirs[name]), name


def test_training_starts_from_the_encoder_and_says_so(of_words, runs, tmp_path):
    recipe = of_words("student", "seed=9", steps=1, learning_rate=1e-9)
    summary = fit(recipe, tmp_path / "run")
    before, after = load_file(RunFolder(runs["student"]).weights), load_file(tmp_path / "run" / "model.safetensors")
    assert summary["init_encoder"]["name"] == "tiny-student"
    assert "init" not in summary
    assert len(after["head.bias"]) != len(before["head.bias"])
    for name in ("feature_norm.mean", "feature_norm.inverse_std", "blocks.1.expand.weight"):
        assert torch.allclose(before[name], after[name], atol=1e-6)
    assert "▁cab" in load_run(tmp_path / "run").vocabulary.symbols
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == recipe


def test_what_follows_such_a_run_starts_from_it_whole(of_words, tmp_path):
    fit(of_words("student", steps=1), tmp_path / "run")
    recipe = quantization_aware_recipe(tmp_path / "run", steps=1)
    assert (recipe.init, recipe.init_encoder) == (tmp_path / "run", None)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.width=12"], "init_encoder: .*model.width is 8 there and 12 here"),
        (["frontend.num_mel_bins=20"], "frontend.num_mel_bins is 16 there and 20 here"),
        (["model={kind: cnn}"], "model.kind is separable_conv there and cnn here"),
    ],
)
def test_another_model_is_refused_before_the_first_update(of_words, tmp_path, overrides, said):
    with pytest.raises(RecipeError, match=said):
        fit(of_words("student", *overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_one_start_only_and_a_finished_one(make_recipe, runs, tmp_path):
    with pytest.raises(RecipeError, match="init and init_encoder both say where to start"):
        make_recipe("student", f"init={runs['student']}", f"init_encoder={runs['student']}")
    with pytest.raises(RunError, match="run not found"):
        fit(make_recipe("student", f"init_encoder={tmp_path / 'none'}"), tmp_path / "run")


def test_a_recipe_without_it_is_written_as_before(make_recipe):
    assert "init_encoder" not in make_recipe("student").dumps()
