"""Pruning: what is cut off would have been zero, what is left keeps its times, and a run comes out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from kdcompress.distill import fit
from kdcompress.errors import RecipeError, RunError
from kdcompress.follow_up import prune_recipe
from kdcompress.hearing import hear
from kdcompress.model_settings import ModelConfig
from kdcompress.pruning import PruneOptions, prune_run, pruned_folder
from kdcompress.pruning.groups import depthwise_name, groups_of
from kdcompress.pruning.importance import channel_scores, mean_loss
from kdcompress.pruning.prune import kept_of, least
from kdcompress.pruning.surgery import later, without_blocks, without_channels
from kdcompress.run import RunFolder, load_run, load_student
from kdcompress.students import build_student
from kdcompress.students.base import spread
from kdcompress.trainer import setup
from kdcompress_runtime.errors import OptionsError

STUDENTS = {
    "separable_conv": {"width": 8, "expansion": 2},
    "cnn": {"width": 8, "channels": 4},
    "chunked_conformer": {"width": 8, "heads": 2, "left_frames": 6},
}
SILENCED = {
    "separable_conv": ["project_norm.weight", "project_norm.bias"],
    "cnn": ["norm.weight", "norm.bias"],
    "chunked_conformer": [
        f"{part}.project.{kind}"
        for part in ("before", "attention", "convolution", "after")
        for kind in ("weight", "bias")
    ],
}


def features_of(network: Any, items: int = 2, frames: int = 30) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    total = (frames + network.lookahead_frames) * network.subsampling_factor
    features = -8 + 3 * torch.randn(items, total, network.frontend.feature_dim, generator=generator)
    empty = torch.zeros(items, 0, dtype=torch.int64)
    return features, torch.full((items,), frames), empty, empty.sum(dim=1)


def built(frontend: Any, kind: str, weights: dict[str, torch.Tensor], **settings: Any) -> Any:
    config = TypeAdapter(ModelConfig).validate_python({"kind": kind, "depth": 3, "kernel": 5, **settings})
    network = build_student(config, frontend, 5).eval()
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize(
    ("kind", "part", "smaller"),
    [
        ("separable_conv", "inner", {"width": 8, "expansion": 1.25}),
        ("separable_conv", "width", {"width": 5, "expansion": 3.2}),
        ("cnn", "inner", {"width": 8, "channels": 3}),
        ("cnn", "width", {"width": 5, "channels": 4}),
        ("chunked_conformer", "inner", {"width": 8, "heads": 2, "left_frames": 6, "expansion": 2.5}),
    ],
)
def test_cutting_channels_off_is_setting_them_to_zero(make_student, frontend, kind, part, smaller):
    network = make_student(kind, **STUDENTS[kind])
    groups = getattr(groups_of(network), part)
    inner = {"separable_conv": 10, "cnn": 3, "chunked_conformer": 20}[kind]
    keep = 5 if part == "width" else inner
    generator = torch.Generator().manual_seed(1)
    removed = [(group, least(torch.rand(group.size, generator=generator), keep)) for group in groups]
    weights = network.state_dict()
    cut = built(frontend, kind, without_channels(weights, removed), **smaller)
    for group, mask in removed:
        for piece in group.slices:
            weights[piece.tensor].narrow(piece.axis, piece.offset, group.size).movedim(piece.axis, 0)[mask] = 0
    given = features_of(network)
    assert network.outputs(*given).log_probs.std() > 0.1
    assert torch.allclose(cut.outputs(*given).log_probs, network.outputs(*given).log_probs, atol=1e-5)


def test_attention_and_gates_shrink_with_the_width_of_a_conformer(make_student, frontend):
    """All but the stream, whose layer norms see fewer channels: cut off is the same as set to zero."""
    kind = "chunked_conformer"
    network = make_student(kind, **STUDENTS[kind])
    stream, *others = groups_of(network).width
    masks = [torch.arange(group.size) >= group.size * 6 // 8 for group in others]
    cut = without_channels(network.state_dict(), [(stream, torch.arange(8) >= 6), *zip(others, masks, strict=True)])
    small = built(frontend, kind, cut, width=6, heads=2, left_frames=6, expansion=32 / 6)
    said = small.outputs(*features_of(small)).log_probs
    assert torch.isfinite(said).all()
    attention, size = network.blocks[0].attention, 4
    heads = attention.query_key_value.weight.reshape(3, 2, size, 8)[:, :, :3, :6].reshape(18, 6)
    assert torch.equal(small.blocks[0].attention.query_key_value.weight, heads)
    assert torch.equal(
        small.blocks[0].convolution.expand.bias,
        network.blocks[0].convolution.expand.bias.reshape(2, 8)[:, :6].flatten(),
    )


@pytest.mark.parametrize("kind", STUDENTS)
def test_without_a_block_is_with_a_block_that_adds_nothing(make_student, frontend, kind):
    """The look-ahead stays: kernels move, and what they hear stays at its time."""
    network = make_student(kind, depth=4, lookahead_frames=6, **STUDENTS[kind])
    weights = network.state_dict()
    for name in SILENCED[kind]:
        weights[f"blocks.1.{name}"].zero_()
    kept = [0, 2, 3]
    shifts = [new - spread(6, 4)[old] for new, old in zip(spread(6, 3), kept, strict=True)]
    assert max(shifts) > 0
    for block, shift in zip(kept, shifts, strict=True):
        weights[f"blocks.{block}.{depthwise_name(network)}"][..., :shift] = 0  # taps that fall out
    small = built(frontend, kind, without_blocks(weights, network, kept), depth=3, lookahead_frames=6, **STUDENTS[kind])
    features, *rest = features_of(network)
    # The time before the input is zeros in every block's cache, and blocks that look further ahead see more of it.
    apart = (small.outputs(features, *rest).log_probs - network.outputs(features, *rest).log_probs).abs()
    assert apart[:, 20:].max() < 1e-4


@pytest.mark.parametrize("kind", STUDENTS)
def test_what_is_left_streams_as_it_answers_at_once(make_student, frontend, kind):
    network = make_student(kind, depth=4, lookahead_frames=5, **STUDENTS[kind])
    small = built(
        frontend,
        kind,
        without_blocks(network.state_dict(), network, [1, 3]),
        **{**STUDENTS[kind], "depth": 2, "lookahead_frames": 5},
    )
    pcm = torch.randn(1, 20 * small.units_per_frame, generator=torch.Generator().manual_seed(2)) * 0.1
    whole, _ = small.step(pcm, small.init_states())
    states, pieces = small.init_states(), []
    for start, end in ((0, 3), (3, 4), (4, 20)):
        said, states = small.step(pcm[:, start * small.units_per_frame : end * small.units_per_frame], states)
        pieces.append(said)
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-4)


def test_a_kernel_moves_to_later_frames():
    assert later(torch.tensor([1.0, 2, 3, 4]), 1).tolist() == [2, 3, 4, 0]
    assert later(torch.tensor([1.0, 2, 3, 4]), 0).tolist() == [1, 2, 3, 4]
    assert later(torch.tensor([1.0, 2]), 3).tolist() == [0, 0]


def test_a_channel_that_does_nothing_is_worth_nothing(runs, tmp_path):
    run = load_run(runs["student"])
    trainer = setup(run.recipe, RunFolder(tmp_path / "run"))
    network = run.network
    network.blocks[0].expand.weight[3] = 0
    network.blocks[0].expand.bias[3] = 0
    groups = groups_of(network).inner
    heard = [hear(network, run.recipe, trainer.batches[step]) for step in range(2)]
    scores = channel_scores(network, groups, heard, run.vocabulary.blank_id)
    assert [len(score) for score in scores] == [16, 16]
    assert scores[0][3] == 0
    assert (scores[0] > 0).sum() > 8
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_score_foretells_what_the_loss_does(runs, tmp_path):
    """First order: scaling a channel a little down changes the loss by the root of its score."""
    run = load_run(runs["student"])
    trainer = setup(run.recipe, RunFolder(tmp_path / "run"))
    heard = [hear(run.network, run.recipe, trainer.batches[0])]
    group = groups_of(run.network).inner[0]
    score = channel_scores(run.network, [group], heard, run.vocabulary.blank_id)[0]
    channel = int(score.argmax())
    before = mean_loss(run.network, heard, run.vocabulary.blank_id)
    weights, share = run.network.state_dict(), 1e-2
    for piece in group.slices:
        weights[piece.tensor].movedim(piece.axis, 0)[channel] *= 1 - share
    change = mean_loss(run.network, heard, run.vocabulary.blank_id) - before
    assert abs(change) == pytest.approx(share * float(score[channel]) ** 0.5, rel=0.1, abs=1e-6)


def test_sizes_suit_int8_where_there_is_a_choice():
    assert kept_of(96, 0.5) == 48
    assert kept_of(96, 0.4) == 40
    assert kept_of(320, 1.0) == 320
    assert kept_of(8, 0.5) == 4
    assert kept_of(6, 0.01) == 1
    assert kept_of(192, 0.7, divisor=6) == 144
    assert kept_of(12, 0.5, divisor=4) == 8


@pytest.mark.parametrize(
    "values", [{}, {"keep_channels": 0.0}, {"keep_width": 1.5}, {"keep_blocks": 0}, {"keep_blocks": 1, "batches": 0}]
)
def test_options_are_checked(values):
    with pytest.raises(OptionsError):
        PruneOptions(**values)


def test_a_run_is_pruned_and_taught_again(runs, tmp_path):
    output = tmp_path / "small"
    start = pruned_folder(output)
    lines: list[str] = []
    options = PruneOptions(keep_channels=0.5, keep_blocks=1, batches=1)
    prune_run(runs["student"], start, options, lines.append)
    before, pruned = load_student(runs["student"]), load_student(start)
    assert pruned.recipe.model.depth == 1
    assert pruned.recipe.model.expansion == 1
    assert pruned.network.lookahead_frames == before.network.lookahead_frames
    assert torch.equal(pruned.network.feature_norm.mean, before.network.feature_norm.mean)
    said = json.loads((start / "run.json").read_text())
    assert said["parameters"] < said["pruned"]["parameters"] == before.summary["parameters"]
    assert said["pruned"]["blocks"] in ([0], [1])
    assert len(lines) == 2
    recipe = prune_recipe(runs["student"], start, steps=2)
    assert recipe.init == start
    assert recipe.distill
    assert recipe.distill.teachers == (runs["student"],)
    summary = fit(recipe, output)
    assert summary["parameters"] == said["parameters"]
    assert load_student(output).recipe.model.expansion == 1


def test_the_same_pruning_is_kept_and_another_refused(runs, tmp_path):
    options = PruneOptions(keep_channels=0.5, batches=1)
    prune_run(runs["student"], tmp_path / "small", options)
    written = (tmp_path / "small" / "model.safetensors").stat().st_mtime_ns
    prune_run(runs["student"], tmp_path / "small", options)
    assert (tmp_path / "small" / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(RunError, match="is not empty"):
        prune_run(runs["student"], tmp_path / "small", replace(options, keep_channels=0.25))


def test_pruning_is_the_same_every_time(runs, tmp_path):
    options = PruneOptions(keep_channels=0.5, keep_width=0.5, batches=2)
    folders = [prune_run(runs["student"], tmp_path / name, options) for name in "ab"]
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1


def test_more_blocks_than_there_are_and_a_teacher_are_refused(runs, tmp_path):
    with pytest.raises(OptionsError, match="has 2 blocks"):
        prune_run(runs["student"], tmp_path / "a", PruneOptions(keep_blocks=3, batches=1))
    with pytest.raises(RunError, match="teacher"):
        prune_run(runs["conventional"], tmp_path / "b", PruneOptions(keep_blocks=1))
    assert not (tmp_path / "a").exists()


def test_blocks_that_cannot_look_as_far_ahead_are_refused(make_recipe, tmp_path):
    fit(make_recipe("student", "model.lookahead_frames=8", steps=1), tmp_path / "far")
    with pytest.raises(RecipeError, match="lookahead_frames 8 is more than depth 1"):
        prune_run(tmp_path / "far", tmp_path / "small", PruneOptions(keep_blocks=1, batches=1))
