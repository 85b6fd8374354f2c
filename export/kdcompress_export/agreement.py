"""How far two models, or two ways to run one, agree. Runtime only: no torch, no onnx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_export.errors import ParityError
from kdcompress_export.streams import greedy_text, output_frames, random_pieces, run_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_export.inputs import Units
    from kdcompress_export.streams import Samples
    from kdcompress_runtime.model import CtcModel


@dataclass(frozen=True)
class SplitDifferences:
    """One model, whole against pieces."""

    max_abs_diff: float
    """Largest difference of a log-probability, in nats."""
    texts_equal: bool
    """Whether greedy decoding gave the same text every time."""


@dataclass(frozen=True)
class Agreement:
    """Two models on the same inputs."""

    frames: int
    """Frames compared."""
    mean_abs_diff: float
    """Mean difference of a log-probability, in nats, weighted with the reference's probability."""
    max_abs_diff: float
    """Largest difference of a log-probability that is above -10 nats in the reference."""
    argmax_agreement: float
    """Share of the frames with the same best label."""


def split_differences(model: CtcModel, samples: Samples, *, seed: int, splits: int) -> SplitDifferences:
    """Run a recording whole, frame by frame at its start, and in ``splits`` random cuts.

    Raises:
        ValueError: the model takes whole inputs only; there is nothing to compare.
    """
    rng = np.random.default_rng(seed)
    total = output_frames(samples, model.metadata) + model.metadata.lookahead_frames
    whole = run_pieces(model, samples)
    text = greedy_text(model, whole)
    worst, equal = 0.0, True
    singles = min(total, 8)
    cuts = [[1] * singles + [total - singles] * (total > singles)]
    cuts += [random_pieces(total, rng) for _ in range(splits)]
    for pieces in cuts:
        found = run_pieces(model, samples, pieces)
        worst = max(worst, float(np.abs(found - whole).max(initial=0.0)))
        equal = equal and greedy_text(model, found) == text
    return SplitDifferences(worst, equal)


def compare_models(reference: CtcModel, candidate: CtcModel, recordings: Sequence[Units]) -> Agreement:
    """Compare the log-probabilities of two models on whole inputs, ``(units, ...)`` each.

    Raises:
        ParityError: they do not answer with the same number of frames.
    """
    frames = same = 0
    total = largest = 0.0
    for samples in recordings:
        expected, found = run_pieces(reference, samples), run_pieces(candidate, samples)
        if found.shape != expected.shape:
            raise ParityError(
                f"for the same input one model answers with {len(expected)} frames and the other with "
                f"{len(found)}: they are not two precisions of one model"
            )
        difference = np.abs(found - expected)
        frames += len(expected)
        total += float((difference * np.exp(expected)).sum())
        largest = max(largest, float(difference[expected > -10.0].max(initial=0.0)))
        same += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return Agreement(frames, total / max(1, frames), largest, same / max(1, frames))
