"""Essence, softmax distance and factored KL: their ends, and a student that is quite sure of something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from kdcompress.losses import EssenceLoss, FactoredKlLoss, FrameKlLoss, SkdLoss
from kdcompress.losses.base import Signals, TeacherSignals
from kdcompress.losses.essence import essence_kl, essence_tokens
from kdcompress.losses.frames import FrameLoss, pair_frames

LENS = torch.tensor([6, 4])
TOKENS, BLANK = 5, 0
RENORMALISE = pytest.mark.parametrize("renormalise", ["none", "prob", "logit", "tail"])


def drawn(seed: int, sharpness: float = 1.5) -> torch.Tensor:
    scores = sharpness * torch.randn(2, 6, TOKENS, generator=torch.Generator().manual_seed(seed))
    return scores.log_softmax(dim=2)


@pytest.fixture
def signals():
    return Signals(
        log_probs=drawn(1),
        hidden=(),
        frame_lens=LENS,
        labels=torch.tensor([[1, 2], [3, 0]]),
        label_lens=torch.tensor([2, 1]),
        blank_id=BLANK,
        teacher=TeacherSignals(drawn(2)),
    )


def told(loss: FrameLoss, student: torch.Tensor, signals: Signals) -> tuple[torch.Tensor, torch.Tensor]:
    """Value, and gradient at scores that a softmax makes the student from."""
    from dataclasses import replace

    scores = student.clone().requires_grad_()
    value = loss(replace(signals, log_probs=scores.log_softmax(dim=2)))
    return value.detach(), torch.autograd.grad(value, scores)[0]


@RENORMALISE
@pytest.mark.parametrize("everything", [{}, {"top_k": TOKENS}, {"top_k": 99}])
def test_all_tokens_are_frame_kl(signals, renormalise, everything):
    found = told(EssenceLoss(renormalise=renormalise, **everything), signals.log_probs, signals)
    for part, expected in zip(found, told(FrameKlLoss(), signals.log_probs, signals), strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("renormalise", ["prob", "logit"])
@pytest.mark.parametrize("kept", [{"top_k": 1}, {"mass": 1e-6}, {"top_k": 3, "mass": 1e-6}])
def test_one_token_is_cross_entropy_with_the_teachers_best(signals, renormalise, kept):
    heat = {"temperature": 3.0} if renormalise == "logit" else {}
    scores = signals.log_probs.clone().requires_grad_()
    expected, valid = scores.new_zeros(()), torch.arange(6)[None, :] < LENS[:, None]
    for item, t in valid.nonzero().tolist():
        best = int(signals.teacher.log_probs[item, t].argmax())
        expected = expected - scores.log_softmax(dim=2)[item, t, best] / LENS.sum()
    found = told(EssenceLoss(renormalise=renormalise, **kept, **heat), signals.log_probs, signals)
    torch.testing.assert_close(found[0], expected.detach())
    torch.testing.assert_close(found[1], torch.autograd.grad(expected, scores)[0])


def test_the_smallest_set_with_a_mass():
    teacher = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01], [0.05, 0.05, 0.05, 0.85]]).log()
    kept = [essence_tokens(teacher, mass=mass).tolist() for mass in (0.65, 0.98)]
    assert kept[0] == [[True, True, False, False], [True, False, False, False], [False, False, False, True]]
    assert kept[1][0] == [True, True, True, True]
    assert [sum(row) for row in kept[1]] == [4, 2, 4]
    both = essence_tokens(teacher, top_k=2, mass=0.98)
    assert both.sum(dim=1).tolist() == [2, 2, 2]
    assert essence_tokens(teacher, top_k=1, mass=0.98).sum(dim=1).tolist() == [1, 1, 1]


def test_a_rest_that_is_dropped_weighs_less(signals):
    """``none`` is ``prob`` weighted by what is kept; ``tail`` is less than all, by what it joins."""
    pairs = pair_frames(signals.log_probs, signals.teacher.log_probs, LENS)
    kept = essence_tokens(pairs.teacher, top_k=2)
    mass = (pairs.teacher.exp() * kept).sum(dim=1)
    slopes = {}
    for renormalise in ("none", "prob"):
        student = pairs.student.clone().requires_grad_()
        essence_kl(pairs._replace(student=student), kept, renormalise).backward()
        slopes[renormalise] = student.grad
    torch.testing.assert_close(slopes["none"], mass[:, None] * slopes["prob"])
    joined = essence_kl(pairs, kept, "tail")
    assert 0 < float(joined) < float(FrameKlLoss()(signals))


@pytest.mark.parametrize("temperature", [0.005, 50.0])
def test_no_temperature_brings_back_what_was_left_out(signals, temperature):
    loss = EssenceLoss(top_k=1, renormalise="logit", temperature=temperature)
    expected = told(EssenceLoss(top_k=1), signals.log_probs, signals)
    for part, same in zip(told(loss, signals.log_probs, signals), expected, strict=True):
        torch.testing.assert_close(part, same)


def test_a_temperature_is_for_logit_alone():
    with pytest.raises(ValidationError, match="temperature is for renormalise logit"):
        EssenceLoss(renormalise="prob", temperature=2.0)


SURE = [
    *(EssenceLoss(top_k=2, renormalise=kind) for kind in ("none", "prob", "logit", "tail")),
    EssenceLoss(top_k=1, renormalise="tail"),
    FactoredKlLoss(),
    FrameKlLoss(),
]


@pytest.mark.parametrize("loss", SURE, ids=lambda loss: f"{loss.kind} {getattr(loss, 'renormalise', '')}")
@pytest.mark.parametrize("nats", [30.0, 90.0, 600.0])
@pytest.mark.parametrize("other", [BLANK, 1])
def test_a_student_that_is_quite_sure_of_something_else_is_still_told(signals, loss, nats, other):
    """However sure: a value with a floor under it would have no gradient."""
    teacher = torch.full((2, 6, TOKENS), -9.0)
    teacher[..., 3] = 0
    sure = torch.zeros(2, 6, TOKENS)
    sure[..., other] = nats
    signals = replace(signals, teacher=TeacherSignals(teacher.log_softmax(dim=2)), log_probs=sure)
    value, gradient = told(loss, sure, signals)
    assert float(value) == pytest.approx(nats, rel=0.1)
    assert gradient[0, :, 3].max() < -0.05
    assert gradient[0, :, other].min() > 0.05


def test_factored_kl_is_frame_kl_where_every_frame_is_a_spike(signals):
    """Both weights one: the factors are exact."""
    spikes = signals.teacher.log_probs.clone()
    spikes[..., BLANK] -= 9
    signals = replace(signals, teacher=TeacherSignals(spikes.log_softmax(dim=2)))
    found = told(FactoredKlLoss(), signals.log_probs, signals)
    for part, expected in zip(found, told(FrameKlLoss(), signals.log_probs, signals), strict=True):
        torch.testing.assert_close(part, expected)


def test_factored_kl_says_nothing_of_tokens_on_blank_frames(signals):
    """A student that agrees on blank but not on the tokens pays on the teacher's spikes only."""
    silent = signals.teacher.log_probs.clone()
    silent[..., BLANK] += 9
    silent = silent.log_softmax(dim=2)
    other = silent.clone()
    other[..., 1:] = silent[..., [2, 3, 4, 1]]
    signals = replace(signals, teacher=TeacherSignals(silent), log_probs=other)
    assert float(FactoredKlLoss()(signals)) == pytest.approx(0, abs=1e-6)
    assert float(FrameKlLoss()(signals)) > 1e-4


def test_skd_is_bounded_and_zero_where_both_agree(signals):
    assert float(SkdLoss()(replace(signals, log_probs=signals.teacher.log_probs))) == 0
    sure, other = torch.full((2, 2, 6, TOKENS), -600.0)
    sure[..., 1] = other[..., 2] = 0
    opposite = replace(signals, teacher=TeacherSignals(other), log_probs=sure)
    assert float(SkdLoss()(opposite)) == pytest.approx(2)
