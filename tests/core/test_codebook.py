"""Residual k-means: the same from the same seed, and it finds what is there."""

from __future__ import annotations

import itertools

import torch

from kdcompress.losses.codebook import encode, fit_codebooks


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_codebooks_follow_from_the_seed_and_find_clusters():
    centres = torch.tensor([[10.0, 0], [0, 10], [-10, 0], [0, -10]])
    fine = torch.tensor([[1.0, 1], [-1, 1], [1, -1]])
    which = torch.randint(4, (600,), generator=torch.Generator().manual_seed(1))
    detail = torch.randint(3, (600,), generator=torch.Generator().manual_seed(2))
    frames = centres[which] + fine[detail] + 0.01 * drawn(600, 2, seed=3)
    first, again, other = (fit_codebooks(frames, 2, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (2, 4, 2)
    for books in (first, other):
        codes = encode(frames, books)
        assert len({(int(a), int(b)) for a, b in zip(which, codes[:, 0], strict=True)}) == 4
        rebuilt = sum(book[codes[:, index]] for index, book in enumerate(books))
        assert float((rebuilt - frames).norm(dim=1).mean()) < 0.6


def test_more_entries_than_frames():
    frames = drawn(3, 2, seed=1)
    books = fit_codebooks(frames, 2, 5)
    assert torch.isfinite(books).all()
    rebuilt = sum(book[code] for book, code in zip(books, encode(frames, books).T, strict=True))
    torch.testing.assert_close(rebuilt, frames)


def test_every_codebook_lessens_what_is_left():
    frames = drawn(500, 6, seed=1)
    books = fit_codebooks(frames, 4, 8)
    codes = encode(frames, books)
    left = [frames.norm()]
    for index in range(4):
        frames = frames - books[index][codes[:, index]]
        left.append(frames.norm())
    assert all(after < 0.95 * before for before, after in itertools.pairwise(left))
