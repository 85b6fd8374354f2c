"""Frames: against an integral over exact numbers, for any ratio and map of time; never picked, never from padding."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.bridge.bridge import build_bridge
from kdcompress.bridge.frames import FrameMap, averaged, fitted
from kdcompress.errors import MismatchError
from kdcompress_runtime.vocabulary import Vocabulary
from tests.core.bridge.sides import random_log_probs, said, student, teacher, vocabulary

AB = vocabulary("a", "b")


def slow(values, length, frames, durations, time):
    """Overlap-weighted average of ``values (T', D)`` in exact arithmetic, ``(frames, D)``."""
    (mine, its), (factor, offset) = durations, time
    rows = []
    for t in range(frames):
        begin, end = factor * t * mine - offset, factor * (t + 1) * mine - offset
        row = [Fraction(0)] * values.shape[1]
        for i in range(length):
            overlap = max(Fraction(0), min(end, (i + 1) * its) - max(begin, i * its))
            row = [
                total + overlap / (end - begin) * Fraction(float(x)) for total, x in zip(row, values[i], strict=True)
            ]
        rows.append([float(x) for x in row])
    return torch.tensor(rows).view(frames, values.shape[1])


def bridge(mine=40, its=20, tokens=AB, **more):
    return build_bridge(student(tokens, frame_ms=mine), teacher(tokens, frame_ms=its, **more), {"a"})


durations = st.fractions(min_value=Fraction(1, 100), max_value=Fraction(1, 8), max_denominator=300)


@settings(max_examples=40, deadline=None)
@given(
    durations=st.tuples(durations, durations),
    lens=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    frames=st.integers(1, 8),
    time=st.tuples(
        st.sampled_from([Fraction(1), Fraction(9, 10), Fraction(11, 10), Fraction(5, 4)]),
        st.sampled_from([Fraction(0), Fraction(1, 8), Fraction(1, 10), Fraction(-1, 20)]),
    ),
)
def test_the_average_is_the_integral(durations, lens, frames, time):
    values = random_log_probs(len(lens), max(*lens, 1), 3).exp()
    expected = [slow(row, n, frames, durations, time) for row, n in zip(values, lens, strict=True)]
    for item, length in enumerate(lens):
        values[item, length:] = torch.nan
    times = None
    if time != (1, 0):
        times = torch.tensor([list(map(float, time))] * len(lens), dtype=torch.float64)
    answer = said(values, lens, times=times)
    map_ = FrameMap(Path("teacher"), *durations)
    bands = map_.bands(answer, torch.full((len(lens),), frames))
    if bands is None:
        assert durations[0] == durations[1]
        found = fitted(values, answer.frame_lens, torch.full((len(lens),), frames), torch.zeros(3))
    else:
        found = averaged(values, bands)
        assert float(bands.weights.sum(dim=2).max()) <= 1 + 1e-6
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=1e-5)


def test_each_item_has_its_own_time():
    times = torch.tensor([[1.0, 0.0], [1.1, 0.06], [0.9, -0.1]], dtype=torch.float64)
    values = random_log_probs(3, 20, 3).exp()
    answer = said(values, [20, 18, 15], times=times)
    map_ = FrameMap(Path("teacher"), Fraction(1, 25), Fraction(1, 50))
    found = averaged(values, map_.bands(answer, torch.tensor([10, 9, 10])))
    for item, (factor, offset) in enumerate(times.tolist()):
        exact = Fraction(factor), Fraction(offset)
        length = int(answer.frame_lens[item])
        expected = slow(values[item], length, 10, (map_.student, map_.teacher), exact)
        torch.testing.assert_close(found[item], expected, atol=1e-6, rtol=1e-5)


def test_two_frames_become_one_and_no_spike_is_lost():
    """Spikes on odd frames, which a pick of even ones would not see."""
    log_probs = torch.full((1, 8, 3), 0.005).log()
    log_probs[0, :, 0] = math.log(0.99)
    log_probs[0, 3] = torch.tensor([0.1, 0.9, 0.0]).log()
    found = bridge()(said(log_probs), torch.tensor([4])).log_probs.exp()
    pairs = log_probs.exp().view(4, 2, 3)
    torch.testing.assert_close(found[0, :, 0], pairs[:, :, 0].prod(dim=1))
    ratio = found[0, :, 1] / found[0, :, 2]
    torch.testing.assert_close(ratio, pairs[:, :, 1].sum(dim=1) / pairs[:, :, 2].sum(dim=1))
    torch.testing.assert_close(found.sum(dim=2), torch.ones(1, 4))
    assert float(found[0, 1, 1]) > 0.89


