"""CTC against enumeration, frame KL and its frames against slow loops; padding never counts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kdcompress.losses import FrameKlLoss
from kdcompress.losses.ctc import ctc
from kdcompress.losses.frame_kl import frame_kl
from kdcompress.losses.frames import FRAME_SELECTIONS, FrameLoss, choose_frames, delay, pair_frames

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


def slow_selection(teacher: torch.Tensor, settings: dict) -> list[bool]:
    """Selected frames of one item, without padding."""
    blank, frames = settings.get("blank_id", 0), settings.get("frames", "all")
    spikes = [t for t, row in enumerate(teacher) if int(row.argmax()) != blank]
    if frames == "all":
        return [True] * len(teacher)
    if frames == "threshold":
        return [float(1 - row[blank].exp()) >= settings.get("threshold", 0.1) for row in teacher]
    if frames == "trim":
        return [bool(spikes) and spikes[0] <= t <= spikes[-1] for t in range(len(teacher))]
    reach = settings.get("context", 2) if frames == "symmetric" else 0
    return [any(abs(t - spike) <= reach for spike in spikes) for t in range(len(teacher))]


def slow_frame_kl(student, teacher, lens, temperature=1.0, **settings):
    total, selected_frames = torch.zeros(()).double(), 0
    delay_frames = settings.get("delay_frames", 0)
    for item, length in enumerate(lens.tolist()):
        selected = slow_selection(teacher[item, :length], settings)
        selected_frames += sum(selected)
        for t in range(length - delay_frames):
            if selected[t]:
                p = (teacher[item, t].double() / temperature).softmax(0)
                q = (student[item, t + delay_frames].double() / temperature).softmax(0)
                for a, b in zip(p, q, strict=True):
                    total = total + temperature**2 * a * (a.log() - b.log())
    divisors = {"all_frames": int(lens.sum()), "selected_frames": max(1, selected_frames), "utterances": len(lens)}
    return total / divisors[settings.get("normalise", "all_frames")]


def fast_frame_kl(student, teacher, lens, temperature=1.0, **settings):
    return frame_kl(pair_frames(student, teacher, lens, **settings), temperature)


SETTINGS = [
    {"frames": frames, "temperature": temperature, "delay_frames": delay_frames, **more}
    for frames in FRAME_SELECTIONS
    for temperature in (1.0, 2.5)
    for delay_frames in (0, 2, 5, 9)
    for more in {
        "symmetric": ({"context": 0}, {"context": 1}, {"context": 30}),
        "threshold": ({"threshold": 0.2}, {"threshold": 0.7, "normalise": "utterances"}),
        "nonblank": ({}, {"blank_id": 3}, {"normalise": "selected_frames"}),
    }.get(frames, ({},))
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
    student = student.requires_grad_()
    found, expected = (
        fast_frame_kl(student, teacher, LENS, **settings),
        slow_frame_kl(student, teacher, LENS, **settings),
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-4)
    if settings["delay_frames"] < max(LENS):
        gradients = (torch.autograd.grad(value, student)[0] for value in (found, expected))
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
    else:
        assert found == 0


@pytest.mark.parametrize("settings", SETTINGS[::3], ids=str)
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf, 5.0])
def test_frame_kl_padding_never_counts(student, teacher, settings, garbage):
    """Garbage that would be a spike right behind the end among it."""
    student = student.requires_grad_()
    loss = fast_frame_kl(student, teacher, LENS, **settings)
    (gradient,) = torch.autograd.grad(loss, student)
    spoilt_student, spoilt_teacher = student.detach().clone(), teacher.clone()
    for item, length in enumerate(LENS.tolist()):
        assert (gradient[item, length:] == 0).all()
        spoilt_student[item, length:] = garbage
        spoilt_teacher[item, length:] = torch.tensor([-9.0, garbage, -9.0, -9.0])
    spoilt_student.requires_grad_()
    spoilt = fast_frame_kl(spoilt_student, spoilt_teacher, LENS, **settings)
    torch.testing.assert_close(spoilt, loss)
    torch.testing.assert_close(torch.autograd.grad(spoilt, spoilt_student)[0], gradient)
    further = [torch.nn.functional.pad(part, (0, 0, 0, 3), value=-1.0) for part in (student.detach(), teacher)]
    torch.testing.assert_close(fast_frame_kl(*further, LENS, **settings), loss.detach())


@pytest.mark.parametrize("settings", [{}, {"frames": "symmetric", "context": 1, "temperature": 2.0, "delay_frames": 1}])
def test_frame_kl_gradient_is_the_finite_difference(teacher, settings):
    scores = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(2))
    check_gradient(lambda values: fast_frame_kl(values.log_softmax(dim=2), teacher, LENS, **settings), scores)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_frame_kl_of_equal_distributions_is_zero(teacher, temperature):
    assert float(fast_frame_kl(teacher, teacher, LENS, temperature)) == pytest.approx(0, abs=1e-6)
    shifted = torch.cat([log_probs(3, 2, 4), teacher[:, :-2]], dim=1)
    assert float(fast_frame_kl(shifted, teacher, LENS, temperature, delay_frames=2)) == pytest.approx(0, abs=1e-6)


def test_frame_kl_of_a_batch_is_that_of_its_items(student, teacher):
    for frames in FRAME_SELECTIONS:
        one_by_one = [
            float(fast_frame_kl(student[i : i + 1, :n], teacher[i : i + 1, :n], LENS[i : i + 1], frames=frames)) * n
            for i, n in enumerate(LENS.tolist())
        ]
        together = float(fast_frame_kl(student, teacher, LENS, frames=frames))
        assert together == pytest.approx(sum(one_by_one) / int(LENS.sum()), rel=1e-5)


def test_a_weight_means_the_same_for_every_selection(teacher):
    """Where a student is right on the frames that are left out, selections agree: one divisor for all of them."""
    spikes = teacher.argmax(dim=2) != 0
    student = torch.where(spikes[:, :, None], log_probs(3, 7, 4, seed=3), teacher)
    values = [
        float(fast_frame_kl(student, teacher, LENS, frames=frames)) for frames in ("all", "nonblank", "symmetric")
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    assert values[0] > 0.1


def test_frame_kl_is_finite_whatever_the_teacher_excludes(student, teacher):
    """A teacher that is quite sure has minus infinity elsewhere."""
    sure = teacher.clone()
    sure[0, 2] = torch.tensor([-torch.inf, 0.0, -torch.inf, -torch.inf])
    student = student.requires_grad_()
    loss = fast_frame_kl(student, sure, LENS)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
    nothing = torch.tensor([0.0, -50.0, -50.0, -50.0]).expand(3, 7, 4)
    for frames in ("nonblank", "symmetric", "trim", "threshold"):
        empty = fast_frame_kl(student, nothing, LENS, frames=frames, normalise="selected_frames")
        assert empty.item() == 0
        assert (torch.autograd.grad(empty, student)[0] == 0).all()


def test_frame_kl_gives_the_teacher_no_gradient(student, teacher):
    teacher, student = teacher.requires_grad_(), student.requires_grad_()
    fast_frame_kl(student, teacher, LENS).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


def test_other_shapes_and_unknown_names_are_refused(student, teacher):
    with pytest.raises(ValueError, match=r"\(3, 6, 4\) and teacher \(3, 7, 4\)"):
        pair_frames(student[:, :6], teacher, LENS)
    with pytest.raises(KeyError, match="spikes"):
        pair_frames(student, teacher, LENS, frames="spikes")
    with pytest.raises(KeyError, match="items"):
        pair_frames(student, teacher, LENS, normalise="items")


def spiky(*spikes: int, item: int = 1) -> torch.Tensor:
    """A teacher of three items that says blank but for the frames ``spikes`` of one item."""
    teacher = torch.tensor([-0.01, -6.0, -6.0, -6.0]).repeat(3, 7, 1)
    for t in spikes:
        teacher[item, t] = torch.tensor([-6.0, -6.0, -0.01, -6.0])
    return teacher


@pytest.mark.parametrize(
    ("spike", "context", "expected"),
    [(0, 2, [0, 1, 2]), (6, 2, [4, 5, 6]), (3, 1, [2, 3, 4]), (3, 0, [3]), (3, 50, [0, 1, 2, 3, 4, 5, 6])],
)
def test_symmetric_selection_neither_wraps_nor_crosses_items(spike, context, expected):
    chosen = choose_frames(spiky(spike), torch.full((3,), 7), frames="symmetric", context=context)
    assert chosen.selected.nonzero().tolist() == [[1, t] for t in expected]


def test_trim_takes_what_is_between_the_first_and_the_last_spike():
    chosen = choose_frames(spiky(1, 4), torch.full((3,), 7), frames="trim")
    assert chosen.selected.nonzero().tolist() == [[1, t] for t in (1, 2, 3, 4)]


@pytest.mark.parametrize("frames", ["nonblank", "symmetric", "trim", "threshold"])
def test_spikes_in_the_padding_select_nothing(frames):
    chosen = choose_frames(spiky(3, 4), torch.tensor([7, 3, 7]), frames=frames)
    assert not chosen.selected.any()
    assert int(chosen.divisor) == 17


@pytest.mark.parametrize("frames", FRAME_SELECTIONS)
def test_no_selection_looks_into_the_padding(frames, teacher):
    """Nor does it select any of it."""
    other = teacher.clone()
    for item, length in enumerate(LENS.tolist()):
        other[item, length:] = spiky(*range(7))[1, length:]
    chosen, again = choose_frames(teacher, LENS, frames=frames), choose_frames(other, LENS, frames=frames)
    assert torch.equal(chosen.selected, again.selected)
    assert not (chosen.selected & ~chosen.valid).any()
    assert int(chosen.divisor) == int(LENS.sum())


@pytest.mark.parametrize("delay_frames", [0, 1, 3, 4, 7, 20])
def test_delay_puts_the_frames_side_by_side(delay_frames):
    frames = torch.arange(21).view(3, 7)
    mine, theirs, inside = delay(frames, frames, LENS, delay_frames)
    assert mine.shape == theirs.shape == inside.shape
    found = [(a, b) for a, b in zip(mine[inside].tolist(), theirs[inside].tolist(), strict=True)]
    expected = [
        (7 * item + t + delay_frames, 7 * item + t)
        for item, length in enumerate(LENS.tolist())
        for t in range(length - delay_frames)
    ]
    assert found == expected


def test_every_selection_of_a_recipe_is_known():
    assert set(FrameLoss.model_fields["frames"].annotation.__args__) == set(FRAME_SELECTIONS)


def test_settings_reach_the_frames(student, teacher):
    from kdcompress.losses.base import Signals, TeacherSignals

    loss = FrameKlLoss(frames="threshold", threshold=0.4, delay_frames=1, normalise="utterances", temperature=2)
    nothing = torch.zeros(3, 1, dtype=torch.int64)
    signals = Signals(student, (), LENS, nothing, nothing[:, 0], 3, TeacherSignals(teacher))
    settings = {"frames": "threshold", "threshold": 0.4, "delay_frames": 1, "normalise": "utterances", "blank_id": 3}
    assert float(loss(signals)) == pytest.approx(float(slow_frame_kl(student, teacher, LENS, 2, **settings)), rel=1e-4)
    assert torch.equal(
        loss.chosen(teacher, LENS, 3).selected,
        choose_frames(teacher, LENS, frames="threshold", threshold=0.4, blank_id=3).selected,
    )
