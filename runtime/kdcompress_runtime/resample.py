"""Sample rate conversion: soxr, whole or in pieces with the same result. Imported when first needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import MissingDependencyError, OptionsError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

QUALITY = "HQ"
"""soxr's name of the filter; one quality everywhere, so that a stream equals a file."""


class Resampler:
    """Resamples mono audio piece by piece; the concatenation equals one call over everything.

    Equal rates pass through untouched and need no soxr.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        check_rate(source_rate)
        check_rate(target_rate)
        self._stream: Any = None
        if source_rate != target_rate:
            self._stream = _soxr().ResampleStream(
                source_rate, target_rate, num_channels=1, dtype="float32", quality=QUALITY
            )

    def process(self, samples: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return what can be given out after ``samples``; all the rest when ``last``.

        Args:
            samples: shape ``(n,)``, float32; ``n`` may be 0.
            last: no more will come.

        Returns:
            Shape ``(m,)``, float32, at the target rate.
        """
        if self._stream is None:
            return samples
        output: NDArray[np.float32] = self._stream.resample_chunk(samples, last=last)
        return output


def resample(samples: NDArray[np.float32], source_rate: int, target_rate: int) -> NDArray[np.float32]:
    """Resample mono audio of shape ``(n,)`` whole.

    Raises:
        OptionsError: a rate is not a positive integer.
        MissingDependencyError: soxr is not installed and the rates differ.
    """
    return Resampler(source_rate, target_rate).process(np.ascontiguousarray(samples), last=True)


def check_rate(rate: int) -> None:
    """Refuse a sample rate that is not a positive integer (Hz).

    Raises:
        OptionsError: it is not.
    """
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate < 1:
        raise OptionsError(f"sample_rate must be a positive integer in Hz, found {rate!r}")


def _soxr() -> ModuleType:
    try:
        return importlib.import_module("soxr")
    except ImportError as error:
        raise MissingDependencyError(
            "changing the sample rate needs soxr; install it with `pip install 'kdcompress[audio]'`"
        ) from error
