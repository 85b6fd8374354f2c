"""Losses of a student that teaches itself (two views, heads in the middle, a branch that sees the text), by slow loops.

What matters beside the values is who learns from whom: a removed ``detach`` changes gradients, not values.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcompress.losses import CrCtcLoss, InPlaceLoss, InterCtcLoss, InterKdLoss
from kdcompress.losses.base import Shapes, Signals, TeacherSignals
from kdcompress.network import Outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcompress.losses.base import LossConfig

BLANK, TOKENS, WIDTH = 1, 4, 8
LENS, TEXTS = (5, 3, 5, 3), ((2, 2), (0,), (2, 2), (0,))
"""Two views of two items."""
FRAMES, ITEMS, HEADS = max(LENS), len(LENS), 2


def drawn(*shape: int, seed: int, sharpness: float = 1.0) -> torch.Tensor:
    return sharpness * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def signals() -> Signals:
    """Four items; ``head`` is that of ``in_place``, see ``with_heads``."""
    return Signals(
        log_probs=drawn(ITEMS, FRAMES, TOKENS, seed=1).log_softmax(dim=-1),
        hidden=(),
        frame_lens=torch.tensor(LENS),
        labels=torch.tensor([[*text, 3][:2] for text in TEXTS]),
        label_lens=torch.tensor([len(text) for text in TEXTS]),
        blank_id=BLANK,
        teacher=TeacherSignals(drawn(ITEMS, FRAMES, TOKENS, seed=2, sharpness=2).log_softmax(dim=-1)),
        head=drawn(ITEMS, FRAMES, TOKENS, seed=3).log_softmax(dim=-1),
    )


def with_heads(signals: Signals) -> Signals:
    """Answers of heads on two blocks."""
    return replace(signals, head=drawn(HEADS, ITEMS, FRAMES, TOKENS, seed=4).log_softmax(dim=-1))


# ---- slow references, in float64


def kl(target: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """From a row of log-probabilities, which gets no gradient, to another."""
    return sum(p.exp() * (p - q) for p, q in zip(target.detach(), answer, strict=True))


@functools.cache
def paths(frames: int, text: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Every path over ``frames`` frames that spells ``text``."""
    every = itertools.product(range(TOKENS), repeat=frames)
    return tuple(path for path in every if tuple(t for t, _ in itertools.groupby(path) if t != BLANK) == text)


def slow_ctc(said: torch.Tensor) -> torch.Tensor:
    """``(N, T, V)``; divided by the frames."""
    total = torch.zeros(()).double()
    for item, (length, text) in enumerate(zip(LENS, TEXTS, strict=True)):
        rows = range(length)
        total = total - sum(said[item, rows, path].sum().exp() for path in paths(length, text)).log()
    return total / sum(LENS)


def slow_frames(target: torch.Tensor, answer: torch.Tensor, delay: int = 0, heat: float = 1.0) -> torch.Tensor:
    """KL at each frame; answer frame ``t + delay`` to target frame t."""
    total = torch.zeros(()).double()
    for item, length in enumerate(LENS):
        for t in range(length - delay):
            rows = [(side / heat).log_softmax(dim=0) for side in (target[item, t], answer[item, t + delay])]
            total = total + heat**2 * kl(*rows)
    return total / sum(LENS)


def slow_cr_ctc(signals: Signals, loss: CrCtcLoss) -> torch.Tensor:
    total, half = torch.zeros(()).double(), ITEMS // 2
    for item, length in enumerate(LENS[:half]):
        for t in range(length):
            one, two = signals.log_probs[item, t], signals.log_probs[item + half, t]
            total = total + (kl(one, two) + kl(two, one)) / 2
    return total / sum(LENS[:half])


