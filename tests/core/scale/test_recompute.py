"""Activation checkpointing: the same gradients to the bit, batch norms that count once, less that is kept."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdcompress.distill import fit
from kdcompress.errors import RecipeError
from kdcompress.recompute import recompute_blocks
from kdcompress.run import RunFolder, build_network

ENCODER = {"width": 8, "depth": 2, "kernel": 5, "dropout": 0.2}
FAMILIES = {
    "separable_conv": {"width": 8, "depth": 2, "kernel": 5, "lookahead_frames": 3, "dropout": 0.2},
    "cnn": {"channels": 4, "width": 8, "depth": 2, "kernel": 3, "lookahead_frames": 2, "dropout": 0.2},
    "chunked_conformer": {"width": 8, "depth": 2, "heads": 2, "kernel": 5, "lookahead_frames": 3, "dropout": 0.2},
    "conventional": {"encoder": ENCODER},
    "oracle": {"encoder": ENCODER, "heads": 2, "label_self_attention": 1, "source_self_attention": True},
    "vgg": {"channels": [4, 6], "width": 8, "depth": 2, "kernel": 3, "dropout": 0.2},
    "lstm": {"width": 6, "depth": 2, "dropout": 0.2},
}


def trained(recipe, *, again: bool) -> tuple[dict[str, torch.Tensor], int, int]:
    """Gradients and buffers after a forward and a backward pass, bytes kept in between, passes through layers."""
    torch.manual_seed(3)
    network = build_network(recipe, 5).train()
    if again:
        recompute_blocks(network)
    passes, kept = [], []
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Linear | nn.LSTM):
            module.register_forward_hook(lambda *_: passes.append(1))

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    features = torch.randn(3, 4 * (40 + network.lookahead_frames), 16)
    lens, labels, label_lens = torch.tensor([40, 31, 22]), torch.randint(1, 5, (3, 4)), torch.tensor([4, 2, 3])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network.outputs(features, lens, labels, label_lens)
    (outputs.log_probs[..., 1].sum() + outputs.hidden[0].square().sum()).backward()
    found = {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {**found, **dict(network.named_buffers())}, sum(kept), len(passes)


@pytest.mark.parametrize("kind", list(FAMILIES))
def test_gradients_are_the_same_to_the_bit(make_recipe, kind):
    recipe = make_recipe("student", f"model={json.dumps({'kind': kind, **FAMILIES[kind]})}")
    plain, plain_bytes, plain_passes = trained(recipe, again=False)
    found, kept, passes = trained(recipe, again=True)
    assert plain.keys() == found.keys()
    assert any(name.endswith("num_batches_tracked") for name in found)
    for name, tensor in plain.items():
        assert (tensor is None) == (found[name] is None)
        assert tensor is None or torch.equal(found[name], tensor), name
    assert passes > plain_passes
    assert kept < 0.6 * plain_bytes


def test_evaluation_keeps_nothing_and_computes_once(make_recipe):
    network = build_network(make_recipe("student"), 5).eval()
    passes = []
    network.blocks[0].depthwise.register_forward_hook(lambda *_: passes.append(1))
    recompute_blocks(network)
    given = torch.randn(1, 4 * 23, 16), torch.tensor([20]), torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0])
    network.outputs(*given).log_probs.sum().backward()
    network.train()
    with torch.no_grad():
        network.outputs(*given)
    assert len(passes) == 2
    assert list(network.state_dict()) == list(build_network(make_recipe("student"), 5).state_dict())


def test_a_run_reaches_the_same_weights(make_recipe, taught, runs, tmp_path):
    found = []
    for again in (False, True):
        recipe = make_recipe("student", *taught(runs["conventional"]), steps=3, activation_checkpointing=again)
        fit(recipe, tmp_path / str(again))
        found.append(load_file(RunFolder(tmp_path / str(again)).weights))
    for name, tensor in found[0].items():
        assert torch.equal(found[1][name], tensor), name


def test_what_is_rounded_cannot_be_computed_again(make_recipe, tmp_path):
    recipe = make_recipe("student", "quantization_aware={}", activation_checkpointing=True)
    with pytest.raises(RecipeError, match="quantization_aware rounds cannot be computed again; set it to false"):
        fit(recipe, tmp_path / "run")
