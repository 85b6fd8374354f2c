"""Mixed precision: the guilty layers stay float32, one more after the other, until nothing speaks against the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcompress_export.quantization.rows import Row
    from kdcompress_export.quantization.schemes import Scheme
    from kdcompress_export.quantization.sensitivity import Sensitivity

MOST_KEPT = 0.5
"""Share of the layers; beyond it the file is float32 with a few exceptions."""


def mix(
    scheme: Scheme,
    sensitivity: Sensitivity,
    attempt: Callable[[Scheme], Row],
    passes: Callable[[Row], bool],
    hopeless: Callable[[Row], bool],
) -> Iterator[Row]:
    """Try mixed schemes and yield their rows, the last of them the one with the fewest float32 layers that passes.

    Keeps the 1, 2, 4, 8... most guilty layers; once that passes, bisects to the fewest. Stops where a candidate is
    hopeless: more layers in float32 make it only larger and slower.

    Args:
        scheme: the one to mend.
        sensitivity: of it.
        attempt: makes and measures a scheme.
        passes: whether a row may ship.
        hopeless: whether keeping more layers cannot help.
    """
    order = [name for one in sensitivity.layers if one.recovered > 0 for name in one.layers]
    everything = sum(len(one.layers) for one in sensitivity.layers)
    most = min(len(order), int(everything * MOST_KEPT))
    failed, count = 0, 1
    passed: int | None = None
    while passed is None and failed < most:
        count = min(count, most)
        row = attempt(scheme.keeping(tuple(order[:count])))
        yield row
        if passes(row):
            passed = count
        elif hopeless(row):
            return
        else:
            failed, count = count, 2 * count
    while passed is not None and passed - failed > 1:
        middle = (failed + passed) // 2
        row = attempt(scheme.keeping(tuple(order[:middle])))
        yield row
        if passes(row):
            passed = middle
        else:
            failed = middle
