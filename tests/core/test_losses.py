"""Losses against enumeration and slow loops; padding never counts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kdcompress.losses import FRAME_SELECTIONS, ctc, frame_kl

LENS = torch.tensor([7, 4, 1])


def log_probs(*shape: int, seed: int = 1, sharpness: float = 1.5) -> torch.Tensor:
    scores = sharpness * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return scores.log_softmax(dim=-1)


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def slow_nll(frames: torch.Tensor, labels: tuple[int, ...], blank: int = 0) -> float:
    """Sum the probability of every path that collapses to ``labels``."""
    probabilities = frames.double().exp().tolist()
    total = sum(
        math.prod(row[token] for row, token in zip(probabilities, path, strict=True))
        for path in itertools.product(range(frames.shape[1]), repeat=len(frames))
        if collapse(path, blank) == labels
    )
    return -math.log(total)


@pytest.mark.parametrize("labels", [(), (1,), (2, 1), (1, 1), (2, 2, 1), (1, 2, 1, 2)])
def test_ctc_is_the_sum_over_all_alignments(labels):
    frames = log_probs(1, 5, 3)
    padded = torch.tensor([[*labels, 0, 0][: max(1, len(labels))]])
    found = ctc(frames, torch.tensor([5]), padded, torch.tensor([len(labels)]))
    assert float(found) == pytest.approx(slow_nll(frames[0], labels) / 5, rel=1e-5)


def test_ctc_of_a_batch_is_divided_by_its_valid_frames():
    frames, lens = log_probs(3, 5, 3), torch.tensor([5, 3, 4])
    labels, label_lens = torch.tensor([[1, 1], [2, 0], [0, 0]]), torch.tensor([2, 1, 0])
    expected = [slow_nll(frames[0, :5], (1, 1)), slow_nll(frames[1, :3], (2,)), slow_nll(frames[2, :4], ())]
    assert float(ctc(frames, lens, labels, label_lens)) == pytest.approx(sum(expected) / 12, rel=1e-5)


def test_ctc_takes_another_blank_and_half_precision():
    frames = log_probs(1, 5, 3)
    found = ctc(frames, torch.tensor([5]), torch.tensor([[0, 1]]), torch.tensor([2]), blank_id=2)
    assert float(found) == pytest.approx(slow_nll(frames[0], (0, 1), blank=2) / 5, rel=1e-5)
    half = ctc(frames.bfloat16(), torch.tensor([5]), torch.tensor([[0, 1]]), torch.tensor([2]), blank_id=2)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(found), rel=0.02)


def test_ctc_that_cannot_be_aligned_adds_nothing_and_breaks_nothing():
    frames = log_probs(2, 3, 3).requires_grad_()
    lens, labels = torch.tensor([3, 3]), torch.tensor([[1, 1, 1], [2, 0, 0]])
    loss = ctc(frames, lens, labels, torch.tensor([3, 1]))
    assert float(loss.detach()) == pytest.approx(slow_nll(frames[1].detach(), (2,)) / 6, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, frames)
    assert torch.isfinite(gradient).all()
    assert (gradient[0] == 0).all()


def test_ctc_padding_never_counts():
    frames, lens = log_probs(3, 7, 4).requires_grad_(), LENS
    labels, label_lens = torch.tensor([[1, 1], [3, 0], [0, 0]]), torch.tensor([2, 1, 0])
    loss = ctc(frames, lens, labels, label_lens)
    (gradient,) = torch.autograd.grad(loss, frames)
    changed, other = frames.detach().clone(), labels.clone()
    for item, length in enumerate(lens.tolist()):
        assert (gradient[item, length:] == 0).all()
        assert gradient[item, :length].abs().max() > 0
        changed[item, length:] = log_probs(7 - length, 4, seed=9)
        other[item, int(label_lens[item]) :] = 2
    torch.testing.assert_close(ctc(changed, lens, other, label_lens), loss.detach())


def test_ctc_gradient_is_the_finite_difference():
    scores = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2))
    arguments = torch.tensor([4, 3]), torch.tensor([[1, 1], [2, 0]]), torch.tensor([2, 1])
    check_gradient(lambda values: ctc(values.log_softmax(dim=2), *arguments), scores)


def check_gradient(loss, values: torch.Tensor, step: float = 1e-2) -> None:
    """Compare the gradient with central differences, which float32 inside the loss keeps coarse."""
    values = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(values), values)
    plain, numeric = values.detach(), torch.zeros_like(gradient)
    for index in itertools.product(*map(range, plain.shape)):
        up, down = plain.clone(), plain.clone()
        up[index] += step
        down[index] -= step
        numeric[index] = (loss(up) - loss(down)) / (2 * step)
    torch.testing.assert_close(gradient, numeric, atol=2e-4, rtol=2e-2)
    assert gradient.abs().max() > 1e-2


def slow_selection(best: list[int], frames: str, context: int, blank: int) -> list[bool]:
    """Selected frames of one item from the teacher's best tokens inside it."""
    spikes = [token != blank for token in best]
    if frames == "all":
        return [True] * len(best)
    reach = context if frames == "symmetric" else 0
    return [any(spikes[max(0, t - reach) : t + reach + 1]) for t in range(len(best))]


def slow_frame_kl(student, teacher, lens, *, temperature=1.0, frames="all", context=2, delay_frames=0, blank_id=0):
    total = 0.0
    for item, length in enumerate(lens.tolist()):
        best = teacher[item, :length].argmax(dim=1).tolist()
        selected = slow_selection(best, frames, context, blank_id)
        for t in range(length - delay_frames):
            if selected[t]:
                p = (teacher[item, t].double() / temperature).softmax(0).tolist()
                q = (student[item, t + delay_frames].double() / temperature).softmax(0).tolist()
                total += temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    return total / int(lens.sum())


