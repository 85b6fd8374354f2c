"""A second aligner, without CTC: whole-word left-to-right Gaussian HMMs, from a flat start by Viterbi training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress.aligning.viterbi import best_states
from kdcompress.frontend import LogMel, LogMelConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

CEPSTRA, BINS = 13, 30
SILENCE = 0
"""State id of silence; word w has the states ``1 + w * states_a_word`` and on."""
QUIET_SHARE = 0.25
"""Share of the frames of an item that are taken for silence at first."""
FLOOR = 0.05
"""Least variance, as a share of that of all frames."""
AT_ONCE = 64


@dataclass(frozen=True)
class Hmm:
    """States with diagonal Gaussians."""

    means: NDArray[np.float64]
    """``(K, D)``."""
    variances: NDArray[np.float64]
    """``(K, D)``."""

    def scores(self, frames: NDArray[np.float64]) -> torch.Tensor:
        """Log-densities of frames ``(T, D)``: ``(T, K)`` float32."""
        precision = 1 / self.variances
        found = -0.5 * (np.square(frames) @ precision.T - 2 * frames @ (self.means * precision).T)
        constant = -0.5 * (np.square(self.means) * precision + np.log(self.variances)).sum(axis=1)
        return torch.from_numpy((found + constant).astype(np.float32))


def cepstra(samples: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Cepstra and their differences every 10 ms, with mean 0 and variance 1 over the item: ``(T, 3 * 13)``."""
    mel = LogMel(LogMelConfig(sample_rate=sample_rate, num_mel_bins=BINS))
    with torch.no_grad():
        logs = mel(torch.from_numpy(samples)[None])[0].double().numpy()
    angles = np.pi * np.outer(np.arange(CEPSTRA), np.arange(BINS) + 0.5) / BINS
    plain = logs @ np.cos(angles).T
    first = np.gradient(plain, axis=0)
    found = np.concatenate([plain, first, np.gradient(first, axis=0)], axis=1)
    return (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-6)


def align_words(
    items: Sequence[NDArray[np.float64]], words: Sequence[Sequence[int]], *, states: int = 10, rounds: int = 15
) -> list[NDArray[np.int64]]:
    """Fit models to the items themselves and say which frames each word has: ``(words, 2)``, first and last edge.

    Args:
        items: frames of each, ``(T, D)``.
        words: its words, as numbers from 0.
        states: of each word; a word lasts at least so many frames.
        rounds: of Viterbi training.
    """
    count = 1 + states * (1 + max(word for item in words for word in item))
    paths = [_flat_start(frames, item, states) for frames, item in zip(items, words, strict=True)]
    for _ in range(rounds):
        model = _fitted(items, paths, count)
        found = _best(model, items, words, states)
        paths = [path for path, _ in found]
    return [_edges(places, len(item), states) for (_, places), item in zip(found, words, strict=True)]


def _chain(words: Sequence[int], states: int) -> NDArray[np.int64]:
    """States of an item: silence, a word, silence..., ``(1 + words * (states + 1),)``."""
    chain = [[1 + word * states + place for place in range(states)] + [SILENCE] for word in words]
    return np.array([SILENCE, *(state for part in chain for state in part)])


def _flat_start(frames: NDArray[np.float64], words: Sequence[int], states: int) -> NDArray[np.int64]:
    """Quiet frames are silence, the others go through the words evenly."""
    path = np.full(len(frames), SILENCE)
    loud = np.flatnonzero(frames[:, 0] > np.quantile(frames[:, 0], QUIET_SHARE))
    chain = _chain(words, states)
    sounding = chain[chain != SILENCE]
    path[loud] = sounding[np.arange(len(loud)) * len(sounding) // max(1, len(loud))]
    return path


def _fitted(items: Sequence[NDArray[np.float64]], paths: Sequence[NDArray[np.int64]], count: int) -> Hmm:
    frames, states = np.concatenate(items), np.concatenate(paths)
    seen = np.bincount(states, minlength=count)[:, None].clip(min=1)
    sums, squares = np.zeros((count, frames.shape[1])), np.zeros((count, frames.shape[1]))
    np.add.at(sums, states, frames)
    np.add.at(squares, states, np.square(frames))
    means = sums / seen
    return Hmm(means, np.maximum(squares / seen - np.square(means), FLOOR * frames.var(axis=0)))


def _best(
    model: Hmm, items: Sequence[NDArray[np.float64]], words: Sequence[Sequence[int]], states: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Model state and place in the chain of every frame of each item."""
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(items), AT_ONCE):
        part = [torch.from_numpy(_chain(item, states)) for item in words[start : start + AT_ONCE]]
        scores = [model.scores(frames) for frames in items[start : start + AT_ONCE]]
        lens = torch.tensor([len(frames) for frames in scores])
        tokens = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
        skip = torch.zeros(tokens.shape, dtype=torch.bool)
        skip[:, 2:] = tokens[:, 1:-1] == SILENCE  # there need not be silence between words
        last = torch.tensor([len(chain) - 1 for chain in part])
        padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)
        places = best_states(padded, lens, tokens, skip, last).states
        for chain, row, length in zip(part, places, lens.tolist(), strict=True):
            if int(row[0]) < 0:
                raise ValueError("an item is too short for its words")
            place = row[:length]
            found.append((chain[place].numpy(), place.numpy()))
    return found


def _edges(places: NDArray[np.int64], words: int, states: int) -> NDArray[np.int64]:
    first = np.searchsorted(places, 1 + np.arange(words) * (states + 1))
    last = np.searchsorted(places, states + np.arange(words) * (states + 1), side="right")
    return np.stack([first, last], axis=1)
