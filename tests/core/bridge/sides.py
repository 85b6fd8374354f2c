"""Students, teachers and their answers, made by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from kdcompress.bridge import StudentSide
from kdcompress.teachers.teacher import Said, TeacherInfo
from kdcompress_runtime.vocabulary import Vocabulary

MS = Fraction(1, 1000)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def vocabulary(*symbols: str) -> Vocabulary:
    return Vocabulary.from_symbols(symbols)


CHARACTERS = vocabulary("'", *LETTERS, "▁")


def student(tokens=CHARACTERS, units="characters", *, frame_ms=40, rate=16000, lookahead=None) -> StudentSide:
    return StudentSide(tokens, units, frame_ms * MS, rate, lookahead)


def teacher(tokens=CHARACTERS, units="characters", *, frame_ms=40, rate=16000, **more) -> TeacherInfo:
    settings = {"gives": frozenset({"log_probs", "hidden"}), **more}
    return TeacherInfo(
        source=Path("runs/teacher"),
        name="teacher",
        kind="bundle",
        fingerprint="0",
        vocabulary=tokens,
        units=units,
        frame=frame_ms * MS,
        sample_rate=rate,
        **settings,
    )


def random_log_probs(*shape: int, seed: int = 1, sharpness: float = 2.0) -> torch.Tensor:
    scores = sharpness * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return scores.log_softmax(dim=-1)


def said(log_probs=None, lens=None, **more) -> Said:
    """An answer; all frames are valid unless told."""
    first = log_probs if log_probs is not None else next(value for value in more.values() if value is not None)
    first = first[0] if isinstance(first, tuple) and isinstance(first[0], torch.Tensor) else first
    lens = [first.shape[1]] * len(first) if lens is None else lens
    return Said(torch.tensor(lens), log_probs, **more)


def path_log_probs(paths: list[list[int]], size: int, *, sure: float = 1.0) -> torch.Tensor:
    """Log-probabilities whose best tokens are the paths; padded with NaN, which must not be read."""
    found = torch.full((len(paths), max(map(len, paths)), size), torch.nan)
    for item, path in enumerate(paths):
        found[item, : len(path)] = (1 - sure) / (size - 1)
        found[item, torch.arange(len(path)), torch.tensor(path)] = sure
    return found.log()


def collapsed(log_probs: torch.Tensor, length: int, tokens: Vocabulary) -> str:
    """Greedy text of one item."""
    best = log_probs[:length].argmax(dim=1).tolist()
    ids = [token for before, token in zip([None, *best], best, strict=False) if token != before]
    return tokens.text(token for token in ids if token != tokens.blank_id)
