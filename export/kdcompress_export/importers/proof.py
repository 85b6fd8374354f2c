"""Proof that the graph of a bundle computes what the model it was made from computes, recording for recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_export.entries import check_disjoint, choose_entries
from kdcompress_export.errors import ParityError
from kdcompress_export.inputs import inputs_of
from kdcompress_export.streams import lengthened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_export.inputs import Inputs, Units
    from kdcompress_runtime.model import CtcModel

BATCHES = (1, 4)
_RECORDINGS = 2
_LONGEST = 3
"""Times the long input that is timed; what is longer is cut."""


def compare_with_origin(
    model: CtcModel,
    expected: Callable[[NDArray[Any]], NDArray[np.float32]],
    *,
    origin: str,
    atol: float,
    recordings: Sequence[Units] = (),
) -> dict[str, Any]:
    """Run both on made-up inputs of several lengths and batch sizes, faint ones included, and on real ones.

    Args:
        model: the graph, loaded; takes whole inputs.
        expected: maps inputs ``(N, units, ...)`` to log-probabilities ``(N, T, C)`` as the origin computes them.
        origin: what the graph is compared with, in words.
        atol: allowed difference of log-probabilities, in nats.
        recordings: real inputs, ``(units, ...)`` each.

    Returns:
        JSON object with every comparison.

    Raises:
        ParityError: naming every comparison beyond ``atol``.
    """
    fed = inputs_of(model)
    cases: dict[str, NDArray[Any]] = {}
    for length in fed.proof_lengths:
        for batch in BATCHES:
            name = f"batch {batch}, {length} {fed.units}"
            cases[name] = np.stack([fed.synthetic(length, seed) for seed in range(batch)])
    faint = fed.faint()
    if faint is not None:
        cases["batch 1, 60 dB quieter"] = faint[None]
    for index, one in enumerate(recordings):
        cut = one[: _LONGEST * fed.long]
        cases[f"{fed.item} {index + 1}"] = lengthened(cut, model.metadata.input.min_units)[None]
    found = {name: _difference(model, expected, name, inputs) for name, inputs in cases.items()}
    wrong = {name: value for name, value in found.items() if not value <= atol}
    if wrong:
        listed = "; ".join(f"{name}: {value:.2g}" for name, value in wrong.items())
        count = f"{len(wrong)} of {len(found)} comparisons"
        raise ParityError(f"the graph differs from {origin} by more than {atol:g} in {count}: {listed}")
    worst = max(found.values())
    return {"origin": origin, "atol": atol, "max_abs_diff": worst, "comparisons": len(found), "cases": found}


def proof_inputs(calibration: Path | None, dev: Path | None, inputs: Inputs) -> list[Units]:
    """Read a few entries of the dev manifest, or of the calibration manifest where there is no other.

    Raises:
        ExportError: the manifests share items.
        ManifestError, AudioError, ImageError, SourceTextError: data cannot be read.
    """
    if calibration is not None and dev is not None:
        check_disjoint(calibration, dev)
    manifest = dev or calibration
    if manifest is None:
        return []
    return list(inputs.read_all(choose_entries(manifest, _RECORDINGS)))


def _difference(
    model: CtcModel,
    expected: Callable[[NDArray[Any]], NDArray[np.float32]],
    name: str,
    inputs: NDArray[Any],
) -> float:
    wanted = expected(inputs)
    found, _ = model.step(np.ascontiguousarray(inputs), {})
    if found.shape != wanted.shape:
        raise ParityError(f"{name}: the graph returns shape {found.shape}, its origin {wanted.shape}")
    return float(np.abs(found - wanted).max())
