"""What teachers from elsewhere share: they hear plain waveforms, answer in scores, and are not believed unseen."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from kdcompress.errors import TeacherError
from kdcompress.files import file_sha256
from kdcompress.teachers.teacher import Said, Teacher, chosen, repeated
from kdcompress_runtime.vocabulary import BLANK, WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from kdcompress.data.text import Units
    from kdcompress.hearing import Heard
    from kdcompress_runtime.vocabulary import Vocabulary

Scores = Literal["logits", "log_probs", "probabilities"]
"""What a model answers with: any real numbers whose softmax is meant, natural logarithms, or probabilities."""
SUM_ATOL = 1e-3
"""Largest distance from one of the sum of a row of probabilities."""
LEAST_LOG_PROB = math.log(torch.finfo(torch.float32).tiny)
"""In the place of minus infinity, which makes NaN of a divergence."""
LEAST_SECONDS = 0.1
"""Shorter items are continued with zeros: most models fail on less than a frame."""


class ForeignTeacher(Teacher):
    """A teacher that knows nothing of masks and views: it hears each waveform once."""

    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``."""
        batch = heard.at_rate(self.info.sample_rate)
        if items is None:
            return repeated(self.hear(batch.inputs, batch.input_lens), heard.views)
        rows, places = torch.unique(items.to(batch.inputs.device) % len(batch.input_lens), return_inverse=True)
        lens = batch.input_lens[rows]
        return chosen(self.hear(batch.inputs[rows, : int(lens.max())], lens), places)

    @abstractmethod
    def hear(self, inputs: Tensor, input_lens: Tensor) -> Said:
        """Answer for waveforms ``(N, samples)`` float32 in [-1, 1] of which ``input_lens (N,)`` samples are valid.

        Raises:
            TeacherError: the model fails, or its answer is no distribution over its tokens.
        """


def to_log_probs(scores: Tensor, frame_lens: Tensor, kind: Scores, *, tokens: int, source: object) -> Tensor:
    """Turn scores into natural-log probabilities ``(N, T, V)`` float32 that no student is poisoned by.

    Padding becomes uniform, whatever it held.

    Args:
        scores: ``(N, T, V)``.
        frame_lens: valid frames, ``(N,)``.
        kind: what the scores are.
        tokens: V.
        source: name of the teacher, for messages.

    Raises:
        TeacherError: another shape, NaN, infinity, or rows that are not what ``kind`` says.
    """
    shape = tuple(scores.shape)
    if scores.ndim != 3 or shape[2] != tokens or not scores.is_floating_point():
        raise TeacherError(
            f"{source}: answers {scores.dtype} of shape {shape}, expected scores (N, T, {tokens}), one for each token; "
            "give the vocabulary that belongs to the model"
        )
    counts = frame_lens.tolist()
    if len(counts) != shape[0] or not all(0 <= count <= shape[1] for count in counts):
        raise TeacherError(
            f"{source}: says that {counts} frames are valid, in an answer of shape {shape}; the lengths "
            "count output frames, one number an item"
        )
    valid = torch.arange(shape[1], device=scores.device)[None] < frame_lens.to(scores.device)[:, None]
    rows = scores.float()[valid]
    if bool(rows.isnan().any() | (rows == math.inf).any()):
        raise TeacherError(f"{source}: answers NaN or infinity; its weights are damaged, or its arithmetic overflows")
    found = _normalised(rows, kind, source)
    log_probs = torch.full(shape, -math.log(tokens), device=scores.device)
    log_probs[valid] = found.clamp(min=LEAST_LOG_PROB)
    return log_probs


def _normalised(rows: Tensor, kind: Scores, source: object) -> Tensor:
    """Log-probabilities of rows ``(M, V)``."""
    like_probabilities = bool((rows >= 0).all()) and _furthest(rows) <= SUM_ATOL
    if kind == "logits":
        if like_probabilities and len(rows):
            raise TeacherError(
                f"{source}: answers probabilities, where logits were expected; say scores: probabilities"
            )
        found = rows.log_softmax(dim=1)
        if bool(found.isnan().any()):
            raise TeacherError(f"{source}: answers frames in which no token is possible; its weights are damaged")
        return found
    probabilities = rows if kind == "probabilities" else rows.exp()
    furthest = _furthest(probabilities)
    if not furthest <= SUM_ATOL or bool((probabilities < 0).any()):
        raise TeacherError(
            f"{source}: its scores are said to be {kind}, but the probabilities of a frame sum to something else than "
            f"one (off by {furthest:.3g}); say scores: logits if that is what they are"
        )
    return rows.log() if kind == "probabilities" else rows


def _furthest(probabilities: Tensor) -> float:
    """Largest distance from one of the sum of a row."""
    return float((probabilities.double().sum(dim=1) - 1).abs().max()) if len(probabilities) else 0.0


def unpadded(inputs: Tensor, input_lens: Tensor, sample_rate: int | None) -> list[Tensor]:
    """Each item without its padding; audio at least ``LEAST_SECONDS`` long."""
    least = math.ceil((sample_rate or 0) * LEAST_SECONDS)
    items = [row[:length] for row, length in zip(inputs, input_lens.tolist(), strict=True)]
    return [F.pad(item, (0, max(0, least - len(item)))) for item in items]


def side_by_side(parts: Sequence[Tensor], padding: float = 0.0) -> Tensor:
    """Pad items ``(T_i, ...)`` to ``(N, T, ...)``."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=padding)


def rehearsal(sample_rate: int, seconds: Sequence[float]) -> list[Tensor]:
    """Noise that comes and goes, one waveform for each length: what a model is tried with before it is believed."""
    found = []
    for number, length in enumerate(seconds):
        generator = torch.Generator().manual_seed(number)
        samples = round(length * sample_rate)
        swell = (torch.arange(samples) * (2 * math.pi * 3 / sample_rate)).sin()
        found.append(0.1 * swell * torch.randn(samples, generator=generator))
    return found


def guess_units(vocabulary: Vocabulary) -> Units:
    """What one token is, by the spelling: single characters, words that all begin with ``▁``, or else subwords."""
    spelled = [symbol for symbol in vocabulary.symbols if symbol != BLANK and not _is_special(symbol)]
    if all(len(symbol) == 1 for symbol in spelled):
        return "characters"
    if all(symbol.startswith(WORD_SEPARATOR) and len(symbol) > 1 for symbol in spelled):
        return "words"
    return "subwords"


def _is_special(symbol: str) -> bool:
    return len(symbol) > 2 and symbol[0] + symbol[-1] in {"<>", "[]"}


def fingerprint(files: Iterable[Path], settings: Mapping[str, object]) -> str:
    """SHA-256 over the content of files and over settings, whatever folder they are in."""
    content = {"files": sorted((file.name, file_sha256(file)) for file in files), "settings": settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def one_line(error: BaseException) -> str:
    """What a library complains about, short enough for a sentence."""
    return " ".join(str(error).split())[:300] or type(error).__name__
