"""The repairs that need nothing but the calibration recordings, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_export.quantization.repair_bias import BIAS_CORRECTION
from kdcompress_export.quantization.repair_smooth import SMOOTHING
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kdcompress_export.quantization.repairs import Repair

REPAIRS: Mapping[str, Repair] = {"bias-correction": BIAS_CORRECTION, "smoothing": SMOOTHING}
"""What the command line calls them."""


def find_repairs(names: Iterable[str]) -> tuple[Repair, ...]:
    """Return the named repairs.

    Raises:
        OptionsError: there is none of a name.
    """
    chosen = tuple(names)
    for name in chosen:
        if name not in REPAIRS:
            raise OptionsError(f"no repair is called {name!r}; known are {', '.join(REPAIRS)}")
    return tuple(REPAIRS[name] for name in chosen)
