"""The contract of every student: one step serves whole inputs and streams, at any batch size and look-ahead."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdcompress.frontend import LogMel, LogMelConfig
from kdcompress.layers import count_parameters
from kdcompress.model_settings import CnnConfig, SeparableConvConfig
from kdcompress.students import STUDENTS, build_student
from kdcompress.students.base import spread

KINDS = list(STUDENTS)
LOOKAHEADS = [0, 1, 8]  # 1 and 8 do not divide evenly over three blocks
REACH = {"separable_conv": 4, "cnn": 4, "chunked_conformer": 4 + 32}
"""Frames that a block looks back or ahead, together: a kernel of 5, and the past that attention sees."""
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def pcm(batch: int, frames: int, student, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, frames * student.units_per_frame, generator=generator)


def recognise(student, inputs: torch.Tensor) -> torch.Tensor:
    """Log-probabilities by ``step``, as a caller gets them: tail padded, look-ahead dropped."""
    tail = torch.zeros(len(inputs), student.lookahead_frames * student.units_per_frame)
    log_probs, _ = student.step(torch.cat([inputs, tail], dim=1), student.init_states(len(inputs)))
    return log_probs[:, student.lookahead_frames :]


def train_path(student, inputs: torch.Tensor) -> torch.Tensor:
    """Log-probabilities by ``features`` and ``forward``, as the training loop gets them."""
    lens = student.frame_lens(torch.full((len(inputs),), inputs.shape[1]))
    nothing = torch.zeros(len(inputs), 1, dtype=torch.int64)
    return student(student.features(inputs), lens, nothing, nothing[:, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lookahead", LOOKAHEADS)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, 13), min_size=1, max_size=8), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_split_gives_the_same_log_probabilities(make_student, *, kind, lookahead, cuts, batch, seed):
    student = make_student(kind, lookahead_frames=lookahead)
    inputs = pcm(batch, sum(cuts), student, seed)
    whole, last = student.step(inputs, student.init_states(batch))
    states, pieces = student.init_states(batch), []
    for piece in inputs.split([cut * student.units_per_frame for cut in cuts], dim=1):
        log_probs, states = student.step(piece, states)
        pieces.append(log_probs)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **CLOSE)
    for name, state in states.items():
        torch.testing.assert_close(state, last[name], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lookahead", LOOKAHEADS)
@pytest.mark.parametrize("missing", [0, 1, 200])
def test_the_path_of_training_is_the_path_of_streaming(make_student, kind, lookahead, missing):
    student = make_student(kind, lookahead_frames=lookahead)
    inputs = pcm(2, 11, student)
    short = inputs[:, : inputs.shape[1] - missing]  # an incomplete last frame counts
    padded = torch.nn.functional.pad(short, (0, missing))
    found = train_path(student, short)
    assert found.shape == (2, 11, 5)
    torch.testing.assert_close(found, recognise(student, padded), **CLOSE)
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(2, 11))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_a_frame_hears_its_lookahead_and_nothing_later(make_student, kind, lookahead):
    student = make_student(kind, lookahead_frames=lookahead)
    inputs, units, frame = pcm(1, 24, student).requires_grad_(), student.units_per_frame, 9
    weights = torch.randn(5, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((recognise(student, inputs)[0, frame] * weights).sum(), inputs)
    by_frame = gradient.abs().reshape(24, units).amax(dim=1)
    last = frame + lookahead
    assert by_frame[last] > 0
    assert (by_frame[last + 1 :] == 0).all()
    # blocks, the subsampling's overlap and the tail of the frontend's window reach so far back
    assert by_frame[:frame].nonzero()[:, 0].min() == max(0, last - 3 * REACH[kind] - 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_hidden_blocks_are_in_the_time_of_the_answer(make_student, kind, lookahead):
    """Frame t of a block has heard the input up to t and the look-ahead of the block, to the sample."""
    student = make_student(kind, lookahead_frames=lookahead)
    features = student.features(pcm(1, 24, student)).requires_grad_()
    nothing = torch.zeros(1, 1, dtype=torch.int64)
    said = student.outputs(features, torch.tensor([24]), nothing, nothing[0])
    assert len(said.hidden) == len(student.hidden_dims) == len(student.hidden_lags) == 3
    assert sorted(student.hidden_lags) == list(student.hidden_lags)
    assert student.hidden_lags[-1] == lookahead
    frame, factor = 9, student.subsampling_factor
    for block, width, lag in zip(said.hidden, student.hidden_dims, student.hidden_lags, strict=True):
        assert block.shape == (1, 24, width)
        weights = torch.randn(width, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad((block[0, frame] * weights).sum(), features, retain_graph=True)
        heard = gradient[0].abs().amax(dim=1).nonzero()[:, 0]
        assert heard.max() == (frame + lag + 1) * factor - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_any_subsampling_streams(make_student, kind, factor):
    student = make_student(kind, subsampling_factor=factor, lookahead_frames=2)
    inputs = pcm(2, 9, student)
    whole, _ = student.step(inputs, student.init_states(2))
    states, pieces = student.init_states(2), []
    for piece in inputs.split([4 * student.units_per_frame, 5 * student.units_per_frame], dim=1):
        log_probs, states = student.step(piece, states)
        pieces.append(log_probs)
    assert whole.shape == (2, 9, 5)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_a_batch_do_not_meet(make_student, kind):
    student = make_student(kind, lookahead_frames=4)
    inputs = pcm(3, 12, student)
    together = recognise(student, inputs)
    for index in range(3):
        torch.testing.assert_close(recognise(student, inputs[index : index + 1])[0], together[index], **CLOSE)
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(make_student, kind):
    student = make_student(kind, lookahead_frames=4)
    inputs = pcm(2, 12, student)
    padded = torch.nn.functional.pad(inputs, (0, 7 * student.units_per_frame))
    torch.testing.assert_close(train_path(student, padded)[:, :12], train_path(student, inputs), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_what_their_specs_say_and_are_not_changed(make_student, kind):
    student = make_student(kind, lookahead_frames=8)
    specs = student.state_specs()
    states = student.init_states(2)
    assert list(states) == [spec.name for spec in specs]
    _, states = student.step(pcm(2, 3, student), states)
    kept = {name: state.clone() for name, state in states.items()}
    _, following = student.step(pcm(2, 1, student, seed=2), states)
    for spec in specs:
        shape = tuple(2 if size == "N" else size for size in spec.shape)
        assert following[spec.name].shape == states[spec.name].shape == shape
        assert following[spec.name].dtype == getattr(torch, spec.dtype)
        assert torch.equal(states[spec.name], kept[spec.name])
        assert not torch.equal(following[spec.name], kept[spec.name])
    for spec, state in zip(specs, student.init_states(1).values(), strict=True):
        assert (state == spec.initial).all()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_not_looked_at(make_student, kind):
    student = make_student(kind, lookahead_frames=4)
    features, lens = student.features(pcm(1, 9, student)), torch.tensor([9])
    one = student(features, lens, torch.tensor([[1, 2]]), torch.tensor([2]))
    two = student(features, lens, torch.tensor([[3, 4, 1]]), torch.tensor([3]))
    assert torch.equal(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(make_student, kind):
    student = make_student(kind, lookahead_frames=4).train()
    (
        train_path(student, pcm(2, 20, student)) * torch.randn(5, generator=torch.Generator().manual_seed(0))
    ).sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("preset", "low", "high"), [("tiny", 0.27, 0.38), ("small", 1.4, 1.7), ("base", 4.7, 5.6)])
@pytest.mark.parametrize("bins", [40, 80])
def test_presets_have_the_size_they_promise(preset, low, high, bins):
    frontend = LogMel(LogMelConfig(sample_rate=2 * 100 * bins, num_mel_bins=bins))
    student = build_student(SeparableConvConfig(kind="separable_conv", preset=preset), frontend, 32)
    assert low <= count_parameters(student) / 1e6 <= high


def test_the_dense_student_is_as_small_as_the_smallest_preset():
    frontend = LogMel(LogMelConfig(sample_rate=8000, num_mel_bins=40))
    assert 0.27 <= count_parameters(build_student(CnnConfig(kind="cnn"), frontend, 32)) / 1e6 <= 0.33


def test_a_lookahead_that_nobody_can_see_is_refused():
    with pytest.raises(ValidationError, match="lookahead_frames 9 is more than depth 2 blocks of kernel 5 can see"):
        CnnConfig(kind="cnn", depth=2, kernel=5, lookahead_frames=9)


def test_sizes_can_be_overridden_one_by_one(frontend):
    config = SeparableConvConfig(kind="separable_conv", preset="tiny", width=12, kernel=7)
    student = build_student(config, frontend, 5)
    assert (student.head.in_channels, len(student.blocks), student.blocks[0].kernel) == (12, 8, 7)


@given(total=st.integers(0, 60), parts=st.integers(1, 12))
def test_lookahead_is_spread_evenly(total, parts):
    shares = spread(total, parts)
    assert (sum(shares), len(shares)) == (total, parts)
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)
