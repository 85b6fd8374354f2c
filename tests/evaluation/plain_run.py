"""What a report was asked for, where a test does not care."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.summary import RunInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_evaluation.variants import VariantInfo


def plain_run(variants: Sequence[VariantInfo], **fields: Any) -> RunInfo:
    """A run over ``variants``, the first of them the baseline; ``fields`` are those that matter."""
    plain: dict[str, Any] = {
        "variants": tuple(variants),
        "baseline": variants[0].name,
        "task": "speech",
        "normaliser": "plain",
        "resamples": 1000,
        "seed": 0,
        "tolerance": 0.005,
        "budget": "",
        "candidates": (),
        "slices": (),
        "command": "",
        "device_note": "",
        "created": "2026-11-20T00:00:00+00:00",
    }
    return RunInfo(**{**plain, **fields})
