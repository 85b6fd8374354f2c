"""What is particular to the conformer: the band of attention, the mask at the start of a stream, its counter."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdcompress.conformer_layers import GROUP, BandedAttention, band
from kdcompress.distill import fit
from kdcompress.frontend import LogMel, LogMelConfig
from kdcompress.layers import count_parameters
from kdcompress.model_settings import ChunkedConformerConfig
from kdcompress.run import load_run
from kdcompress.students import build_student

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
LEFT = 5


@pytest.fixture(scope="module")
def conformer(make_student):
    """A small one whose steps of more than 8 frames need several groups of queries, and outlast its past of 5."""
    return make_student("chunked_conformer", width=12, heads=3, left_frames=LEFT, lookahead_frames=4)


def pcm(batch: int, frames: int, student, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, frames * student.units_per_frame, generator=generator)


def in_steps(student, inputs: torch.Tensor, cuts: list[int], states: dict) -> tuple[torch.Tensor, dict]:
    pieces = []
    for piece in inputs.split([cut * student.units_per_frame for cut in cuts], dim=1):
        log_probs, states = student.step(piece, states)
        pieces.append(log_probs)
    return torch.cat(pieces, dim=1), states


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 30), min_size=1, max_size=8), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_split_gives_what_the_whole_gives(conformer, cuts, batch, seed):
    inputs = pcm(batch, sum(cuts), conformer, seed)
    whole, last = conformer.step(inputs, conformer.init_states(batch))
    pieces, states = in_steps(conformer, inputs, cuts, conformer.init_states(batch))
    torch.testing.assert_close(pieces, whole, **CLOSE)
    for name, state in states.items():
        torch.testing.assert_close(state, last[name], **CLOSE)


@pytest.mark.parametrize("frames", [1, GROUP - 1, GROUP, 3 * GROUP + 2])
@pytest.mark.parametrize("seen", [0, 2, LEFT])
def test_grouped_attention_is_attention_to_each_frame_and_those_before_it(frames, seen):
    torch.manual_seed(1)
    attention = BandedAttention(width=6, heads=2, left=LEFT, dropout=0.0).eval()
    torch.nn.init.normal_(attention.offset_bias)
    everything = torch.randn(1, LEFT + frames, 6)
    mixed = attention.query_key_value(attention.norm(everything)).reshape(LEFT + frames, 3, 2, 3)
    query, key, value = mixed.unbind(1)  # (LEFT + frames, heads, width of a head)
    expected = []
    for now in range(LEFT, LEFT + frames):
        heard = range(max(LEFT - seen, now - LEFT), now + 1)
        scores = torch.stack([(query[now] * key[k]).sum(1) + attention.offset_bias[:, now - k] for k in heard])
        expected.append((scores.softmax(0)[:, :, None] * value[heard.start : heard.stop]).sum(0).flatten())
    cache = torch.cat([key[:LEFT], value[:LEFT]], dim=1).transpose(0, 1)[None]
    visible = band(frames, LEFT, torch.tensor([seen]))
    found, following = attention(everything[:, LEFT:], cache, visible)
    torch.testing.assert_close(found[0], attention.project(torch.stack(expected)), **CLOSE)
    torch.testing.assert_close(following[0, :2].transpose(0, 1), key[-LEFT:], **CLOSE)


def test_nothing_is_heard_from_before_the_start_of_the_stream(conformer):
    """Whatever lies in the caches of attention, the first steps do not look at it."""
    inputs, fresh = pcm(2, 12, conformer), conformer.init_states(2)
    spoilt = {name: 100 * torch.randn_like(state) if "attention" in name else state for name, state in fresh.items()}
    for cuts in ([12], [1] * 12, [3, 2, 7]):
        expected, _ = in_steps(conformer, inputs, cuts, fresh)
        found, _ = in_steps(conformer, inputs, cuts, spoilt)
        assert torch.equal(found, expected)
    later = {**spoilt, "frames_seen": fresh["frames_seen"] + LEFT}
    assert (in_steps(conformer, inputs, [12], later)[0] - expected).abs().max() > 0.01


def test_the_count_of_frames_stops_so_that_a_stream_may_be_endless(conformer):
    states, counts = conformer.init_states(1), []
    for _ in range(4):
        _, states = conformer.step(pcm(1, 2, conformer), states)
        counts.append(states["frames_seen"])
    assert torch.stack(counts)[:, 0].tolist() == [2, 4, LEFT, LEFT]
    assert counts[-1].dtype == torch.int64
    _, after_long = conformer.step(pcm(1, 400, conformer), conformer.init_states(1))
    assert after_long["frames_seen"].item() == LEFT


def test_an_old_and_a_new_stream_share_a_batch(conformer):
    """The count is kept for each item."""
    inputs = pcm(2, 9, conformer)
    _, old = conformer.step(pcm(1, 7, conformer, seed=2), conformer.init_states(1))
    new = conformer.init_states(1)
    apart = [conformer.step(inputs[i : i + 1], states)[0][0] for i, states in enumerate((old, new))]
    together, _ = conformer.step(inputs, {name: torch.cat([old[name], new[name]]) for name in old})
    torch.testing.assert_close(together, torch.stack(apart), **CLOSE)


@pytest.mark.parametrize("left", [1, 4, 11])
def test_a_block_reaches_back_as_far_as_its_left_context_and_its_kernel(make_student, left):
    student = make_student("chunked_conformer", depth=1, kernel=3, left_frames=left, lookahead_frames=1)
    inputs, frame = pcm(1, 24, student).requires_grad_(), 20
    weights = torch.randn(5, generator=torch.Generator().manual_seed(0))
    log_probs, _ = student.step(inputs, student.init_states(1))
    (gradient,) = torch.autograd.grad((log_probs[0, frame] * weights).sum(), inputs)
    heard = gradient.abs().reshape(24, -1).amax(dim=1).nonzero()[:, 0]
    # the kernel, then the past of attention, the stack before, and the tail of the frontend's window
    assert (heard.min(), heard.max()) == (frame - 2 - left - 2, frame)


def test_it_trains_with_losses_that_look_inside(make_recipe, tmp_path):
    model = {"kind": "chunked_conformer", "width": 8, "depth": 2, "heads": 2, "kernel": 5, "lookahead_frames": 3}
    losses = [{"kind": "ctc"}, {"kind": "inter_ctc", "layers": [0], "weight": 0.3}, {"kind": "cr_ctc", "weight": 0.1}]
    overrides = [f"model={json.dumps(model)}", f"losses={json.dumps(losses)}"]  # JSON is YAML
    recipe = make_recipe("student", *overrides, steps=12, learning_rate=5e-3, checkpoint_every=100)
    seen = []
    fit(recipe, tmp_path / "run", on_progress=lambda _done, _steps, row: seen.append(row["loss"]))
    assert seen[-1] < 0.8 * seen[0]
    assert load_run(tmp_path / "run").network.state_dict()["blocks.0.attention.offset_bias"].any()


def test_bfloat16_says_nearly_the_same(conformer):
    features = conformer.features(pcm(2, 20, conformer))
    nothing = torch.zeros(2, 0, dtype=torch.int64)
    lens = torch.full((2,), 20)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = conformer.outputs(features, lens, nothing, lens)
    fine = conformer.outputs(features, lens, nothing, lens)
    assert coarse.log_probs.dtype == torch.float32
    torch.testing.assert_close(coarse.log_probs, fine.log_probs, atol=0.1, rtol=0.02)


@pytest.mark.parametrize(("preset", "low", "high"), [("tiny", 0.38, 0.46), ("small", 1.4, 1.8), ("base", 5.0, 5.7)])
@pytest.mark.parametrize("bins", [40, 80])
def test_presets_have_the_size_they_promise(preset, low, high, bins):
    frontend = LogMel(LogMelConfig(sample_rate=2 * 100 * bins, num_mel_bins=bins))
    student = build_student(ChunkedConformerConfig(kind="chunked_conformer", preset=preset), frontend, 32)
    assert low <= count_parameters(student) / 1e6 <= high


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 30}, "width 30 is not divisible by heads 4"),
        ({"depth": 2, "kernel": 4, "lookahead_frames": 7}, "at most 6"),
        ({"left_frames": 0}, "left_frames"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        ChunkedConformerConfig(kind="chunked_conformer", **wrong)
