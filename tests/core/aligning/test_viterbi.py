"""Viterbi against the enumeration of every path."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.aligning.viterbi import best_paths

BLANK = 0


def log_probs(*shape: int, seed: int = 1) -> torch.Tensor:
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).log_softmax(dim=-1)


def slow_score(frames: torch.Tensor, labels: tuple[int, ...], blank: int = BLANK) -> float:
    """Log-probability of the best of all paths that spell ``labels``; minus infinity for none."""
    found = -float("inf")
    rows = frames.double().tolist()
    for path in itertools.product(range(frames.shape[1]), repeat=len(rows)):
        if tuple(token for token, _ in itertools.groupby(path) if token != blank) == labels:
            found = max(found, sum(row[token] for row, token in zip(rows, path, strict=True)))
    return found


def alone(frames: torch.Tensor, labels: tuple[int, ...], blank: int = BLANK):
    padded = torch.tensor([labels], dtype=torch.int64).reshape(1, len(labels))
    found = best_paths(frames[None], torch.tensor([len(frames)]), padded, torch.tensor([len(labels)]), blank)
    return found.states[0], float(found.scores[0]), bool(found.fits[0])


def check_path(states: torch.Tensor, frames: torch.Tensor, labels: tuple[int, ...], score: float, blank: int) -> None:
    """The path goes through all labels in order, is one of CTC, and has the score."""
    path = [blank if state < 0 else labels[state] for state in states.tolist()]
    assert tuple(token for token, _ in itertools.groupby(path) if token != blank) == labels
    inside = [state for state in states.tolist() if state >= 0]
    assert inside == sorted(inside)
    assert set(inside) == set(range(len(labels)))
    total = float(sum(frames[t, token].double() for t, token in enumerate(path)))
    assert total == pytest.approx(score, abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 6), labels=st.lists(st.sampled_from([0, 1]), max_size=5), seed=st.integers(0, 99))
def test_no_path_is_better(length, labels, seed):
    frames, reference = log_probs(length, 3, seed=seed), tuple(labels)
    states, score, fits = alone(frames, reference, blank=2)
    expected = slow_score(frames, reference, blank=2)
    assert fits == (expected > -float("inf"))
    assert score == pytest.approx(expected, abs=1e-4)
    if fits:
        check_path(states, frames, reference, score, 2)
    else:
        assert states.tolist() == [-1] * length


@pytest.mark.parametrize("labels", [(1, 1), (1, 1, 1), (2, 2, 1), (1, 2, 1, 2)])
def test_equal_labels_have_a_blank_between(labels):
    frames = log_probs(6, 3, seed=sum(labels))
    frames[:, BLANK] = -50.0
    states, score, fits = alone(frames, labels)
    assert fits
    check_path(states, frames, labels, score, BLANK)
    assert score == pytest.approx(slow_score(frames, labels), abs=1e-4)


@pytest.mark.parametrize(("frames", "labels"), [(1, (1, 2)), (2, (1, 1)), (3, (1, 1, 2)), (4, (1, 1, 1))])
def test_a_text_that_is_longer_than_the_input_does_not_fit(frames, labels):
    states, score, fits = alone(log_probs(frames, 3), labels)
    assert (fits, score) == (False, -float("inf"))
    assert (states == -1).all()


@pytest.mark.parametrize("width", [0, 2])
def test_an_empty_text_is_all_blank(width):
    frames = log_probs(2, 4, 3)
    labels = torch.zeros(2, width, dtype=torch.int64)
    found = best_paths(frames, torch.tensor([4, 2]), labels, torch.tensor([0, 0]))
    assert found.fits.all()
    assert (found.states == -1).all()
    torch.testing.assert_close(found.scores, torch.stack([frames[0, :, 0].sum(), frames[1, :2, 0].sum()]))


def test_inputs_without_frames():
    lens, labels = torch.tensor([0, 0, 3]), torch.tensor([[1], [0], [1]])
    found = best_paths(log_probs(3, 3, 2), lens, labels, torch.tensor([1, 0, 1]))
    assert found.fits.tolist() == [False, True, True]
    assert float(found.scores[1]) == 0
    none = best_paths(log_probs(2, 0, 3), lens[:2], labels[:2], torch.tensor([1, 0]))
    assert none.states.shape == (2, 0)
    assert none.fits.tolist() == [False, True]
    assert best_paths(log_probs(0, 4, 3), lens[:0], labels[:0], lens[:0]).states.shape == (0, 4)


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf, 0.0])
def test_padding_never_counts(garbage):
    lens, labels = (9, 5, 3, 1), ((1, 2, 2, 3), (3, 3), (), (1, 2))
    frames, padded = torch.full((4, 9, 4), garbage), torch.full((4, 6), -7)
    for item, (length, text) in enumerate(zip(lens, labels, strict=True)):
        frames[item, :length] = log_probs(length, 4, seed=item)
        padded[item, : len(text)] = torch.tensor(text)
    found = best_paths(frames, torch.tensor(lens), padded, torch.tensor([len(text) for text in labels]))
    for item, (length, text) in enumerate(zip(lens, labels, strict=True)):
        states, score, fits = alone(frames[item, :length], text)
        assert found.states[item, :length].tolist() == states.tolist()
        assert (found.states[item, length:] == -1).all()
        assert float(found.scores[item]) == pytest.approx(score, abs=1e-5)
        assert bool(found.fits[item]) == fits


def test_impossible_frames_forbid_a_path():
    frames = torch.full((4, 3), -torch.inf)
    for t, token in enumerate((0, 1, 1, 2)):
        frames[t, token] = 0.0
    states, score, fits = alone(frames, (1, 2))
    assert (states.tolist(), score, fits) == ([-1, 0, 0, 1], 0.0, True)
    assert not alone(frames, (2, 1))[2]


def test_no_gradient_and_no_change_of_what_came_in():
    frames, labels = log_probs(1, 5, 3).requires_grad_(), torch.tensor([[1, 2]])
    before = frames.detach().clone()
    found = best_paths(frames, torch.tensor([5]), labels, torch.tensor([2]))
    assert not found.scores.requires_grad
    assert torch.equal(frames.detach(), before)
    assert labels.tolist() == [[1, 2]]
    half = best_paths(frames.detach().half(), torch.tensor([5]), labels, torch.tensor([2]))
    assert half.scores.dtype == torch.float32