SETTINGS = [
    {"frames": frames, "temperature": temperature, "delay_frames": delay, "context": context}
    for frames in FRAME_SELECTIONS
    for temperature in (1.0, 2.5)
    for delay in (0, 2, 5)
    for context in ((0, 1, 3) if frames == "symmetric" else (2,))
]


@pytest.fixture
def student():
    return log_probs(3, 7, 4, seed=3)


@pytest.fixture
def teacher():
    """Blank (0) is the best token about half of the time."""
    scores = 2 * torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(4))
    scores[..., 0] += 2
    return scores.log_softmax(dim=2)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_frame_kl_is_its_slow_reference(student, teacher, settings):
    assert 0 < float((teacher.argmax(dim=2) == 0).float().mean()) < 1
    found = frame_kl(student, teacher, LENS, **settings)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(slow_frame_kl(student, teacher, LENS, **settings), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("settings", SETTINGS[::3], ids=str)
def test_frame_kl_padding_never_counts(student, teacher, settings):
    student = student.requires_grad_()
    loss = frame_kl(student, teacher, LENS, **settings)
    (gradient,) = torch.autograd.grad(loss, student)
    other_student, other_teacher = student.detach().clone(), teacher.clone()
    for item, length in enumerate(LENS.tolist()):
        assert (gradient[item, length:] == 0).all()
        other_student[item, length:] = log_probs(7 - length, 4, seed=8)
        other_teacher[item, length:] = torch.tensor([-9.0, -0.001, -9.0, -9.0])  # a spike right behind the end
    torch.testing.assert_close(frame_kl(other_student, other_teacher, LENS, **settings), loss.detach())
    further = [torch.nn.functional.pad(part, (0, 0, 0, 3), value=-1.0) for part in (student.detach(), teacher)]
    torch.testing.assert_close(frame_kl(*further, LENS, **settings), loss.detach())


@pytest.mark.parametrize("settings", [{}, {"frames": "symmetric", "context": 1, "temperature": 2.0, "delay_frames": 1}])
def test_frame_kl_gradient_is_the_finite_difference(teacher, settings):
    scores = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(2))
    check_gradient(lambda values: frame_kl(values.log_softmax(dim=2), teacher, LENS, **settings), scores)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_frame_kl_of_equal_distributions_is_zero(teacher, temperature):
    assert float(frame_kl(teacher, teacher, LENS, temperature=temperature)) == pytest.approx(0, abs=1e-6)
    shifted = torch.cat([log_probs(3, 2, 4), teacher[:, :-2]], dim=1)
    assert float(frame_kl(shifted, teacher, LENS, temperature=temperature, delay_frames=2)) == pytest.approx(
        0, abs=1e-6
    )


def test_frame_kl_is_finite_whatever_the_teacher_excludes_and_the_padding_holds(student, teacher):
    """A teacher that is quite sure has minus infinity elsewhere; padding may hold anything."""
    sure = teacher.clone()
    sure[0, 2] = torch.tensor([-torch.inf, 0.0, -torch.inf, -torch.inf])
    spoiled, student = sure.clone(), student.requires_grad_()
    spoiled[2, 1:] = torch.nan
    loss = frame_kl(student, spoiled, LENS)
    torch.testing.assert_close(loss, frame_kl(student, sure, LENS))
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
    nothing = torch.tensor([0.0, -50.0, -50.0, -50.0]).expand(3, 7, 4)
    empty = frame_kl(student, nothing, LENS, frames="nonblank")
    assert empty.item() == 0
    assert (torch.autograd.grad(empty, student)[0] == 0).all()


def test_frame_kl_gives_the_teacher_no_gradient(student, teacher):
    teacher, student = teacher.requires_grad_(), student.requires_grad_()
    frame_kl(student, teacher, LENS).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


def test_frame_kl_refuses_other_shapes_and_unknown_selections(student, teacher):
    with pytest.raises(ValueError, match=r"\(3, 6, 4\) and teacher \(3, 7, 4\)"):
        frame_kl(student[:, :6], teacher, LENS)
    with pytest.raises(KeyError, match="spikes"):
        frame_kl(student, teacher, LENS, frames="spikes")


def test_frame_kl_takes_another_blank(student, teacher):
    settings = {"frames": "nonblank", "blank_id": 3}
    expected = slow_frame_kl(student, teacher, LENS, **settings)
    assert float(frame_kl(student, teacher, LENS, **settings)) == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(slow_frame_kl(student, teacher, LENS, frames="nonblank"), rel=1e-2)


@pytest.mark.parametrize(
    ("spike", "context", "expected"),
    [(0, 2, [0, 1, 2]), (6, 2, [4, 5, 6]), (3, 1, [2, 3, 4]), (3, 0, [3]), (3, 50, [0, 1, 2, 3, 4, 5, 6])],
)
def test_symmetric_selection_neither_wraps_nor_crosses_items(spike, context, expected):
    spikes = torch.zeros(3, 7, dtype=torch.bool)
    spikes[1, spike] = True
    selected = FRAME_SELECTIONS["symmetric"](spikes, torch.ones(3, 7, dtype=torch.bool), context)
    assert selected.nonzero().tolist() == [[1, t] for t in expected]


def test_spikes_in_the_padding_select_nothing():
    valid = torch.tensor([[True, True, False, False]])
    for name in ("nonblank", "symmetric"):
        assert not FRAME_SELECTIONS[name](~valid, valid, 3).any()


def test_every_selection_of_a_recipe_is_known():
    from kdcompress.recipe import DistillConfig

    assert set(DistillConfig.model_fields["frames"].annotation.__args__) == set(FRAME_SELECTIONS)
