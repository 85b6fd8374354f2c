"""A model run over whole inputs or, where it streams, over pieces of them, its lag undone.

Runtime only: no torch, no onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.model import CtcModel

Samples = NDArray[np.float32]
"""Mono audio at the model's rate, shape ``(n,)``, float32, nominally in [-1, 1]."""
SYLLABLES_PER_SECOND = 4.0


def output_frames(samples: Samples, metadata: BundleMetadata) -> int:
    """Output frames of a recording ``(n,)``; only a model that streams has as many as this says."""
    return -(-len(samples) // metadata.input.units_per_frame)


def lengthened(one: NDArray[Any], units: int) -> NDArray[Any]:
    """Return an input ``(units, ...)`` with zeros behind it, until it has as many units as that."""
    missing = max(units - len(one), 0)
    return np.pad(one, [(0, missing), *[(0, 0)] * (one.ndim - 1)])


def padded(samples: NDArray[Any], metadata: BundleMetadata) -> NDArray[Any]:
    """Pad a recording ``(n,)`` to whole frames and for the look-ahead; ``(1, (T + D) * units_per_frame)``.

    For a model that takes whole inputs ``(units, ...)``: to the shortest one that it takes.
    """
    if not metadata.streaming:
        return lengthened(samples, metadata.input.min_units)[None]
    units = metadata.input.units_per_frame
    total = (output_frames(samples, metadata) + metadata.lookahead_frames) * units
    room: NDArray[np.float32] = np.zeros((1, total), dtype=np.float32)
    room[0, : len(samples)] = samples
    return room


def run_pieces(model: CtcModel, samples: NDArray[Any], pieces: Sequence[int] | None = None) -> NDArray[np.float32]:
    """Log-probabilities ``(T, C)`` of an input ``(units, ...)``.

    It is fed in steps of ``pieces`` frames each, whole when they are left out.

    Raises:
        ValueError: ``pieces`` are not the recording, or the model takes whole inputs only.
        ModelError: the model failed.
    """
    units = model.metadata.input.units_per_frame
    inputs = padded(samples, model.metadata)
    if not model.metadata.streaming:
        if pieces is not None:
            raise ValueError("the model takes whole inputs; it cannot be fed in pieces")
        answer: NDArray[np.float32] = model.step(inputs, model.init_states())[0][0]
        return answer
    total = inputs.shape[1] // units
    ends = np.cumsum(pieces if pieces is not None else [total])
    if ends[-1] != total:
        raise ValueError(f"pieces add up to {ends[-1]} frames, the recording has {total}")
    states, found, start = model.init_states(), [], 0
    for end in ends:
        log_probs, states = model.step(inputs[:, start * units : end * units], states)
        found.append(log_probs[0])
        start = int(end)
    joined: NDArray[np.float32] = np.concatenate(found)
    return joined[model.metadata.lookahead_frames :]


def random_pieces(total: int, rng: np.random.Generator, longest: int = 40) -> list[int]:
    """Cut ``total`` frames into pieces of 1 to ``longest``."""
    pieces: list[int] = []
    while (left := total - sum(pieces)) > 0:
        pieces.append(min(left, int(rng.integers(1, longest + 1))))
    return pieces


def speech_like_noise(seconds: float, sample_rate: int, seed: int) -> Samples:
    """Noise with speech's slope (-6 dB an octave) and syllables, float32 ``(n,)``, peak 0.5; for want of speech."""
    rng = np.random.default_rng(seed)
    count = round(seconds * sample_rate)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / sample_rate)
    noise = np.fft.irfft(spectrum / np.maximum(hertz, 100.0), count)
    time = np.arange(count) / sample_rate
    envelope = np.maximum(0.0, np.sin(np.pi * SYLLABLES_PER_SECOND * time + rng.uniform(0, np.pi))) ** 2
    shaped = noise * envelope
    scaled: Samples = (0.5 * shaped / max(1e-9, float(np.abs(shaped).max()))).astype(np.float32)
    return scaled


def greedy_text(model: CtcModel, log_probs: NDArray[np.float32]) -> str:
    """Text of the best label of each frame."""
    labels = log_probs.argmax(axis=1)
    blank = model.vocabulary.blank_id
    starts = np.flatnonzero((labels != np.concatenate(([blank], labels[:-1]))) & (labels != blank))
    return model.vocabulary.text(labels[starts].tolist())
