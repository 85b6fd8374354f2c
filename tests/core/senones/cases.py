"""Small worlds: frames drawn from Gaussians by context, and phones without a lexicon."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdcompress.units import Inventory, Spelled
from kdcompress.units.senones.moments import Statistics, statistics_of

PHONES = ("AH", "B", "D", "IY", "M", "S", "T")


class Letters(Inventory):
    """Words are written in phones with dashes between: ``AH-B``."""

    kind = "letters"

    def __init__(self, symbols: tuple[str, ...] = PHONES) -> None:
        self.symbols = symbols

    def spell(self, text: str, where: str = "text") -> Spelled:
        del where
        words = [word.split("-") for word in text.split()]
        ids = [self.symbols.index(phone) for word in words for phone in word]
        return Spelled(tuple(ids), tuple(place for place, word in enumerate(words) for _ in word))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": list(self.symbols)}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> Letters:
        del source
        return cls(tuple(content["symbols"]))


def random_rows(
    rng: np.random.Generator, contexts: int = 150, states: int = 1, dim: int = 3, phones: tuple[str, ...] = PHONES
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Contexts, visits, moments, and the frames themselves; means follow the neighbours, so that asking pays."""
    silence = len(phones)
    around = rng.integers(0, silence + 1, (contexts, 3))
    around[:, 1] = rng.integers(0, silence, contexts)
    keys = np.concatenate([around, rng.integers(0, states, (contexts, 1))], axis=1)
    shift = rng.normal(size=(4, silence + 1, dim)) * np.array([1.0, 2.0, 0.7, 1.5])[:, None, None]
    frames = []
    for key in keys:
        mean = sum(shift[column, value] for column, value in enumerate(key))
        frames.append(rng.normal(mean, 0.5 + 0.1 * key[1], (int(rng.integers(3, 30)), dim)))
    moments = np.array([moments_of(part) for part in frames])
    return keys, np.ones(contexts), moments, frames


def moments_of(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([[len(frames)], frames.sum(axis=0), (frames**2).sum(axis=0)])


def random_statistics(seed: int = 0, states: int = 1, contexts: int = 150) -> Statistics:
    keys, visits, moments, _ = random_rows(np.random.default_rng(seed), contexts, states)
    return statistics_of(PHONES, states, keys, visits, moments)
