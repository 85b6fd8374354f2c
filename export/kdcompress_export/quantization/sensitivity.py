"""Where it hurts: how much of what quantization costs comes back when one layer stays float32.

Measured as the mean Kullback-Leibler divergence, over the frames of a few recordings, from float32's posteriors to
the candidate's. Each layer takes one quantization, with ranges that were measured before, and one run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_export.quantization.schemes import apply, layer_names
from kdcompress_export.streams import run_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from kdcompress_export.inputs import Units
    from kdcompress_export.quantization.calibration import Calibration
    from kdcompress_export.quantization.schemes import Scheme
    from kdcompress_runtime.model import CtcModel

MOST_STEPS = 50
"""Quantizations at most; in a deeper model neighbouring layers are kept together."""


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer, or neighbours that were kept together."""

    layers: tuple[str, ...]
    """Weights by initializer name."""
    kl: float
    """Divergence from float32, in nats a frame, when these stay float32 and all others do not."""
    recovered: float
    """What came back: divergence of the whole scheme minus ``kl``; below zero where errors cancelled out."""


@dataclass(frozen=True)
class Sensitivity:
    """Of a scheme."""

    scheme: str
    """Its name."""
    frames: int
    """Frames compared."""
    kl: float
    """Divergence of the whole scheme from float32, in nats a frame."""
    layers: tuple[LayerSensitivity, ...]
    """The most guilty first."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def measure_sensitivity(
    scheme: Scheme,
    content: bytes,
    load: Callable[[bytes], CtcModel],
    recordings: Sequence[Units],
    *,
    calibration: Calibration | None = None,
    on_layer: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Keep one layer after the other in float32 and see what comes back.

    Args:
        scheme: without layers that stay float32.
        content: the float32 file.
        load: loads a file of the same geometry.
        recordings: float32 ``(n,)`` each; not those of the proof.
        calibration: for schemes that need it.
        on_layer: called after each step with how many are done and how many there are.

    Raises:
        QuantizationError: the scheme does not fit the graph.
    """
    names = layer_names(scheme, content)
    size = -(-len(names) // MOST_STEPS)
    groups = [names[start : start + size] for start in range(0, len(names), size)]
    floating = load(content)
    expected = [run_pieces(floating, samples) for samples in recordings]
    whole = _divergence(load(apply(scheme, content, calibration).content), recordings, expected)
    found: list[LayerSensitivity] = []
    for done, group in enumerate(groups, 1):
        if len(group) < len(names):
            small = load(apply(scheme.keeping(group), content, calibration).content)
            kl = _divergence(small, recordings, expected)
        else:
            kl = 0.0
        found.append(LayerSensitivity(group, kl, whole - kl))
        if on_layer:
            on_layer(done, len(groups))
    ordered = tuple(sorted(found, key=lambda one: -one.recovered))
    return Sensitivity(scheme.name, sum(map(len, expected)), whole, ordered)


def _divergence(model: CtcModel, recordings: Sequence[Units], expected: Sequence[NDArray[np.float32]]) -> float:
    """Mean over all frames of ``sum_c p (log p - log q)``."""
    total = frames = 0.0
    for samples, reference in zip(recordings, expected, strict=True):
        found = run_pieces(model, samples)
        p = reference.astype(np.float64)
        total += float((np.exp(p) * (p - found)).sum())
        frames += len(reference)
    return total / max(1.0, frames)
