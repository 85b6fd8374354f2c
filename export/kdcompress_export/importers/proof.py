"""Proof that the graph of a bundle computes what the model it was made from computes, recording for recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_export.errors import ParityError
from kdcompress_export.recordings import check_disjoint, choose_entries, read_recordings
from kdcompress_export.streams import speech_like_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_export.streams import Samples
    from kdcompress_runtime.model import CtcModel

BATCHES = (1, 4)
SECONDS = (1.0, 10.0)
_RECORDINGS = 2
_LONGEST_SECONDS = 30.0


def compare_with_origin(
    model: CtcModel,
    expected: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    origin: str,
    atol: float,
    recordings: Sequence[Samples] = (),
) -> dict[str, Any]:
    """Run both on noise of several lengths and batch sizes, on faint noise, and on recordings.

    Args:
        model: the graph, loaded; takes whole recordings.
        expected: maps samples ``(N, n)`` float32 to log-probabilities ``(N, T, C)`` as the origin computes them.
        origin: what the graph is compared with, in words.
        atol: allowed difference of log-probabilities, in nats.
        recordings: real audio at the model's rate, ``(n,)`` each.

    Returns:
        JSON object with every comparison.

    Raises:
        ParityError: naming every comparison beyond ``atol``.
    """
    rate, least = model.metadata.input.sample_rate or 16000, model.metadata.input.min_units
    cases: dict[str, NDArray[np.float32]] = {}
    for length in sorted({max(least, round(seconds * rate)) for seconds in (0.0, *SECONDS)}):
        for batch in BATCHES:
            name = f"batch {batch}, {length} samples"
            cases[name] = np.stack([_noise(length, rate, seed) for seed in range(batch)])
    # Norms inside a model hide the scale of its input, and a wrong normalisation with it, unless the input is faint.
    cases["batch 1, 60 dB quieter"] = 1e-3 * _noise(max(least, rate), rate, len(cases))[None]
    for index, samples in enumerate(recordings):
        cut = samples[: round(_LONGEST_SECONDS * rate)]
        cases[f"recording {index + 1}"] = np.pad(cut, (0, max(0, least - len(cut))))[None]
    found = {name: _difference(model, expected, name, inputs) for name, inputs in cases.items()}
    wrong = {name: value for name, value in found.items() if not value <= atol}
    if wrong:
        listed = "; ".join(f"{name}: {value:.2g}" for name, value in wrong.items())
        count = f"{len(wrong)} of {len(found)} comparisons"
        raise ParityError(f"the graph differs from {origin} by more than {atol:g} in {count}: {listed}")
    worst = max(found.values())
    return {"origin": origin, "atol": atol, "max_abs_diff": worst, "comparisons": len(found), "cases": found}


def proof_recordings(calibration: Path | None, dev: Path | None, sample_rate: int) -> list[Samples]:
    """Read a few recordings of the dev manifest, or of the calibration manifest where there is no other.

    Raises:
        ExportError: the manifests share items.
        ManifestError, AudioError: data cannot be read.
    """
    if calibration is not None and dev is not None:
        check_disjoint(calibration, dev)
    manifest = dev or calibration
    if manifest is None:
        return []
    return list(read_recordings(choose_entries(manifest, _RECORDINGS), sample_rate))


def _noise(length: int, rate: int, seed: int) -> Samples:
    # A second at least, cut from its middle: the first milliseconds may lie between two syllables.
    samples = speech_like_noise(1.0 + length / rate, rate, seed)
    return samples[rate // 4 : rate // 4 + length]


def _difference(
    model: CtcModel,
    expected: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    name: str,
    inputs: NDArray[np.float32],
) -> float:
    wanted = expected(inputs)
    found, _ = model.step(np.ascontiguousarray(inputs), {})
    if found.shape != wanted.shape:
        raise ParityError(f"{name}: the graph returns shape {found.shape}, its origin {wanted.shape}")
    return float(np.abs(found - wanted).max())