def slow_heads(signals: Signals, loss: InterCtcLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    for said in signals.head:
        total = total + loss.ctc * slow_ctc(said) + loss.own * slow_frames(signals.log_probs, said)
        if isinstance(loss, InterKdLoss):
            total = total + loss.teacher * slow_frames(signals.teacher.log_probs, said, loss.delay_frames)
    return total / len(signals.head)


def slow_in_place(signals: Signals, loss: InPlaceLoss) -> torch.Tensor:
    taught = slow_frames(signals.head, signals.log_probs, heat=loss.temperature)
    return taught + loss.teacher_ctc * slow_ctc(signals.head)


INTER = {"layers": [0, 1]}
CASES: dict[str, tuple[LossConfig, Callable[..., torch.Tensor]]] = {
    "cr_ctc": (CrCtcLoss(), slow_cr_ctc),
    "inter_ctc": (InterCtcLoss(**INTER), slow_heads),
    "inter_ctc, own": (InterCtcLoss(**INTER, ctc=0.0, own=1.0), slow_heads),
    "inter_ctc, both": (InterCtcLoss(**INTER, ctc=0.4, own=1.7), slow_heads),
    "inter_kd": (InterKdLoss(**INTER), slow_heads),
    "inter_kd, teacher alone": (InterKdLoss(**INTER, ctc=0.0, teacher=0.6), slow_heads),
    "inter_kd, delayed": (InterKdLoss(**INTER, ctc=0.5, own=0.3, delay_frames=2), slow_heads),
    "in_place": (InPlaceLoss(), slow_in_place),
    "in_place, warm": (InPlaceLoss(temperature=2.0, teacher_ctc=4.0), slow_in_place),
}
NAMES = pytest.mark.parametrize("name", CASES)


def given(name: str, signals: Signals) -> Signals:
    return with_heads(signals) if name.startswith("inter") else signals


def with_gradients(function: Callable[[Signals], torch.Tensor], signals: Signals) -> tuple[Any, ...]:
    """Value, and gradients at scores behind the last layer, the heads and the teacher; zeros where there is none."""
    leaves = [signals.log_probs, signals.head, signals.teacher.log_probs]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    last, head, teacher = (leaf.log_softmax(dim=-1) for leaf in leaves)
    value = function(replace(signals, log_probs=last, head=head, teacher=TeacherSignals(teacher)))
    slopes = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), *(
        torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, slopes, strict=True)
    )


def doubled(signals: Signals) -> Signals:
    teacher = TeacherSignals(signals.teacher.log_probs.double())
    return replace(signals, log_probs=signals.log_probs.double(), head=signals.head.double(), teacher=teacher)


@NAMES
def test_value_and_gradients_are_those_of_the_slow_reference(name, signals):
    loss, slow = CASES[name]
    signals = given(name, signals)
    found = with_gradients(loss, signals)
    expected = with_gradients(lambda these: slow(these, loss), doubled(signals))
    assert found[0].dtype == torch.float32
    assert max(float(slope.abs().max()) for slope in expected[1:]) > 1e-3
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part.double(), other, atol=1e-5, rtol=1e-4)


@NAMES
def test_who_learns_from_whom(name, signals):
    """Heads and branch learn from the last layer or the text, never the other way round, and the teacher from none."""
    loss, _ = CASES[name]
    _, last, head, teacher = with_gradients(loss, given(name, signals))
    assert not teacher.any()
    assert last.any() == name.startswith(("cr_ctc", "in_place"))
    assert head.any() == (name != "cr_ctc")


@NAMES
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -3.0])
def test_padding_never_counts(name, garbage, signals):
    loss, _ = CASES[name]
    signals = given(name, signals)
    padding = torch.arange(FRAMES)[None, :] >= signals.frame_lens[:, None]

    def found(fill: float | None) -> list[torch.Tensor]:
        sides = [signals.log_probs, signals.head, signals.teacher.log_probs]
        leaves = [side if fill is None else side.masked_fill(padding[:, :, None], fill) for side in sides]
        last, head, teacher = (leaf.clone().requires_grad_() for leaf in leaves)
        labels = signals.labels if fill is None else signals.labels.where(signals.labels != 3, 0)
        these = replace(signals, log_probs=last, head=head, teacher=TeacherSignals(teacher), labels=labels)
        value = loss(these)
        slopes = torch.autograd.grad(value, [last, head], allow_unused=True)
        return [value.detach(), *(torch.zeros(()) if slope is None else slope for slope in slopes)]

    clean, spoilt = found(None), found(garbage)
    for part, other in zip(clean, spoilt, strict=True):
        torch.testing.assert_close(other, part)
    for slope in clean[1:]:
        assert slope.ndim == 0 or not slope[..., padding, :].any()


