"""Heads of losses: trained beside the network, in checkpoints, and neither in the weights nor in the exported graph."""

from __future__ import annotations

import json
from collections import Counter

import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from kdcompress.distill import fit, loss_of
from kdcompress.errors import RecipeError
from kdcompress.heads import WithHeads
from kdcompress.layers import count_parameters
from kdcompress.run import RunFolder, load_student
from kdcompress.trainer import setup
from kdcompress_export.convert import convert

INTER = {"kind": "inter_ctc", "layers": [0, -1], "own": 0.5, "weight": 0.3}
BRANCH = {"kind": "in_place", "heads": 2, "weight": 0.3}


@pytest.fixture(scope="module")
def with_losses(make_recipe):
    """``with_losses(INTER, steps=2)``: recipe of the student with these losses beside CTC."""

    def make(*losses, model="student", **train):
        listed = json.dumps([{"kind": "ctc"}, *losses])
        return make_recipe(model, f"losses={listed}", **{"steps": 2, **train})

    return make


@pytest.fixture(scope="module")
def plain_and_headed(with_losses, tmp_path_factory):
    """The same student trained without heads, and with three of them."""
    folder = tmp_path_factory.mktemp("heads")
    fit(with_losses(), folder / "plain")
    fit(with_losses({**INTER, "weight": 1.0}, {**BRANCH, "weight": 1.0}), folder / "headed")
    return folder / "plain", folder / "headed"


def test_the_weights_are_those_of_the_network_alone(plain_and_headed, with_losses, tmp_path):
    plain, headed = (load_file(RunFolder(folder).weights) for folder in plain_and_headed)
    network = setup(with_losses(), RunFolder(tmp_path)).network
    assert {name: tensor.shape for name, tensor in headed.items()} == {
        name: tensor.shape for name, tensor in network.state_dict().items()
    }
    assert {name: (t.shape, t.dtype) for name, t in headed.items()} == {
        name: (t.shape, t.dtype) for name, t in plain.items()
    }
    assert any(not torch.equal(plain[name], headed[name]) for name in plain)  # the heads did train it
    sizes = [RunFolder(folder).weights.stat().st_size for folder in plain_and_headed]
    assert sizes[0] == sizes[1]
    counts = [json.loads((folder / "run.json").read_text())["parameters"] for folder in plain_and_headed]
    assert counts == [count_parameters(network)] * 2


def described(content: bytes) -> dict:
    """Everything about a graph but the values of its weights."""
    graph = onnx.load_model_from_string(content).graph
    return {
        "nodes": [node.op_type for node in graph.node],
        "inputs": [(value.name, str(value.type)) for value in graph.input],
        "outputs": [(value.name, str(value.type)) for value in graph.output],
        "initializers": [(tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer],
        "edges": Counter(len(node.input) + len(node.output) for node in graph.node),
    }


def test_the_exported_graph_is_that_of_a_student_without_heads(plain_and_headed):
    runs = [load_student(folder) for folder in plain_and_headed]
    plain, headed = (convert(run.network, len(run.vocabulary), {"name": "tiny"}) for run in runs)
    assert plain != headed  # the weights differ
    assert described(plain) == described(headed)
    assert len(plain) == pytest.approx(len(headed), abs=16)
    assert not any(word in headed for word in (b"heads", b"projections", b"fusion", b"embedding"))


def test_heads_are_in_the_checkpoint_and_in_the_optimizer(with_losses, tmp_path):
    recipe = with_losses(INTER, BRANCH, steps=3, checkpoint_every=1)

    def stop(done, steps, scalars):
        if done == 2:
            raise KeyboardInterrupt

    trainer = setup(recipe, RunFolder(tmp_path / "other"))
    expected = {name for name, _ in trainer.model.named_parameters() if name.startswith("heads.")}
    optimized = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in trainer.model.parameters()} == optimized
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", stop)
    with safe_open(RunFolder(tmp_path / "run").checkpoint, framework="pt") as file:
        names = {name.removeprefix("network/") for name in file.keys()}  # noqa: SIM118 (not a dict)
    assert len(expected) > 6
    assert expected <= names


