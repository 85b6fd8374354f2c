"""Starting from a run, and training with the rounding of int8: what is rounded, what is not, and what is saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.distill import fit
from kdcompress.errors import RecipeError, RunError
from kdcompress.follow_up import quantization_aware_recipe
from kdcompress.quantization_aware import QuantizationAware, Simulation, _limits
from kdcompress.recipe_file import load_recipe
from kdcompress.run import RunFolder, load_run

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.recipe import Recipe

STUDENTS = ("separable_conv", "cnn", "chunked_conformer")


def features_of(network: Any, items: int = 2, frames: int = 40) -> tuple[torch.Tensor, ...]:
    """Arguments of ``outputs`` for made-up features."""
    generator = torch.Generator().manual_seed(4)
    total = (frames + network.lookahead_frames) * network.subsampling_factor
    features = -8 + 3 * torch.randn(items, total, network.frontend.feature_dim, generator=generator)
    empty = torch.zeros(items, 0, dtype=torch.int64)
    return features, torch.full((items,), frames), empty, empty.sum(dim=1)


def calibrated(network: Any, **settings: Any) -> Simulation:
    simulation = Simulation(QuantizationAware(**settings), network)
    with simulation.observing(network):
        network.outputs(*features_of(network))
    return simulation


def kill_at(step: int) -> Any:
    def progress(done: int, steps: int, scalars: dict) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_init_starts_from_weights_and_feature_statistics(make_recipe, runs, tmp_path):
    before = load_file(RunFolder(runs["student"]).weights)
    recipe = make_recipe("student", f"init={runs['student']}", "seed=9", steps=1, learning_rate=1e-9)
    summary = fit(recipe, tmp_path / "run")
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert before.keys() == after.keys()
    for name in ("feature_norm.mean", "feature_norm.inverse_std"):
        assert torch.equal(before[name], after[name])
    assert torch.allclose(before["blocks.1.expand.weight"], after["blocks.1.expand.weight"], atol=1e-6)
    assert summary["init"]["name"] == "tiny-student"
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.width=12"], "model.width is 8 there and 12 here"),
        (["model.lookahead_frames=2"], "model.lookahead_frames is 3 there and 2 here"),
        (["frontend.num_mel_bins=20"], "frontend.num_mel_bins is 16 there and 20 here"),
        (["model={kind: cnn}"], "model.kind is separable_conv there and cnn here"),
    ],
)
def test_init_from_another_model_names_what_differs(make_recipe, runs, tmp_path, overrides, said):
    recipe = make_recipe("student", f"init={runs['student']}", *overrides)
    with pytest.raises(RecipeError, match=said):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_init_may_change_what_weights_do_not_depend_on(make_recipe, runs, tmp_path):
    recipe = make_recipe("student", f"init={runs['student']}", "model.dropout=0.3", "model.chunk_frames=2", steps=1)
    assert fit(recipe, tmp_path / "run")["steps"] == 1


def test_init_from_nowhere_is_a_run_error(make_recipe, tmp_path):
    with pytest.raises(RunError, match="run not found"):
        fit(make_recipe("student", f"init={tmp_path / 'none'}"), tmp_path / "run")


def test_a_recipe_without_the_new_keys_is_written_as_before(make_recipe):
    assert "init" not in make_recipe("student").dumps()
    assert "quantization_aware" not in make_recipe("student").dumps()


@pytest.mark.parametrize(
    ("model", "overrides", "said"),
    [
        ("conventional", ["quantization_aware={}"], "is a teacher, which has no int8 file"),
        ("student", ["quantization_aware={}", "train.precision=bf16"], "set train.precision to float32"),
        ("student", ["quantization_aware={bits: 4}"], "unknown key 'quantization_aware.bits'"),
    ],
)
def test_quantization_aware_is_checked(make_recipe, model, overrides, said):
    with pytest.raises(RecipeError, match=said):
        make_recipe(model, *overrides)


def test_dynamic_needs_linear_layers(make_recipe, tmp_path):
    recipe = make_recipe("student", "quantization_aware={scheme: dynamic}", steps=1)
    with pytest.raises(RecipeError, match="no linear layers"):
        fit(recipe, tmp_path / "run")


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_weights_are_rounded_to_int8_a_channel_and_gradients_pass(make_student, scheme):
    network = make_student("chunked_conformer", width=8, heads=2, left_frames=8)
    weight = network.head.weight
    simulation = Simulation(QuantizationAware(scheme=scheme), network)
    rounded = simulation.weight(weight)
    steps = rounded / (weight.abs().amax(dim=1, keepdim=True) / 127)
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert (rounded - weight).abs().max() <= weight.abs().max() / 254 + 1e-6
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_seven_bits_are_coarser(make_student):
    network = make_student()
    errors = [
        (Simulation(QuantizationAware(reduce_range=reduced), network).weight(network.head.weight) - network.head.weight)
        .abs()
        .mean()
        for reduced in (False, True)
    ]
    assert errors[1] > 1.5 * errors[0]


def test_rounding_commutes_with_folding_the_batch_norm(make_student):
    """A scale a channel: rounding the raw weight and then folding is folding and then rounding."""
    block = make_student().blocks[0]
    simulation = Simulation(QuantizationAware(), make_student())
    gain = (block.depthwise_norm.weight / torch.sqrt(block.depthwise_norm.running_var + 1e-5))[:, None, None]
    raw = block.depthwise.weight
    assert torch.allclose(simulation.weight(raw) * gain, simulation.weight(raw * gain), atol=1e-5)


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("scheme", ["static", "dynamic"])
def test_outputs_change_a_little_while_it_is_on_and_not_afterwards(make_student, kind, scheme):
    network = make_student(kind, width=16)
    simulation = calibrated(network, scheme=scheme)
    given = features_of(network)
    plain = network.outputs(*given).log_probs
    keys = list(network.state_dict())
    with simulation.on(network):
        rounded = network.outputs(*given).log_probs
    assert torch.equal(network.outputs(*given).log_probs, plain)
    assert list(network.state_dict()) == keys
    difference = (rounded - plain).abs().max()
    if scheme == "dynamic" and kind != "chunked_conformer":
        assert simulation.layers == ()
        assert difference == 0
    else:
        assert 1e-4 < difference < 1.0
        assert torch.allclose(rounded.exp().sum(dim=2), torch.ones(()), atol=1e-5)


def test_every_layer_of_the_encoder_is_rounded_and_none_of_the_frontend(make_student):
    network = make_student(depth=3)
    simulation = Simulation(QuantizationAware(), network)
    assert len(simulation.layers) == 1 + 3 * 3 + 1
    assert not [name for name in simulation.layers if name.startswith("frontend")]
    assert simulation.inputs == ("blocks.0", "blocks.1", "blocks.2")
    assert simulation.outputs == tuple(f"blocks.{i}.project_norm" for i in range(3))
    assert Simulation(QuantizationAware(glue=False), network).inputs == ()


def test_batch_norms_keep_their_statistics(make_student):
    network = make_student().train()
    simulation = calibrated(network)
    before = network.subsampling.norm.running_mean.clone()
    with simulation.on(network):
        network.outputs(*features_of(network))
    assert torch.equal(network.subsampling.norm.running_mean, before)
    assert network.subsampling.norm.training


def test_ranges_stay_unless_they_are_told_to_move(make_student):
    network = make_student()
    for momentum, moved in ((0.0, False), (0.5, True)):
        simulation = calibrated(network, range_momentum=momentum)
        before = simulation.ranges.clone()
        features, *rest = features_of(network)
        with simulation.on(network):
            network.outputs(features * 0.5, *rest)
        assert (not torch.equal(simulation.ranges, before)) is moved


def test_dynamic_ranges_are_those_of_each_item(make_student):
    network = make_student("chunked_conformer", width=16, left_frames=8)
    simulation = calibrated(network, scheme="dynamic")
    features, lens, labels, label_lens = features_of(network)
    louder = torch.cat([features[:1], 3 * features[1:]])
    with simulation.on(network):
        both = network.outputs(louder, lens, labels, label_lens).log_probs
        alone = network.outputs(features[:1], lens[:1], labels[:1], label_lens[:1]).log_probs
    assert torch.allclose(both[:1], alone, atol=1e-5)


def aware(run: Path, **settings: Any) -> Recipe:
    tree = json.loads(quantization_aware_recipe(run, steps=4, **settings).model_dump_json(by_alias=True))
    tree["train"] |= {"checkpoint_every": 2, "learning_rate": 1e-3}
    return type(quantization_aware_recipe(run, steps=4)).model_validate(tree)


def test_a_run_teaches_its_int8_self(runs, tmp_path):
    recipe = aware(runs["student"])
    assert recipe.init == runs["student"]
    assert recipe.distill
    assert recipe.distill.teachers == (runs["student"],)
    assert recipe.quantization_aware
    summary = fit(recipe, tmp_path / "run")
    assert summary["quantization_aware"]["dev"].keys() == summary["dev"].keys()
    trained, before = load_run(tmp_path / "run"), load_run(runs["student"])
    assert trained.network.state_dict().keys() == before.network.state_dict().keys()
    assert torch.equal(trained.network.subsampling.norm.running_mean, before.network.subsampling.norm.running_mean)
    assert not torch.equal(trained.network.head.weight, before.network.head.weight)


def test_an_interrupted_run_goes_on_to_the_same_weights(runs, tmp_path):
    recipe = aware(runs["student"])
    moving = recipe.model_copy(update={"quantization_aware": QuantizationAware(range_momentum=0.1)})
    fit(moving, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(moving, tmp_path / "halves", kill_at(3))
    fit(moving, tmp_path / "halves")
    whole, halves = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_the_derived_recipe_takes_what_it_is_given(runs):
    recipe = quantization_aware_recipe(runs["student"], steps=7, learning_rate=1e-5, seed=4, scheme="dynamic")
    assert (recipe.train.steps, recipe.train.learning_rate, recipe.seed) == (7, 1e-5, 4)
    assert recipe.quantization_aware
    assert recipe.quantization_aware.scheme == "dynamic"
    with pytest.raises(RunError, match="teacher"):
        quantization_aware_recipe(runs["conventional"], steps=7)


@pytest.mark.parametrize("share", [1.0, 0.98])
def test_a_range_holds_its_share_of_the_values(share):
    values = torch.arange(-100.0, 101.0)[torch.randperm(201, generator=torch.Generator().manual_seed(1))]
    low, high = _limits(values, share)
    assert (float(low), float(high)) == ((-100.0, 100.0) if share == 1 else (-98.0, 98.0))
