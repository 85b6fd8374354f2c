"""Losses that learn from language models: distributions on the frames of their units."""

from __future__ import annotations

import math

import pytest
import torch

from kdcompress.losses import LabelInterpolationLoss, LmHeadLoss, RepresentationLoss
from kdcompress.losses.base import Shapes, Signals, UnitShape, UnitTargets
from kdcompress.losses.representation import attend, integrate_and_fire
from kdcompress.losses.unit_targets import cross_entropy, entropy, placed, tempered
from kdcompress.network import Outputs

N, T, U, V, D = 3, 12, 4, 6, 5
FRAME_LENS = torch.tensor([12, 9, 7])
UNIT_LENS = torch.tensor([4, 3, 2])


def targets(top_k: int = V, *, with_tokens: bool = False, seed: int = 0) -> UnitTargets:
    generator = torch.Generator().manual_seed(seed)
    log_probs, ids = torch.randn(N, U, V, generator=generator).log_softmax(dim=2).topk(top_k, dim=2)
    frames = torch.tensor(
        [
            [-1, 0, 0, 1, 1, -1, 2, 2, 3, 3, 3, -1],
            [0, 0, 1, 1, -1, 2, 2, 2, -1, 2, 2, 2],  # what lies behind nine frames is padding
            [-1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ]
    )
    return UnitTargets(
        units=torch.randint(0, V, (N, U), generator=generator),
        unit_lens=UNIT_LENS,
        ids=ids,
        log_probs=log_probs,
        num_units=V,
        frames=frames,
        states=torch.randn(N, U, D, generator=generator),
        tokens=torch.arange(1, V + 1) if with_tokens else None,
    )


def signals(head: torch.Tensor | None = None, said: UnitTargets | None = None, seed: int = 1) -> Signals:
    said = said or targets()
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(N, T, V + 1, generator=generator).log_softmax(dim=2).requires_grad_()
    return Signals(
        log_probs=log_probs,
        hidden=(),
        frame_lens=FRAME_LENS,
        labels=said.units + 1,
        label_lens=UNIT_LENS,
        blank_id=0,
        teacher=None,
        texts={"lm": said},
        head=head,
    )


def dense(said: UnitTargets, item: int, unit: int) -> torch.Tensor:
    """Full distribution of one unit, what is unlisted spread evenly."""
    listed = said.log_probs[item, unit].exp()
    full = torch.full((V,), float((1 - listed.sum()).clamp(min=0)) / max(1, V - len(listed)))
    full[said.ids[item, unit]] = listed
    return full


def slow_head(logits: torch.Tensor, said: UnitTargets, loss: LmHeadLoss) -> torch.Tensor:
    """``LmHeadLoss`` frame by frame, for complete distributions."""
    value = torch.zeros(())
    for item in range(N):
        for frame in range(int(FRAME_LENS[item])):
            heard = frame - loss.delay_frames
            unit = int(said.frames[item, heard]) if heard >= 0 else -1
            if unit < 0:
                continue
            mine = logits[item, frame, :V].log_softmax(dim=0)
            truth = dense(said, item, unit) ** (1 / loss.temperature)
            truth = truth / truth.sum()
            value = value + loss.soft * (truth * (truth.log() - mine)).sum()
            value = value - loss.hard * mine[said.units[item, unit]]
    return value / FRAME_LENS.sum()


@pytest.mark.parametrize(
    "settings",
    [{}, {"hard": 0.5}, {"soft": 0.0, "hard": 1.0}, {"temperature": 2.5}, {"delay_frames": 2}],
    ids=["soft", "both", "hard", "warm", "late"],
)
def test_a_head_learns_what_the_language_model_says_of_the_unit_at_each_frame(settings):
    loss = LmHeadLoss(lm="lm", **settings)
    logits = torch.randn(N, T, V + 1, generator=torch.Generator().manual_seed(3), dtype=torch.float32).requires_grad_()
    said = targets()
    fast, slow = loss(signals(logits, said)), slow_head(logits, said, loss)
    torch.testing.assert_close(fast, slow)
    (mine,) = torch.autograd.grad(fast, logits)
    (other,) = torch.autograd.grad(slow, logits)
    torch.testing.assert_close(mine, other)
    assert not mine[:, :, V].any(), "without CTC the blank of the head learns nothing"
    for item, length in enumerate(FRAME_LENS.tolist()):
        assert not mine[item, length:].any(), "padding has no gradient"


def test_what_is_not_listed_counts_as_one_unit():
    said = targets(top_k=2)
    student = torch.randn(5, V).log_softmax(dim=1)
    ids, kept = said.ids[0, :1].repeat(5, 1), said.log_probs[0, :1].repeat(5, 1)
    teacher = torch.cat([kept[0].exp(), 1 - kept[0].exp().sum()[None]])
    mine = torch.cat([student.gather(1, ids).exp(), (1 - student.gather(1, ids).exp().sum(dim=1))[:, None]], dim=1)
    torch.testing.assert_close(cross_entropy(student, ids, kept), -(teacher * mine.log()).sum(dim=1))
    torch.testing.assert_close(entropy(kept, complete=False), -(teacher * teacher.log()).sum().repeat(5))


def test_what_is_left_to_unlisted_units_is_not_for_blank():
    kept = targets(top_k=2)
    ids, log_probs = kept.ids[0, :1] + 1, kept.log_probs[0, :1]
    student = torch.randn(1, V + 1, generator=torch.Generator().manual_seed(2)).log_softmax(dim=1)
    others = [token for token in range(1, V + 1) if token not in ids[0].tolist()]
    rest = student[0, others].logsumexp(dim=0)
    by_hand = -(log_probs[0].exp() * student[0, ids[0]]).sum() - (1 - log_probs[0].exp().sum()) * rest
    torch.testing.assert_close(cross_entropy(student, ids, log_probs, blank_id=0)[0], by_hand)


def test_a_head_that_says_what_the_language_model_says_has_nothing_to_learn():
    said = targets()
    logits = torch.zeros(N, T, V + 1)
    for item in range(N):
        for frame in range(int(FRAME_LENS[item])):
            if (unit := int(said.frames[item, frame])) >= 0:
                logits[item, frame, :V] = dense(said, item, unit).log()
    assert abs(float(LmHeadLoss(lm="lm")(signals(logits, said)))) < 1e-6


def test_temperature_one_changes_nothing_and_a_high_one_flattens():
    kept = targets(top_k=3).log_probs
    assert tempered(kept, V, 1.0) is kept
    warm = tempered(kept, V, 50.0)
    assert float(warm.exp().max()) < 1 / V + 0.05
    left = 1 - warm.exp().sum(dim=-1)
    torch.testing.assert_close(left, torch.full_like(left, 0.5), atol=0.05, rtol=0)


def test_frames_that_a_delay_moves_past_the_end_are_left_out():
    said = targets()
    early, late = placed(said, said.frames, FRAME_LENS), placed(said, said.frames, FRAME_LENS, 3)
    assert int(late.where.sum()) < int(early.where.sum())
    assert not late.where[:, :3].any()
    assert placed(said, said.frames, FRAME_LENS, T + 5).where.sum() == 0


def test_ctc_alone_teaches_the_units_and_the_path_places_them():
    loss = LmHeadLoss(lm="lm", soft=1.0, ctc=1.0, placement="path")
    said = targets()
    logits = torch.zeros(N, T, V + 1, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        value = loss(signals(logits, said))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    first = float(loss(signals(torch.zeros(N, T, V + 1), said)))
    assert float(value) < first
    assert not loss.needs_alignment


def test_label_interpolation_is_ctc_at_share_zero_and_the_language_model_at_share_one():
    said = targets(with_tokens=True)
    given = signals(said=said)
    nothing = LabelInterpolationLoss(lm="lm", share=0.0)(given)
    expected = (
        torch.nn.functional.ctc_loss(
            given.log_probs.transpose(0, 1), given.labels, FRAME_LENS, UNIT_LENS, reduction="sum"
        )
        / FRAME_LENS.sum()
    )
    torch.testing.assert_close(nothing, expected)
    all_of_it = LabelInterpolationLoss(lm="lm", share=1.0, placement="alignment")(given)
    by_hand = torch.zeros(())
    for item in range(N):
        for frame in range(int(FRAME_LENS[item])):
            if (unit := int(said.frames[item, frame])) >= 0:
                by_hand = by_hand - (dense(said, item, unit) * given.log_probs[item, frame, 1:]).sum()
    torch.testing.assert_close(all_of_it, by_hand / FRAME_LENS.sum())


def test_label_interpolation_follows_the_most_plausible_path():
    said = targets(with_tokens=True)
    log_probs = torch.full((N, T, V + 1), -20.0)
    log_probs[:, :, 0] = 0.0
    spikes = {0: (2, 4, 6, 8), 1: (1, 3, 5), 2: (2, 5)}
    for item, frames in spikes.items():
        for unit, frame in enumerate(frames):
            log_probs[item, frame] = -20.0
            log_probs[item, frame, int(said.units[item, unit]) + 1] = 0.0
    given = signals(said=said)
    given = Signals(**{**vars(given), "log_probs": log_probs.requires_grad_()})
    LabelInterpolationLoss(lm="lm", share=1.0)(given).backward()
    touched = {item: tuple(log_probs.grad[item].abs().sum(dim=1).nonzero()[:, 0].tolist()) for item in range(N)}
    assert touched == spikes


def test_label_interpolation_without_tokens_is_refused():
    with pytest.raises(ValueError, match="student's tokens"):
        LabelInterpolationLoss(lm="lm")(signals())


def test_integrate_and_fire_cuts_the_running_sum_into_pieces_of_one():
    weights = torch.tensor([[0.5, 0.5, 0.25, 0.75, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]])
    vectors = torch.arange(10.0).reshape(2, 5, 1)
    pooled = integrate_and_fire(weights, vectors, torch.tensor([2, 1]), 2)
    torch.testing.assert_close(pooled[0, :, 0], torch.tensor([0.5 * 0 + 0.5 * 1, 0.25 * 2 + 0.75 * 3]))
    torch.testing.assert_close(pooled[1, 0, 0], torch.tensor((5 + 6 + 7) / 3))
    assert not pooled[1, 1].any()


def test_attention_looks_at_valid_frames_alone():
    generator = torch.Generator().manual_seed(0)
    keys, vectors = torch.randn(N, T, 8, generator=generator), torch.randn(N, T, D, generator=generator)
    before = attend(keys, vectors, FRAME_LENS, U)
    for item, length in enumerate(FRAME_LENS.tolist()):
        vectors[item, length:], keys[item, length:] = math.inf, 1e6
    vectors = vectors.masked_fill(vectors.isinf(), 1e9)
    torch.testing.assert_close(attend(keys, vectors, FRAME_LENS, U), before)


@pytest.mark.parametrize("pooling", ["cif", "attention"])
def test_a_representation_moves_towards_the_states_of_the_language_model(pooling):
    loss = RepresentationLoss(lm="lm", pooling=pooling, layer=0)
    shapes = Shapes(num_tokens=V + 1, hidden_dims=(7,), texts={"lm": UnitShape(V, D)})
    torch.manual_seed(0)
    head, hidden = loss.head(shapes), torch.randn(N, T, 7)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    values = []
    for _ in range(40):
        said = head(Outputs(torch.zeros(N, T, V + 1), (hidden,)), FRAME_LENS, torch.zeros(N, U), UNIT_LENS)
        value = loss(signals(said))
        values.append(float(value))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < 0.8 * values[0]


def test_a_language_model_without_states_cannot_be_imitated():
    with pytest.raises(ValueError, match="no states"):
        RepresentationLoss(lm="lm").head(Shapes(num_tokens=3, hidden_dims=(4,), texts={"lm": UnitShape(V)}))


def test_a_head_that_nothing_teaches_is_refused():
    with pytest.raises(ValueError, match="nothing trains"):
        LmHeadLoss(lm="lm", soft=0.0)
    with pytest.raises(ValueError, match="set ctc above zero"):
        LmHeadLoss(lm="lm", placement="path")
