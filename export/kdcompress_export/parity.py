"""Proof that an exported float32 graph computes what the torch student computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdcompress_export.agreement import split_differences
from kdcompress_export.errors import ParityError
from kdcompress_export.streams import speech_like_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.students.base import Student
    from kdcompress_export.streams import Samples
    from kdcompress_runtime.model import CtcModel

DEFAULT_ATOL = 1e-4
"""Largest difference of a log-probability. Float32 sums of some thousand products in another order differ by
1e-6 to 1e-5 of logits near 10; a wrong axis, a lost state or a wrong epsilon differs by more than 1e-3."""
LONG_SECONDS = 10.0
_CHAIN = 3
_SPLITS = 4


@dataclass(frozen=True)
class ParityCase:
    """One comparison."""

    name: str
    """What was compared."""
    max_abs_diff: float
    """Largest difference; of states relative to their largest value where that is above 1."""


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of an export."""

    atol: float
    """Allowed difference."""
    cases: tuple[ParityCase, ...]
    """Every comparison, all within ``atol``."""

    @property
    def max_abs_diff(self) -> float:
        """The largest difference of all."""
        return max(case.max_abs_diff for case in self.cases)


def check_parity(
    student: Student, model: CtcModel, *, atol: float = DEFAULT_ATOL, recordings: Sequence[Samples] = (), seed: int = 0
) -> ParityReport:
    """Compare the graph with torch at several batch sizes and lengths over chained steps, and whole with split.

    Args:
        student: in evaluation mode, on the CPU.
        model: the exported graph, loaded.
        atol: allowed difference of log-probabilities.
        recordings: real audio at the model's rate for the split test, beside noise.
        seed: of noise and splits.

    Raises:
        ParityError: naming every comparison beyond ``atol``.
    """
    rate, shift = model.metadata.input.sample_rate or 16000, model.metadata.frame_shift_ms
    chunk, long = model.metadata.chunk_frames, round(LONG_SECONDS * 1000 / shift)
    cases = []
    for batch, frames in ((1, 1), (3, 1), (1, chunk), (3, 2 * chunk + 1), (1, long)):
        cases += _compare(student, model, batch, frames, seed)
    noise = speech_like_noise(LONG_SECONDS / 2, rate, seed)
    for index, samples in enumerate([noise, *recordings]):
        name = f"whole against {_SPLITS} random splits, {'noise' if not index else f'recording {index}'}"
        cases.append(ParityCase(name, split_differences(model, samples, seed=seed, splits=_SPLITS).max_abs_diff))
    wrong = [case for case in cases if not case.max_abs_diff <= atol]
    if wrong:
        listed = "; ".join(f"{case.name}: {case.max_abs_diff:.2g}" for case in wrong)
        raise ParityError(
            f"the exported graph differs from torch by more than {atol:g} in {len(wrong)} of {len(cases)} "
            f"comparisons: {listed}"
        )
    return ParityReport(atol, tuple(cases))


def _compare(student: Student, model: CtcModel, batch: int, frames: int, seed: int) -> list[ParityCase]:
    """Compare ``_CHAIN`` steps of ``frames`` frames, each side carrying its own states."""
    rate = model.metadata.input.sample_rate or 16000
    samples = frames * model.metadata.input.units_per_frame
    signal = [speech_like_noise(_CHAIN * samples / rate, rate, seed + item) for item in range(batch)]
    inputs = np.stack([np.resize(item, _CHAIN * samples) for item in signal])
    states, torch_states = model.init_states(batch), student.init_states(batch)
    worst = worst_state = 0.0
    for step in range(_CHAIN):
        piece = np.ascontiguousarray(inputs[:, step * samples : (step + 1) * samples])
        found, states = model.step(piece, states)
        with torch.no_grad():
            expected, torch_states = student.step(torch.from_numpy(piece), torch_states)
        worst = max(worst, _difference(found, expected.numpy()))
        for name, value in torch_states.items():
            scale = max(1.0, float(value.abs().max()))
            worst_state = max(worst_state, _difference(states[name], value.numpy()) / scale)
    name = f"batch {batch}, {frames} frames, {_CHAIN} steps"
    return [ParityCase(f"{name}, log_probs", worst), ParityCase(f"{name}, states", worst_state)]


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        raise ParityError(f"the exported graph returns shape {found.shape} where torch returns {expected.shape}")
    return float(np.abs(found - expected).max())