@NAMES
def test_extreme_inputs_give_finite_numbers(name, signals):
    loss, _ = CASES[name]
    signals = given(name, signals)
    extreme = replace(
        signals,
        log_probs=300 * signals.log_probs.exp(),
        head=-300 * signals.head.exp(),
        teacher=TeacherSignals(300 * signals.teacher.log_probs.exp()),
    )
    for part in with_gradients(loss, extreme):
        assert torch.isfinite(part).all()
    one_frame = replace(extreme, frame_lens=torch.ones(ITEMS, dtype=torch.int64))
    for part in with_gradients(loss, one_frame):
        assert torch.isfinite(part).all()


# ---- two views


def test_views_teach_each_other_alike(signals):
    swapped = replace(signals, log_probs=signals.log_probs.roll(ITEMS // 2, dims=0))
    value, slope, *_ = with_gradients(CrCtcLoss(), signals)
    other, turned, *_ = with_gradients(CrCtcLoss(), swapped)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close(turned, slope.roll(ITEMS // 2, dims=0))
    assert float(CrCtcLoss()(replace(signals, log_probs=signals.log_probs[:2].repeat(2, 1, 1)))) == 0


def test_a_view_is_not_moved_as_a_target(signals):
    """Without ``detach`` the gradient would be another one: that of the symmetric KL as a whole."""

    def symmetric(these: Signals) -> torch.Tensor:
        one, two = (side[torch.arange(FRAMES)[None, :] < torch.tensor(LENS[:2])[:, None]] for side in halves(these))
        return ((one.exp() - two.exp()) * (one - two)).sum() / 2 / sum(LENS[:2])

    def halves(these: Signals) -> tuple[torch.Tensor, ...]:
        return these.log_probs.chunk(2)

    value, slope, *_ = with_gradients(CrCtcLoss(), signals)
    same, other, *_ = with_gradients(symmetric, signals)
    torch.testing.assert_close(value, same)
    assert (slope - other).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("items", "lens"), [(3, [5, 3, 5]), (4, [5, 3, 3, 5]), (4, [5, 3, 5, 4])], ids=["odd", "order", "length"]
)
def test_views_that_are_not_of_the_same_items_are_refused(items, lens, signals):
    with pytest.raises(ValueError, match="two views of the same items"):
        CrCtcLoss()(replace(signals, log_probs=signals.log_probs[:items], frame_lens=torch.tensor(lens)))


# ---- heads in the middle


def test_each_head_reads_its_block():
    shapes = Shapes(TOKENS, (WIDTH, 6, WIDTH))
    head = InterCtcLoss(layers=[1, -1]).head(shapes)
    hidden = tuple(drawn(2, FRAMES, width, seed=width + place) for place, width in enumerate(shapes.hidden_dims))
    lens, labels = torch.tensor([5, 3]), torch.zeros(2, 1, dtype=torch.int64)
    said = head(Outputs(torch.zeros(2, FRAMES, TOKENS), hidden), lens, labels, labels[:, 0])
    assert said.shape == (2, 2, FRAMES, TOKENS)
    for answer, block, layer in zip(said, (hidden[1], hidden[2]), head.projections, strict=True):
        torch.testing.assert_close(answer, layer(block).log_softmax(dim=-1))


def test_a_block_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"inter_kd: layers \[1, 1\] name a block twice"):
        InterKdLoss(layers=[1, 1])


def test_heads_that_said_nothing_are_an_error(signals):
    for loss in (InterCtcLoss(), InPlaceLoss()):
        with pytest.raises(ValueError, match="needs the answer"):
            loss(replace(signals, head=None))


# ---- a branch that sees the text


def branch(seed: int = 5, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(seed)
    return InPlaceLoss(heads=2, **settings).head(Shapes(TOKENS, (WIDTH, WIDTH))).eval()


def read(
    head: torch.nn.Module, hidden: torch.Tensor, labels: list[list[int]], label_lens: list[int], lens: list[int]
) -> torch.Tensor:
    outputs = Outputs(torch.zeros(len(lens), FRAMES, TOKENS), (torch.zeros_like(hidden), hidden))
    said: torch.Tensor = head(outputs, torch.tensor(lens), torch.tensor(labels).long(), torch.tensor(label_lens))
    return said


@pytest.mark.parametrize("detach", [False, True])
def test_the_branchs_ctc_trains_the_backbone_unless_it_is_detached(detach, signals):
    hidden = drawn(ITEMS, FRAMES, WIDTH, seed=6).requires_grad_()
    head = branch(detach=detach)
    said = read(head, hidden, signals.labels.tolist(), signals.label_lens.tolist(), list(LENS))
    InPlaceLoss(detach=detach)(replace(signals, head=said)).backward()
    assert (hidden.grad is not None and bool(hidden.grad.any())) is not detach
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_the_student_does_not_pull_at_the_branch(signals):
    """What the branch learns does not depend on what the student says."""
    _, _, slope, _ = with_gradients(InPlaceLoss(), signals)
    other = replace(signals, log_probs=drawn(ITEMS, FRAMES, TOKENS, seed=9).log_softmax(dim=-1))
    _, _, again, _ = with_gradients(InPlaceLoss(), other)
    assert torch.equal(slope, again)
    _, _, four, _ = with_gradients(InPlaceLoss(teacher_ctc=4.0), signals)
    torch.testing.assert_close(four, 4 * slope)


@pytest.mark.parametrize("width", [0, 2])
def test_an_empty_reference_is_finite(width, signals):
    hidden = drawn(ITEMS, FRAMES, WIDTH, seed=6).requires_grad_()
    said = read(branch(), hidden, [[0] * width] * ITEMS, [0] * ITEMS, list(LENS))
    assert torch.isfinite(said).all()
    empty = replace(
        signals,
        head=said,
        labels=torch.zeros(ITEMS, width, dtype=torch.int64),
        label_lens=torch.zeros(ITEMS, dtype=torch.int64),
    )
    InPlaceLoss()(empty).backward()
    assert torch.isfinite(hidden.grad).all()
    assert hidden.grad.any()


def test_labels_are_hidden_in_training_only():
    hidden = drawn(2, FRAMES, WIDTH, seed=6)
    head, plain = branch(label_mask_prob=0.5), branch()
    asked = ([[2, 0], [3, 0]], [2, 2], [5, 3])
    torch.testing.assert_close(read(head, hidden, *asked), read(plain, hidden, *asked))
    torch.manual_seed(0)
    in_training = [read(head.train(), hidden, *asked) for _ in range(6)]
    assert any(not torch.equal(said, in_training[0]) for said in in_training)
    torch.testing.assert_close(read(plain.train(), hidden, *asked), read(plain.eval(), hidden, *asked))


def test_the_branch_sees_the_reference_and_nothing_behind_its_end():
    hidden = drawn(2, FRAMES, WIDTH, seed=6)
    found = [
        read(branch(), hidden, labels, [2, 1], [5, 3])
        for labels in ([[2, 0], [3, 0]], [[2, 0], [3, 2]], [[0, 0], [3, 2]])
    ]
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[1][0], found[2][0])
    spoilt = hidden.clone()
    spoilt[1, 3:] = 1e4
    torch.testing.assert_close(read(branch(), spoilt, [[2, 0], [3, 0]], [2, 1], [5, 3])[1, :3], found[0][1, :3])