def test_one_frame_is_shared_by_two():
    log_probs = random_log_probs(2, 5, 3)
    found = bridge(20, 40)(said(log_probs), torch.tensor([10, 9])).log_probs.exp()
    # but for a blank below a hundredth
    torch.testing.assert_close(found, log_probs.exp().repeat_interleave(2, dim=1), atol=0.01, rtol=0)


def test_a_spike_that_falls_between_two_frames_stays_one():
    """Half a frame late: the average would be under a half in both."""
    log_probs = torch.tensor([[[0.98, 0.02, 0.0], [0.05, 0.95, 0.0], [0.98, 0.02, 0.0]]]).log()
    times = torch.tensor([[1.0, 0.02]], dtype=torch.float64)
    found = bridge(40, 40)(said(log_probs, times=times), torch.tensor([4])).log_probs
    assert found[0].argmax(dim=1).tolist() == [0, 1, 1, 0]


def test_the_same_frames_are_returned_as_they_are():
    log_probs, hidden = random_log_probs(2, 7, 3), random_log_probs(2, 7, 5)
    same = bridge(40, 40)
    assert same.report == ()
    for times in (None, torch.tensor([[1.0, 0.0]] * 2, dtype=torch.float64)):
        found = same(said(log_probs, hidden=(hidden,), times=times), torch.tensor([7, 6]))
        assert found.log_probs.data_ptr() == log_probs.data_ptr()
        assert found.hidden[0].data_ptr() == hidden.data_ptr()
        assert torch.equal(found.log_probs, log_probs)


def test_what_is_missing_at_the_end_is_blank_and_what_is_too_long_is_cut():
    log_probs, hidden = random_log_probs(3, 8, 3), random_log_probs(3, 8, 2)
    log_probs[1, 5:], hidden[1, 5:] = torch.nan, torch.nan
    answer = said(log_probs, [8, 5, 8], hidden=(hidden,), occupancy=hidden.exp())
    found = bridge(40, 40, gives=frozenset({"log_probs", "hidden", "occupancy"}))(answer, torch.tensor([7, 6, 7]))
    assert found.log_probs.shape == (3, 7, 3)
    assert torch.equal(found.log_probs[0], log_probs[0, :7])
    assert torch.equal(found.log_probs[1, :5], log_probs[1, :5])
    assert found.log_probs[1, 5].exp().tolist() == pytest.approx([1, 0, 0])
    assert found.hidden[0][1, 5].tolist() == found.occupancy[1, 5].tolist() == [0, 0]
    longer = bridge(40, 40)(said(random_log_probs(1, 3, 3)), torch.tensor([4])).log_probs
    assert longer[0, 3].exp().tolist() == pytest.approx([1, 0, 0])


def test_silence_is_blank_wherever_the_blank_is():
    last = Vocabulary(("a", "b", "<blk>"))
    found = bridge(40, 20, last)(said(random_log_probs(1, 5, 3)), torch.tensor([3])).log_probs.exp()
    assert float(found[0, 2, 2]) > 0.5
    torch.testing.assert_close(found.sum(dim=2), torch.ones(1, 3))


@settings(max_examples=30, deadline=None)
@given(mine=durations, its=durations, seed=st.integers(0, 99))
def test_mass_sums_to_one_in_every_frame(mine, its, seed):
    lens = torch.tensor([12, 7])
    frames = torch.tensor([math.ceil(n * its / mine) for n in lens.tolist()])
    plan = build_bridge(student(AB, frame_ms=mine * 1000), teacher(AB, frame_ms=its * 1000), {"a"})
    found = plan(said(random_log_probs(2, 12, 3, seed=seed), lens.tolist()), frames).log_probs
    assert found.shape == (2, int(frames.max()), 3)
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(2, int(frames.max())))