def test_gradients_reach_the_heads_and_the_blocks_below_them(with_losses, tmp_path):
    """A head on block 0 trains it, and leaves what comes later alone."""
    trainer = setup(with_losses({"kind": "inter_ctc", "layers": [0]}), RunFolder(tmp_path))
    _, parts = loss_of(trainer, trainer.model.train(), trainer.batches[0], 0)
    parts["inter_ctc"].backward()
    reached = {name for name, p in trainer.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("heads.inter_ctc.") for name in reached)
    assert any(name.startswith("network.blocks.0.") for name in reached)
    assert not any(name.startswith(("network.blocks.1.", "network.head.")) for name in reached)


def test_heads_do_not_change_how_the_network_begins(with_losses, tmp_path):
    """Weights and feature statistics before the first update are those of a run without heads."""
    one, two = (setup(with_losses(*some), RunFolder(tmp_path / str(len(some)))) for some in ((), (INTER, BRANCH)))
    assert len(two.model.heads) == 2
    assert len(one.model.heads) == 0
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, two.network.state_dict()[name]), name


def test_two_heads_of_one_kind_go_by_their_names(with_losses, tmp_path):
    first, last = {**INTER, "layers": [0], "name": "low"}, {**INTER, "layers": [1], "name": "high"}
    trainer = setup(with_losses(first, last), RunFolder(tmp_path))
    _, parts = loss_of(trainer, trainer.model.eval(), trainer.batches[0], 0)
    assert set(parts) == {"ctc", "low", "high"}
    assert parts["low"].item() != parts["high"].item()


@pytest.mark.parametrize(
    "name", ["items", "train", "forward", "training", "loss", "step", "seconds", "lr", "grad_norm"]
)
def test_a_loss_is_not_called_like_something_else(with_losses, name):
    """Such as a method of torch's, or another column of the metrics: a loss called ``step`` would end the resume."""
    with pytest.raises(RecipeError, match=rf"losses\.inter_ctc\.name: '{name}' means something else"):
        with_losses({**INTER, "name": name})


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({**INTER, "layers": [0, 2]}, r"losses\.inter_ctc: there is no such layer; the student has 2 blocks"),
        ({**INTER, "layers": [-3], "name": "deep"}, r"losses\.deep: there is no such layer; the student has 2 blocks"),
        ({**BRANCH, "layer": 7}, r"losses\.in_place: there is no such layer; the student has 2 blocks"),
    ],
)
def test_a_layer_that_is_not_there_is_named_with_how_many_there_are(with_losses, tmp_path, loss, words):
    with pytest.raises(RecipeError, match=words):
        fit(with_losses(loss), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_head_that_does_not_fit_the_width_is_one_sentence(with_losses, tmp_path):
    """The student is 8 wide: three attention heads cannot share that."""
    with pytest.raises(RecipeError, match=r"losses\.in_place: the block's width 8 is not divisible by heads 3"):
        fit(with_losses({**BRANCH, "heads": 3}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_may_have_heads_too(with_losses, tmp_path):
    """The loop is the same for every network; what is saved is the teacher alone."""
    fit(with_losses(INTER, model="conventional"), tmp_path / "headed")
    fit(with_losses(model="conventional"), tmp_path / "plain")
    one, two = (set(load_file(tmp_path / name / "model.safetensors")) for name in ("headed", "plain"))
    assert one == two


def test_without_heads_the_wrapper_adds_nothing(with_losses, tmp_path):
    trainer = setup(with_losses(), RunFolder(tmp_path))
    assert isinstance(trainer.model, WithHeads)
    assert count_parameters(trainer.model) == count_parameters(trainer.network)
    batch = trainer.batches[0]
    lens = trainer.network.frame_lens(batch.input_lens)
    features = trainer.network.features(batch.inputs)
    outputs, said = trainer.model.eval()(features, lens, batch.labels, batch.label_lens)
    assert said == {}
    assert torch.equal(outputs.log_probs, trainer.network(features, lens, batch.labels, batch.label_lens))
