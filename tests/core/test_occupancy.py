"""Forward-backward against the enumeration of every path."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kdcompress.occupancy import label_occupancy, pooled_over_labels


def log_probs(*shape: int, seed: int = 1, sharpness: float = 1.5) -> torch.Tensor:
    scores = sharpness * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return scores.log_softmax(dim=-1)


def slow_occupancy(frames: torch.Tensor, labels: tuple[int, ...], blank: int = 0) -> torch.Tensor:
    """Share of the probability of all paths for ``labels`` in which frame t belongs to label u; ``(T, U)`` float64."""
    probabilities = frames.double().exp().tolist()
    total, found = 0.0, torch.zeros(len(probabilities), len(labels), dtype=torch.float64)
    for path in itertools.product(range(frames.shape[1]), repeat=len(probabilities)):
        if tuple(token for token, _ in itertools.groupby(path) if token != blank) != labels:
            continue
        probability = math.prod(row[token] for row, token in zip(probabilities, path, strict=True))
        total += probability
        label, before = -1, blank
        for t, token in enumerate(path):
            label += token not in {blank, before}
            before = token
            if token != blank:
                found[t, label] += probability
    return found / total if total else found


def occupancy_of(frames: torch.Tensor, labels: tuple[int, ...], blank: int = 0) -> torch.Tensor:
    padded = torch.tensor([[*labels, 0][: max(1, len(labels))]])
    found = label_occupancy(frames[None], torch.tensor([len(frames)]), padded, torch.tensor([len(labels)]), blank)
    return found[0, :, : len(labels)]


@pytest.mark.parametrize("labels", [(1,), (2, 1), (1, 1), (2, 2, 1), (1, 1, 1), (1, 2, 1, 2), (2, 1, 2, 1, 2)])
def test_every_path_counts_by_its_probability(labels):
    frames = log_probs(5, 3, seed=len(labels))
    expected = slow_occupancy(frames, labels)
    assert expected.sum(dim=0).min() >= 1 - 1e-9
    torch.testing.assert_close(occupancy_of(frames, labels).double(), expected, atol=1e-5, rtol=1e-4)


def test_another_blank():
    frames = log_probs(5, 3)
    torch.testing.assert_close(
        occupancy_of(frames, (0, 0), blank=2).double(), slow_occupancy(frames, (0, 0), blank=2), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(("frames", "labels"), [(1, (1,)), (2, (2, 1)), (3, (1, 1)), (1, ())])
def test_a_reference_that_just_fits(frames, labels):
    found = occupancy_of(log_probs(frames, 3), labels)
    torch.testing.assert_close(found.double(), slow_occupancy(log_probs(frames, 3), labels), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("width", [0, 1, 3])
def test_an_empty_reference_has_no_occupancy(width):
    labels = torch.zeros(2, width, dtype=torch.int64)
    found = label_occupancy(log_probs(2, 4, 3), torch.tensor([4, 2]), labels, torch.tensor([0, 0]))
    assert found.shape == (2, 4, width)
    assert not found.any()


@pytest.mark.parametrize("labels", [(1, 2, 1), (1, 1)])
def test_an_item_that_does_not_fit_is_empty_and_leaves_the_others_alone(labels):
    frames, fits = log_probs(2, 2, 3), log_probs(2, 5, 3, seed=3)
    both = torch.zeros(2, 5, 3)
    both[0, :2], both[1] = frames[0], fits[1]
    padded = torch.zeros(2, 3, dtype=torch.int64)
    padded[0, : len(labels)], padded[1, :2] = torch.tensor(labels), torch.tensor([2, 1])
    found = label_occupancy(both, torch.tensor([2, 5]), padded, torch.tensor([len(labels), 2]))
    assert not found[0].any()
    torch.testing.assert_close(found[1, :, :2].double(), slow_occupancy(fits[1], (2, 1)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf, 0.0])
def test_padding_never_counts(garbage):
    lens, labels, label_lens = (5, 3, 1), ((1, 1), (2,), (1,)), torch.tensor([2, 1, 1])
    frames = log_probs(3, 5, 3)
    for item, length in enumerate(lens):
        frames[item, length:] = garbage
    padded = torch.tensor([[1, 1], [2, 1], [1, 2]])
    found = label_occupancy(frames, torch.tensor(lens), padded, label_lens)
    for item, length in enumerate(lens):
        expected = torch.zeros(5, 2, dtype=torch.float64)
        expected[:length, : len(labels[item])] = slow_occupancy(frames[item, :length], labels[item])
        torch.testing.assert_close(found[item].double(), expected, atol=1e-5, rtol=1e-4)


def test_a_teacher_that_is_quite_sure():
    """Minus infinity on every token but one: the occupancy is the path itself, or nothing if that is another text."""
    frames = torch.full((4, 3), -torch.inf)
    for t, token in enumerate((0, 1, 1, 2)):
        frames[t, token] = 0.0
    expected = torch.tensor([[0.0, 0], [1, 0], [1, 0], [0, 1]])
    torch.testing.assert_close(occupancy_of(frames, (1, 2)), expected)
    assert not occupancy_of(frames, (2, 1)).any()


def test_no_gradient_and_no_change_of_what_came_in():
    frames = log_probs(1, 4, 3).requires_grad_()
    before = frames.detach().clone()
    found = label_occupancy(frames, torch.tensor([4]), torch.tensor([[1, 2]]), torch.tensor([2]))
    assert not found.requires_grad
    assert frames.grad is None
    assert torch.equal(frames.detach(), before)
    with torch.no_grad():
        assert torch.equal(label_occupancy(frames, torch.tensor([4]), torch.tensor([[1, 2]]), torch.tensor([2])), found)


def test_pooling_is_the_weighted_average():
    values, weights = torch.randn(2, 5, 3), torch.rand(2, 5, 4)
    weights[1, :, 2] = 0
    found = pooled_over_labels(values, weights)
    for item, label in itertools.product(range(2), range(4)):
        share = weights[item, :, label].double()
        expected = (share[:, None] * values[item].double()).sum(dim=0) / share.sum().clamp(min=1e-30)
        torch.testing.assert_close(found[item, label].double(), expected, atol=1e-6, rtol=1e-5)
    assert not found[1, 2].any()
