"""Losses with a teacher, and peak-first, against slow loops in float64; padding never counts, extremes stay finite."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import gradcheck

from kdcompress.losses.base import LossConfig, Shapes, Signals, TeacherSignals
from kdcompress.losses.codebook import CodebookLoss
from kdcompress.losses.delay_tolerant import DelayTolerantLoss
from kdcompress.losses.essence import EssenceLoss
from kdcompress.losses.factored_kl import FactoredKlLoss
from kdcompress.losses.feature_match import FeatureMatchLoss
from kdcompress.losses.frame_kl import FrameKlLoss
from kdcompress.losses.guided_ctc import GuidedCtcLoss
from kdcompress.losses.nbest import Hypotheses, NbestLoss, best_hypotheses, nbest
from kdcompress.losses.occupancy_ctc import OccupancyCtcLoss
from kdcompress.losses.peak_first import PeakFirstLoss
from kdcompress.losses.skd import SkdLoss
from kdcompress.losses.token_kl import TokenKlLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcompress.losses.frames import FrameLoss

BLANK = 1
TOKENS, WIDTH, ENTRIES = 5, 4, 3
LENS = (6, 4, 2, 3)
TEXTS = ((2, 2), (0, 3, 0), (4,), ())
FRAMES, ITEMS = max(LENS), len(LENS)
SHAPES = Shapes(TOKENS, (3, 3), (WIDTH, WIDTH))


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def signals() -> Signals:
    """Four items in float32; blank is the teacher's best token about half of the time."""
    labels = torch.zeros(ITEMS, max(map(len, TEXTS)), dtype=torch.int64)
    for row, text in zip(labels, TEXTS, strict=True):
        row[: len(text)] = torch.tensor(text)
    scores = 1.5 * drawn(ITEMS, FRAMES, TOKENS, seed=2)
    scores[..., BLANK] += 1
    teacher = TeacherSignals(scores.log_softmax(dim=2), (drawn(ITEMS, FRAMES, WIDTH, seed=3),) * 2)
    return Signals(
        log_probs=drawn(ITEMS, FRAMES, TOKENS, seed=4).log_softmax(dim=2),
        hidden=(),
        frame_lens=torch.tensor(LENS),
        labels=labels,
        label_lens=torch.tensor([len(text) for text in TEXTS]),
        blank_id=BLANK,
        teacher=teacher,
        head=drawn(ITEMS, FRAMES, WIDTH, seed=5),
    )


# ---- slow references: one item, plain loops; the sum over items is divided at the end


def inside(signals: Signals, delay: int) -> Iterator[tuple[int, int]]:
    """Items and frames t for which ``t + delay`` is in the item."""
    for item, length in enumerate(signals.frame_lens.tolist()):
        for t in range(length - delay):
            yield item, t


def kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Of two rows of log-probabilities."""
    return sum((p.exp() * (p - q) for p, q in zip(teacher, student, strict=True)), torch.zeros(()).double())


def framewise(of_frame: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Sum of ``of_frame(loss, teacher_row, student_row)`` over the frames that count, divided by all frames."""

    def slow(signals: Signals, loss: FrameLoss) -> torch.Tensor:
        total = torch.zeros(()).double()
        for item, t in inside(signals, loss.delay_frames):
            theirs = signals.teacher.log_probs[item, t]
            if loss.frames == "all" or int(theirs.argmax()) != BLANK:
                total = total + of_frame(loss, theirs, signals.log_probs[item, t + loss.delay_frames])
        return total / sum(signals.frame_lens.tolist())

    return slow


def softened(row: torch.Tensor, temperature: float) -> list[torch.Tensor]:
    powers = [(value / temperature).exp() for value in row]
    return [power / sum(powers) for power in powers]


