"""The seam for repairs: what may be done to a graph before it is quantized, or to the file afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from kdcompress_export.quantization.counts import check_counts
from kdcompress_export.quantization.schemes import apply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress_export.quantization.calibration import Calibration
    from kdcompress_export.quantization.schemes import Kind, Scheme, SmallModel


class Before(Protocol):
    """Writes a float32 file in another way that computes the same and quantizes better (scales moved, for example)."""

    def __call__(self, content: bytes, calibration: Calibration) -> bytes:
        """Return the rewritten file."""


class After(Protocol):
    """Mends a quantized file (biases corrected, for example)."""

    def __call__(self, content: bytes, quantized: bytes, calibration: Calibration) -> bytes:
        """Return the mended file; ``content`` is the float32 file that was quantized."""


@dataclass(frozen=True)
class Repair:
    """One way to win back what quantization lost; tried on the cheapest candidate of its kinds."""

    name: str
    """For the table."""
    before: Before | None = None
    """Applied to the float32 file."""
    after: After | None = None
    """Applied to the quantized file."""
    kinds: tuple[Kind, ...] = ("static",)
    """Schemes that it suits."""


def apply_repaired(
    scheme: Scheme,
    content: bytes,
    calibration: Calibration | None = None,
    properties: Mapping[str, str] | None = None,
    repair: Repair | None = None,
) -> SmallModel:
    """Make a float32 file smaller as ``schemes.apply`` does, with a repair.

    Raises:
        QuantizationError: as ``schemes.apply``; or the repair changed how many layers are small.
    """
    if repair is None or calibration is None:
        return apply(scheme, content, calibration, properties)
    rewritten = repair.before(content, calibration) if repair.before else content
    small = apply(scheme, rewritten, calibration, properties)
    if repair.after is None:
        return small
    mended = repair.after(rewritten, small.content, calibration)
    return replace(small, content=mended, counts=check_counts(mended, small.counts.total))