def test_faster_speech_with_a_lead_in():
    """Stored labels of an item that is read 1.25 times as fast, after 80 ms of something else."""
    log_probs = random_log_probs(1, 10, 3)
    times = torch.tensor([[1.25, 0.1]], dtype=torch.float64)  # labels at 1.25 * t - 0.1
    found = bridge(40, 40)(said(log_probs, times=times), torch.tensor([10])).log_probs.exp()
    assert found[0, :2].tolist() == [pytest.approx([1, 0, 0])] * 2  # 80 ms
    one, two = log_probs[0, 0].exp(), log_probs[0, 1].exp()
    blank = float(one[0] ** 1.0 * two[0] ** 0.25)  # 40 and 10 ms of these
    tokens = 0.8 * one[1:] + 0.2 * two[1:]
    assert float(found[0, 2, 0]) == pytest.approx(blank, rel=1e-4)
    torch.testing.assert_close(found[0, 2, 1:], tokens / tokens.sum() * (1 - blank))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_become_float32_and_nothing_has_a_gradient(dtype):
    log_probs = random_log_probs(1, 8, 3).to(dtype).requires_grad_()
    hidden = random_log_probs(1, 8, 4).to(dtype)
    for mine, frames in ((40, 4), (20, 8)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = bridge(mine, 20)(said(log_probs, hidden=(hidden,)), torch.tensor([frames]))
        assert found.log_probs.dtype == found.hidden[0].dtype == torch.float32
        assert not found.log_probs.requires_grad
        torch.testing.assert_close(found.log_probs.exp().sum(dim=2), torch.ones(1, frames), atol=0.02, rtol=0)


@pytest.mark.parametrize("frames", [6, 15])
def test_labels_of_other_audio_are_refused(frames):
    with pytest.raises(MismatchError, match=r"runs/teacher: the answer for item 1 .* 0\.40 s, .* label the manifest"):
        bridge(40, 20)(said(random_log_probs(2, 20, 3)), torch.tensor([10, frames]))


def test_lengths_are_compared_in_the_answers_time():
    answer = random_log_probs(1, 25, 3)
    slower = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    bridge(40, 40)(said(answer, times=slower), torch.tensor([50]))
    with pytest.raises(MismatchError, match=r"ends after 1\.00 s, .* 2\.00 s"):
        bridge(40, 40)(said(answer), torch.tensor([50]))
    with pytest.raises(MismatchError, match="they do not belong together"):
        bridge(40, 40)(said(answer, times=slower), torch.tensor([25]))
    bridge(40, 40)(said(random_log_probs(1, 96, 3)), torch.tensor([100]))  # within 5 %


def test_codes_pass_with_the_same_frames_alone():
    codes = torch.arange(12).view(1, 6, 2)
    only = frozenset({"codes"})
    found = bridge(40, 40, gives=only)(said(codes=codes), torch.tensor([7]))
    assert torch.equal(found.codes[:, :6], codes)
    assert found.codes[0, 6].tolist() == [-100, -100]
    moved = torch.tensor([[1.1, 0.0]], dtype=torch.float64)
    with pytest.raises(MismatchError, match=r"codes cannot be averaged, .* remove augment\.speed"):
        bridge(40, 40, gives=only)(said(codes=codes, times=moved), torch.tensor([6]))
    with pytest.raises(MismatchError, match=r"frames of 20 ms, cannot be averaged into 40 ms, .* label its posteriors"):
        bridge(40, 20, gives=only)
    both = bridge(40, 20, gives=only | {"hidden"})
    assert both.gives == {"hidden"}
    assert "its codes" in both.report[0]


@pytest.mark.parametrize(
    ("mine", "its", "sentence"),
    [
        (40, 20, "2 teacher frames of 20 ms are averaged into one of 40 ms"),
        (20, 60, "a teacher frame of 60 ms is shared by 3 of 20 ms"),
        (40, 30, "teacher frames of 30 ms are averaged into frames of 40 ms by their overlap"),
    ],
)
def test_what_is_reported(mine, its, sentence):
    assert bridge(mine, its).report == (sentence,)


def test_frames_of_pixels():
    side = student(AB, frame_ms=8000, rate=None)
    found = build_bridge(side, teacher(AB, frame_ms=4000, rate=None), {"a"})
    assert found.report == ("2 teacher frames of 4 input units are averaged into one of 8 input units",)
    with pytest.raises(MismatchError, match=r"ends after 80\.00 input units"):
        found(said(random_log_probs(1, 20, 3)), torch.tensor([2]))


def test_no_frames_and_no_items():
    assert bridge(40, 20)(said(random_log_probs(1, 0, 3)), torch.tensor([0])).log_probs.shape == (1, 0, 3)
    found = bridge(40, 20)(said(random_log_probs(2, 4, 3), [4, 0]), torch.tensor([2, 0])).log_probs.exp()
    assert found[1].tolist() == [pytest.approx([1, 0, 0])] * 2