def skd_of_frame(loss: SkdLoss, theirs: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
    rows = softened(theirs, loss.temperature), softened(mine, loss.temperature)
    return sum((p - q) ** 2 for p, q in zip(*rows, strict=True))


def factored_of_frame(loss: FactoredKlLoss, theirs: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
    p, q = theirs.exp(), mine.exp()
    others = [token for token in range(TOKENS) if token != BLANK]
    spoken, answered = sum(p[token] for token in others), sum(q[token] for token in others)
    value = p[BLANK] * (p[BLANK] / q[BLANK]).log() + spoken * (spoken / answered).log()
    value = loss.blank * value
    if int(theirs.argmax()) != BLANK:
        for token in others:
            shares = p[token] / spoken, q[token] / answered
            value = value + loss.tokens * spoken * shares[0] * (shares[0] / shares[1]).log()
    return value


def essence_of_frame(loss: EssenceLoss, theirs: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
    kept: list[int] = []
    for token in sorted(range(TOKENS), key=lambda token: -float(theirs[token])):
        enough = loss.mass is not None and sum(float(theirs[other].exp()) for other in kept) >= loss.mass
        if not kept or not (enough or len(kept) == loss.top_k):
            kept.append(token)
        else:
            break
    p = {token: theirs[token].exp() for token in kept}
    if loss.renormalise == "prob":
        p = {token: value / sum(p.values()) for token, value in p.items()}
    if loss.renormalise == "logit":
        p = dict(zip(kept, softened(theirs[kept], loss.temperature), strict=True))
    value = sum(share * (share.log() - mine[token]) for token, share in p.items())
    if loss.renormalise == "tail" and len(kept) < TOKENS:
        rest = [sum(side[token].exp() for token in range(TOKENS) if token not in kept) for side in (theirs, mine)]
        value = value + rest[0] * (rest[0] / rest[1]).log()
    return value


def slow_guided(signals: Signals, loss: GuidedCtcLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    for item, t in inside(signals, loss.delay_frames):
        best = int(signals.teacher.log_probs[item, t].argmax())
        if best != BLANK:
            total = total - signals.log_probs[item, t + loss.delay_frames, best].exp()
    return total / sum(signals.frame_lens.tolist())


@functools.cache
def paths(frames: int, text: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Every path over ``frames`` frames that spells ``text``."""
    everything = itertools.product(sorted({*text, BLANK}), repeat=frames)
    return tuple(path for path in everything if spelt(path) == text)


def spelt(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


def likelihood(frames: torch.Tensor, text: tuple[int, ...]) -> torch.Tensor:
    rows = torch.arange(len(frames))
    return sum((frames[rows, list(path)].sum().exp() for path in paths(len(frames), text)), torch.zeros(()).double())


def slow_occupancy(frames: torch.Tensor, text: tuple[int, ...]) -> torch.Tensor:
    """``(T, U)``: share of the probability of all paths in which the frame belongs to the label."""
    found = torch.zeros(len(frames), len(text)).double()
    for path in paths(len(frames), text):
        probability = math.exp(sum(float(frames[t, token]) for t, token in enumerate(path)))
        label, before = -1, BLANK
        for t, token in enumerate(path):
            label += token not in {BLANK, before}
            before = token
            if token != BLANK:
                found[t, label] += probability
    return found / likelihood(frames, text)


def texts(signals: Signals) -> list[tuple[int, ...]]:
    pairs = zip(signals.labels.tolist(), signals.label_lens.tolist(), strict=True)
    return [tuple(labels[:length]) for labels, length in pairs]


def slow_occupancy_ctc(signals: Signals, loss: OccupancyCtcLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    for item, (text, length) in enumerate(zip(texts(signals), signals.frame_lens.tolist(), strict=True)):
        if not paths(length, text):
            continue
        gamma = slow_occupancy(signals.teacher.log_probs[item, :length], text)
        for t in range(length - loss.delay_frames):
            said = signals.log_probs[item, t + loss.delay_frames]
            total = total - (1 - gamma[t].sum()) * said[BLANK]
            for label, token in enumerate(text):
                total = total - gamma[t, label] * said[token]
    return total / sum(signals.frame_lens.tolist())


def slow_token_kl(signals: Signals, loss: TokenKlLoss) -> torch.Tensor:
    values = []
    for item, (text, length) in enumerate(zip(texts(signals), signals.frame_lens.tolist(), strict=True)):
        if not paths(length, text):
            continue
        teacher = signals.teacher.log_probs[item, :length]
        penalised = teacher.clone()
        penalised[:, BLANK] -= loss.blank_penalty
        gamma = slow_occupancy(penalised.log_softmax(dim=1), text)
        answered = length - loss.delay_frames
        for label, token in enumerate(text):
            left = gamma[:answered, label].sum()
            if left < gamma[:, label].sum() / 2 or answered <= 0:
                continue
            shares = [float(gamma[t, label] / left) for t in range(answered)]
            theirs = sum(share * teacher[t].exp() for t, share in enumerate(shares))
            mine = sum(share * signals.log_probs[item, t + loss.delay_frames].exp() for t, share in enumerate(shares))
            values.append(slow_token_value(theirs, mine, token, loss))
    return sum(values) / len(values)


def slow_token_value(theirs: torch.Tensor, mine: torch.Tensor, token: int, loss: TokenKlLoss) -> torch.Tensor:
    others = [other for other in range(len(theirs)) if other not in {BLANK, token}]
    others.sort(key=lambda other: -float(theirs[other]))
    best, tail = others[: loss.top_k], others[loss.top_k :]

    def masses(q: torch.Tensor) -> torch.Tensor:
        return torch.stack([q[BLANK], q[token], sum(q[other] for other in others)])

    def classes(q: torch.Tensor) -> torch.Tensor:
        bins = [q[other] for other in best] + ([sum(q[other] for other in tail)] if tail else [])
        return torch.stack(bins) / sum(q[other] for other in others)

    decision = kl(masses(theirs).log(), masses(mine).log())
    return loss.mass * decision + loss.classes * kl(classes(theirs).log(), classes(mine).log())


def slow_best(frames: torch.Tensor, size: int) -> dict[tuple[int, ...], float]:
    """The most probable texts, best first, with their share of the probability that they have together."""
    scores: dict[tuple[int, ...], float] = {}
    rows = frames.exp().tolist()
    for path in itertools.product(range(TOKENS), repeat=len(rows)):
        text = spelt(path)
        scores[text] = scores.get(text, 0.0) + math.prod(row[token] for row, token in zip(rows, path, strict=True))
    best = sorted(scores, key=lambda text: -scores[text])[:size]
    return {text: scores[text] / sum(scores[other] for other in best) for text in best}


def slow_nbest(signals: Signals, loss: NbestLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    for item, length in enumerate(signals.frame_lens.tolist()):
        teacher = signals.teacher.log_probs[item, :length]
        for text, weight in slow_best(teacher, loss.size).items():
            total = total - weight * likelihood(signals.log_probs[item, :length], text).log()
    return total / sum(signals.frame_lens.tolist())


def slow_delay_tolerant(signals: Signals, loss: DelayTolerantLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    delays = range(loss.delay_frames, loss.delay_frames + loss.max_delay + 1)
    for item, length in enumerate(signals.frame_lens.tolist()):
        theirs, mine = signals.teacher.log_probs[item, :length], signals.log_probs[item, :length]
        counted = [t for t in range(length) if loss.frames == "all" or int(theirs[t].argmax()) != BLANK]
        table = {(t, d): kl(theirs[t], mine[t + d]) for t in counted for d in delays if t + d < length}
        if loss.per == "frame":
            for t in counted:
                values = [table[t, d] for d in delays if (t, d) in table]
                total = total + (min(values, key=lambda value: float(value.detach())) if values else 0)
        else:
            longest = min(delays[-1], max(delays.start, length // 2))
            compared = [t for t in counted if t + longest < length]
            allowed = range(delays.start, longest + 1)
            best = min(allowed, key=lambda d: sum(float(table[t, d].detach()) for t in compared))
            total = total + sum(table[t, best] for t in counted if (t, best) in table)
    return total / sum(signals.frame_lens.tolist())


def slow_feature_match(signals: Signals, loss: FeatureMatchLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    for item, t in inside(signals, loss.delay_frames):
        x, y = signals.head[item, t + loss.delay_frames], signals.teacher.hidden[loss.teacher_layer][item, t]
        if loss.distance == "mse":
            value = sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)
        else:
            value = 1 - (x * y).sum() / ((x * x).sum() * (y * y).sum()).sqrt()
        weight = 1 - signals.teacher.log_probs[item, t, BLANK].exp() if loss.frame_weights == "nonblank" else 1
        total = total + weight * value
    return total / sum(signals.frame_lens.tolist())


def slow_codebook(signals: Signals, loss: CodebookLoss) -> torch.Tensor:
    total, centroids = torch.zeros(()).double(), signals.fitted["centroids"]
    for item, t in inside(signals, loss.delay_frames):
        rest = signals.teacher.hidden[loss.teacher_layer][item, t]
        for index, book in enumerate(centroids):
            code = min(range(len(book)), key=lambda entry, book=book, rest=rest: float((rest - book[entry]).norm()))
            rest = rest - book[code]
            scores = signals.head[item, t + loss.delay_frames, index * len(book) : (index + 1) * len(book)]
            total = total + scores.exp().sum().log() - scores[code]
    return total / len(centroids) / sum(signals.frame_lens.tolist())


def slow_peak_first(signals: Signals, loss: PeakFirstLoss) -> torch.Tensor:
    total = torch.zeros(()).double()
    for item, t in inside(signals, 1):
        total = total + kl(signals.log_probs[item, t + 1].detach(), signals.log_probs[item, t])
    return total / sum(signals.frame_lens.tolist())


@dataclass(frozen=True)
class Case:
    """A loss, its slow twin, which signal has the gradient, and whether that is the derivative of the value."""

    loss: LossConfig
    slow: Callable[[Signals, Any], torch.Tensor]
    leaf: str = "log_probs"
    smooth: bool = True
    per_label: bool = False


def cases() -> dict[str, Case]:
    table = {}
    for delay in (0, 1, 3):
        after = f", {delay} later" if delay else ""
        table[f"guided{after}"] = Case(GuidedCtcLoss(delay_frames=delay), slow_guided)
        table[f"occupancy{after}"] = Case(OccupancyCtcLoss(delay_frames=delay), slow_occupancy_ctc)
        for top_k in (1, 3, 32):
            loss = TokenKlLoss(delay_frames=delay, top_k=top_k, blank_penalty=float(top_k % 3))
            table[f"token_kl of {top_k}{after}"] = Case(loss, slow_token_kl, per_label=True)
        for per, frames in itertools.product(("frame", "utterance"), ("all", "nonblank")):
            loss = DelayTolerantLoss(per=per, frames=frames, delay_frames=delay % 2, max_delay=delay)
            table[f"delay_tolerant per {per}, {frames}{after}"] = Case(loss, slow_delay_tolerant, smooth=False)
        for distance, weights in itertools.product(("mse", "cosine"), ("uniform", "nonblank")):
            loss = FeatureMatchLoss(distance=distance, frame_weights=weights, delay_frames=delay, teacher_layer=0)
            table[f"{distance}, {weights}{after}"] = Case(loss, slow_feature_match, "head")
        loss = CodebookLoss(codebooks=2, entries=ENTRIES, delay_frames=delay)
        table[f"codebook{after}"] = Case(loss, slow_codebook, "head")
        for frames, heat, weights in (("all", 1.0, (1.0, 1.0)), ("nonblank", 2.5, (0.3, 2.0))):
            counted = {"frames": frames, "delay_frames": delay}
            loss = SkdLoss(temperature=heat, **counted)
            table[f"skd at {heat}, {frames}{after}"] = Case(loss, framewise(skd_of_frame))
            loss = FactoredKlLoss(blank=weights[0], tokens=weights[1], **counted)
            table[f"factored_kl, {frames}{after}"] = Case(loss, framewise(factored_of_frame))
    table |= {f"essence {key}": Case(loss, framewise(essence_of_frame)) for key, loss in essences().items()}
    table["nbest"] = Case(NbestLoss(size=3, beam_width=64), slow_nbest)
    table["1-best"] = Case(NbestLoss(size=1, beam_width=64), slow_nbest)
    table["peak_first"] = Case(PeakFirstLoss(), slow_peak_first, smooth=False)
    return table


def essences() -> dict[str, EssenceLoss]:
    found = {"later": EssenceLoss(top_k=2, delay_frames=1), "spikes": EssenceLoss(top_k=2, frames="nonblank")}
    kept: list[dict[str, Any]] = [{"top_k": 1}, {"top_k": 3}, {"mass": 0.6}, {"top_k": 2, "mass": 0.9}]
    for which, renormalise in itertools.product(kept, ("none", "prob", "logit", "tail")):
        heat = 1.7 if renormalise == "logit" else 1.0
        found[f"{which} {renormalise}"] = EssenceLoss(renormalise=renormalise, temperature=heat, **which)
    return found


CASES = cases()
NAMES = pytest.mark.parametrize("name", CASES)


def given(signals: Signals, case: Case) -> Signals:
    """What this loss is given: codebooks have a head of another size, and centroids."""
    if not isinstance(case.loss, CodebookLoss):
        return signals
    centroids = drawn(case.loss.codebooks, ENTRIES, WIDTH, seed=6)
    head = drawn(ITEMS, FRAMES, case.loss.codebooks * ENTRIES, seed=7)
    return replace(signals, head=head, fitted={"centroids": centroids})


def doubled(signals: Signals) -> Signals:
    teacher = TeacherSignals(signals.teacher.log_probs.double(), tuple(h.double() for h in signals.teacher.hidden))
    fitted = {name: part.double() for name, part in signals.fitted.items()}
    return replace(
        signals, log_probs=signals.log_probs.double(), head=signals.head.double(), teacher=teacher, fitted=fitted
    )


def with_gradient(
    function: Callable[[Signals], torch.Tensor], signals: Signals, leaf: str, *, scores: bool = False
) -> tuple[Any, Any]:
    """Value, and gradient at the leaf, or at scores that a softmax makes it from.

    PyTorch's CTC gives the gradient for the latter, which differs at log-probabilities by what a softmax takes out.
    """
    values = getattr(signals, leaf).detach().clone().requires_grad_()
    given = values.log_softmax(dim=2) if scores and leaf == "log_probs" else values
    result = function(replace(signals, **{leaf: given}))
    return result.detach(), torch.autograd.grad(result, values)[0]


def item_of(signals: Signals, item: int) -> Signals:
    """One item without its padding."""
    frames, labels = int(signals.frame_lens[item]), max(1, int(signals.label_lens[item]))
    one = slice(item, item + 1)
    return replace(
        signals,
        log_probs=signals.log_probs[one, :frames],
        head=signals.head[one, :frames],
        teacher=TeacherSignals(
            signals.teacher.log_probs[one, :frames], tuple(block[one, :frames] for block in signals.teacher.hidden)
        ),
        frame_lens=signals.frame_lens[one],
        labels=signals.labels[one, :labels],
        label_lens=signals.label_lens[one],
    )


def spoilt(signals: Signals, garbage: float) -> Signals:
    """The same with garbage in every frame, and other labels, behind the end of each item."""
    padding = torch.arange(FRAMES)[None, :] >= signals.frame_lens[:, None]

    def fill(frames: torch.Tensor) -> torch.Tensor:
        return frames.masked_fill(padding[:, :, None], garbage)

    behind = torch.arange(signals.labels.shape[1])[None, :] >= signals.label_lens[:, None]
    return replace(
        signals,
        log_probs=fill(signals.log_probs),
        head=fill(signals.head),
        teacher=TeacherSignals(fill(signals.teacher.log_probs), tuple(map(fill, signals.teacher.hidden))),
        labels=signals.labels.masked_fill(behind, 3),
    )


@NAMES
def test_value_and_gradient_are_those_of_the_slow_reference(name, signals):
    case = CASES[name]
    signals = given(signals, case)
    value, gradient = with_gradient(case.loss, signals, case.leaf, scores=True)
    expected, slope = with_gradient(lambda these: case.slow(these, case.loss), doubled(signals), case.leaf, scores=True)
    assert value.dtype == torch.float32
    assert slope.abs().max() > 1e-3
    torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient.double(), slope, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.smooth and "later" not in name])
def test_gradient_is_the_derivative(name, signals):
    """Float32 inside keeps the differences coarse."""
    case = CASES[name]
    signals = given(signals, case)
    values = getattr(signals, case.leaf).double().requires_grad_()

    def value(leaf: torch.Tensor) -> torch.Tensor:
        said = leaf.log_softmax(dim=2) if case.leaf == "log_probs" else leaf
        return case.loss(replace(signals, **{case.leaf: said})).double()

    assert gradcheck(value, (values,), eps=2e-3, atol=5e-3, rtol=2e-2, fast_mode=True)


@NAMES
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -3.0])
def test_padding_never_counts(name, garbage, signals):
    case = CASES[name]
    signals = given(signals, case)
    value, gradient = with_gradient(case.loss, signals, case.leaf)
    found, slope = with_gradient(case.loss, spoilt(signals, garbage), case.leaf)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(slope, gradient)
    for item, length in enumerate(LENS):
        assert not gradient[item, length:].any()


@NAMES
def test_a_batch_is_its_items(name, signals):
    case = CASES[name]
    signals = given(signals, case)
    total, count = 0.0, 0
    for item in range(ITEMS):
        alone = item_of(signals, item)
        number = labels_that_count(alone, case.loss) if case.per_label else int(alone.frame_lens)
        total, count = total + float(case.loss(alone)) * number, count + number
    assert float(case.loss(signals)) == pytest.approx(total / count, rel=1e-5)


def labels_that_count(signals: Signals, loss: TokenKlLoss) -> int:
    from kdcompress.losses.token_kl import pool_labels

    reference = (signals.frame_lens, signals.labels, signals.label_lens)
    options = {"blank_id": BLANK, "blank_penalty": loss.blank_penalty, "delay_frames": loss.delay_frames}
    return len(pool_labels(signals.log_probs, signals.teacher.log_probs, *reference, **options).targets)


@NAMES
def test_extreme_inputs_give_finite_numbers(name, signals):
    """A teacher that excludes all but one token, a student that is quite sure of something else, huge features."""
    case = CASES[name]
    signals = given(signals, case)
    sure = torch.full((ITEMS, FRAMES, TOKENS), -torch.inf)
    for item, text in enumerate(TEXTS):
        path = ([BLANK] + [part for token in text for part in (token, BLANK)] + [BLANK] * FRAMES)[-FRAMES - len(text) :]
        sure[item, range(FRAMES), path[:FRAMES]] = 0.0
    hidden = tuple(1e4 * block for block in signals.teacher.hidden)
    extreme = replace(
        signals,
        log_probs=(300 * drawn(ITEMS, FRAMES, TOKENS, seed=8)).log_softmax(dim=2),
        head=1e4 * signals.head,
        teacher=TeacherSignals(sure, hidden),
    )
    for these in (extreme, replace(extreme, frame_lens=torch.ones(ITEMS, dtype=torch.int64))):
        value, gradient = with_gradient(case.loss, these, case.leaf)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@NAMES
def test_the_teacher_gets_no_gradient_and_nothing_is_changed(name, signals):
    case = CASES[name]
    signals = given(signals, case)
    teacher = TeacherSignals(
        signals.teacher.log_probs.clone().requires_grad_(),
        tuple(block.clone().requires_grad_() for block in signals.teacher.hidden),
    )
    leaf = getattr(signals, case.leaf).clone().requires_grad_()
    before = [part.detach().clone() for part in (leaf, teacher.log_probs, *teacher.hidden)]
    case.loss(replace(signals, teacher=teacher, **{case.leaf: leaf})).backward()
    assert leaf.grad.abs().max() > 0
    assert all(part.grad is None for part in (teacher.log_probs, *teacher.hidden))
    for part, old in zip((leaf, teacher.log_probs, *teacher.hidden), before, strict=True):
        assert torch.equal(part.detach(), old)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if hasattr(case.loss, "delay_frames")])
def test_a_delay_longer_than_the_input_leaves_nothing(name, signals):
    case = CASES[name]
    value, gradient = with_gradient(
        case.loss.model_copy(update={"delay_frames": FRAMES + 2}), given(signals, case), case.leaf
    )
    assert value == 0
    assert not gradient.any()


# ---- what is particular to each


def test_a_student_that_agrees_has_nothing_to_learn(signals):
    same = replace(signals, log_probs=signals.teacher.log_probs, head=signals.teacher.hidden[-1])
    for loss in (TokenKlLoss(), DelayTolerantLoss(), DelayTolerantLoss(per="utterance"), FeatureMatchLoss()):
        assert float(loss(same)) == pytest.approx(0, abs=1e-5), loss.key
    assert float(FeatureMatchLoss(distance="cosine")(replace(same, head=7 * same.head))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_a_student_that_is_late_by_a_constant_is_forgiven(delay, signals):
    said = signals.teacher.log_probs
    late = replace(signals, log_probs=torch.cat([signals.log_probs[:, :delay], said[:, : FRAMES - delay]], dim=1))
    long = replace(late, frame_lens=torch.full((ITEMS,), FRAMES))
    assert float(DelayTolerantLoss(per="utterance")(long)) == pytest.approx(0, abs=1e-5)
    fixed = FrameKlLoss(delay_frames=delay)(signals)
    assert float(DelayTolerantLoss(per="utterance", delay_frames=delay, max_delay=0)(signals)) == pytest.approx(
        float(fixed), rel=1e-5
    )
    assert float(DelayTolerantLoss(delay_frames=delay)(signals)) <= float(fixed)


def test_frames_may_disagree_about_the_delay_but_an_utterance_may_not(signals):
    """Spikes at 1 and 3; the student has them at 1 and 4."""
    teacher = torch.full((1, FRAMES, TOKENS), -9.0)
    teacher[..., BLANK] = 0
    teacher[0, 1, 2] = teacher[0, 3, 4] = 9
    student = teacher[:, [0, 1, 2, 2, 3, 5]].log_softmax(dim=2)
    one = replace(
        signals,
        log_probs=student,
        teacher=TeacherSignals(teacher.log_softmax(dim=2)),
        frame_lens=torch.tensor([FRAMES]),
    )
    assert float(DelayTolerantLoss(max_delay=1)(one)) == pytest.approx(0, abs=1e-3)
    assert float(DelayTolerantLoss(max_delay=1, per="utterance")(one)) > 1


def test_items_that_the_teacher_cannot_align_are_not_taught_silence(signals):
    """Three labels in two frames: their occupancy is zero, which must not be read as blank."""
    labels = torch.full((ITEMS, 3), 2)
    impossible = replace(signals, labels=labels, label_lens=torch.tensor([1, 1, 3, 1]))
    for loss in (OccupancyCtcLoss(), TokenKlLoss()):
        value, gradient = with_gradient(loss, impossible, "log_probs")
        assert not gradient[2].any()
        assert gradient[0].any()
        without = replace(impossible, label_lens=torch.tensor([1, 1, 0, 1]))
        if loss.kind == "token_kl":
            torch.testing.assert_close(value, loss(without))
    nothing = replace(impossible, label_lens=torch.full((ITEMS,), 9), labels=torch.full((ITEMS, 9), 2))
    for loss in (OccupancyCtcLoss(), TokenKlLoss()):
        value, gradient = with_gradient(loss, nothing, "log_probs")
        assert value == 0
        assert not gradient.any()


def test_token_kl_of_two_tokens(signals):
    """Blank and one label: no rest, no classes."""
    narrow = replace(
        signals,
        log_probs=signals.log_probs[..., :2].log_softmax(dim=2),
        teacher=TeacherSignals(signals.teacher.log_probs[..., :2].log_softmax(dim=2)),
        labels=torch.zeros_like(signals.labels),
        label_lens=torch.tensor([2, 1, 1, 0]),
    )
    value, gradient = with_gradient(TokenKlLoss(), narrow, "log_probs")
    assert value > 0
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(value, TokenKlLoss(classes=0)(narrow))


def test_token_kl_does_not_mind_where_the_spike_is(signals):
    """The teacher is soft over two frames; a student with the same mass in the other order is as good."""
    teacher = torch.full((1, 4, TOKENS), 0.02).double()
    teacher[0, :, BLANK] = 0.92
    teacher[0, 1] = teacher[0, 2] = torch.tensor([0.1, 0.3, 0.5, 0.05, 0.05])
    early, late = teacher.clone(), teacher.clone()
    early[0, 1, [1, 2]], early[0, 2, [1, 2]] = torch.tensor([0.1, 0.7]).double(), torch.tensor([0.5, 0.3]).double()
    late[0, 1], late[0, 2] = early[0, 2], early[0, 1]
    one = replace(
        signals,
        teacher=TeacherSignals(teacher.log().float()),
        frame_lens=torch.tensor([4]),
        labels=torch.tensor([[2]]),
        label_lens=torch.tensor([1]),
    )
    values = [float(TokenKlLoss()(replace(one, log_probs=said.log().float()))) for said in (early, late)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert values[0] < 0.05 * float(TokenKlLoss()(replace(one, log_probs=drawn(1, 4, TOKENS, seed=1).log_softmax(2))))


def test_best_hypotheses_are_the_most_probable_texts(signals):
    found = best_hypotheses(signals.teacher.log_probs, signals.frame_lens, size=3, beam_width=64, blank_id=BLANK)
    for item, length in enumerate(LENS):
        mine = (found.items == item).nonzero()[:, 0]
        expected = slow_best(signals.teacher.log_probs[item, :length].double(), 3)
        assert [tuple(found.labels[row, : found.label_lens[row]].tolist()) for row in mine] == list(expected)
        assert found.weights[mine].tolist() == pytest.approx(list(expected.values()), rel=1e-3)


def test_hypotheses_too_long_or_empty(signals):
    short = signals.frame_lens[2:3]
    scores = signals.log_probs[2:3].clone().requires_grad_()
    said = scores.log_softmax(dim=2)
    rows = torch.tensor([[2, 2, 0], [0, 0, 0], [3, 2, 4]])
    hypotheses = Hypotheses(torch.zeros(3, dtype=torch.int64), rows, torch.tensor([2, 0, 3]), torch.full((3,), 1 / 3))
    value = nbest(said, short, hypotheses, BLANK)
    expected = -said[0, :2, BLANK].sum() / 3 / 2
    torch.testing.assert_close(value, expected)
    slopes = [torch.autograd.grad(part, scores, retain_graph=True)[0] for part in (value, expected)]
    torch.testing.assert_close(*slopes)
    silent = torch.full((1, 4, TOKENS), -30.0)
    silent[..., BLANK] = 0
    found = best_hypotheses(silent, torch.tensor([4]), blank_id=BLANK)
    assert found.label_lens[0] == 0
    assert found.weights.sum() == pytest.approx(1)


def test_settings_that_contradict_each_other():
    with pytest.raises(ValueError, match="a beam_width of 2 cannot hold 3 texts"):
        NbestLoss(size=3, beam_width=2)
    with pytest.raises(ValueError, match="nonblank"):
        GuidedCtcLoss(frames="all")


def test_features_of_another_width_are_refused(signals):
    with pytest.raises(ValueError, match=r"\(4, 6, 3\) and teacher \(4, 6, 4\) differ"):
        FeatureMatchLoss()(replace(signals, head=signals.head[..., :3]))


def test_peak_first_pulls_to_the_left(signals):
    """A spike on frame 3: an update raises its token on frame 2 and lowers it on frame 3, whose next frame is blank."""
    scores = torch.zeros(1, 6, TOKENS)
    scores[0, :, BLANK] = 4
    scores[0, 3, 2] = 8
    one = replace(signals, log_probs=scores, frame_lens=torch.tensor([6]))
    _, gradient = with_gradient(PeakFirstLoss(), one, "log_probs", scores=True)
    assert gradient[0, 2, 2] < -0.1
    assert gradient[0, 3, 2] > 0.1
    assert gradient[0, [0, 1, 4, 5]].abs().max() < 1e-6
    assert float(PeakFirstLoss()(replace(one, frame_lens=torch.tensor([1])))) == 0
