"""Audio as the caller has it, to audio as the model wants it: float32 at its rate, numbered from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import AudioError
from kdcompress_runtime.resample import Resampler, check_rate
from kdcompress_runtime.samples import blocks, check_samples, to_float32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import BundleMetadata

_LEAST_CAPACITY, _LARGE_CAPACITY = 1 << 10, 1 << 16


class SampleQueue:
    """Samples by their number; those before ``forget`` are gone. One sample at a time costs no more than many."""

    def __init__(self) -> None:
        self._buffer = np.empty(_LEAST_CAPACITY, dtype=np.float32)
        self._first = 0
        """Number of the sample that stands first in the buffer."""
        self._keep = 0
        """Number of the first sample still needed."""
        self.end = 0
        """Samples pushed so far."""

    def push(self, samples: NDArray[np.float32]) -> None:
        """Append samples of shape ``(n,)``; they are copied."""
        held, needed = self.end - self._keep, self.end - self._keep + len(samples)
        capacity = len(self._buffer)
        if self.end - self._first + len(samples) > capacity or capacity > max(8 * needed, _LARGE_CAPACITY):
            # Twice what is needed: the next move is as many samples away. Never in place: a view may be in use.
            buffer = np.empty(max(2 * needed, _LEAST_CAPACITY), dtype=np.float32)
            buffer[:held] = self.window(self._keep, self.end)
            self._buffer, self._first = buffer, self._keep
        start = self.end - self._first
        self._buffer[start : start + len(samples)] = samples
        self.end += len(samples)

    def window(self, start: int, stop: int) -> NDArray[np.float32]:
        """Samples ``start`` to ``stop``, zeros after the last; a view where there are as many."""
        found = self._buffer[start - self._first : min(stop, self.end) - self._first]
        missing = stop - max(start, self.end)
        return found if stop <= self.end else np.pad(found, (0, min(missing, stop - start)))

    def forget(self, before: int) -> None:
        """Samples before this number are not needed any more."""
        self._keep = min(max(self._keep, before), self.end)


class Intake:
    """Converts one recording, piece by piece, into a queue."""

    def __init__(self, metadata: BundleMetadata, source_rate: int = 0) -> None:
        """Take audio for a model; of ``source_rate`` (Hz) alone, unless it is 0."""
        if metadata.input.sample_rate is None:
            raise AudioError("this bundle does not take audio; its input has no sample_rate")
        self._rate = metadata.input.sample_rate
        self._resampler: tuple[int, Resampler] | None = None
        self.queue = SampleQueue()
        self.source_rate = source_rate
        """Hz of the caller's audio; 0 before the first."""
        self.received = 0
        """Samples of the caller."""

    def check(self, samples: NDArray[Any], sample_rate: int) -> None:
        """Refuse what cannot be taken.

        Raises:
            AudioError: see ``check_samples``; or the rate changed since the first samples.
            OptionsError: the rate is not a positive integer.
            MissingDependencyError: the rate must be changed and soxr is not installed.
        """
        check_rate(sample_rate)
        check_samples(samples)
        if self.source_rate and sample_rate != self.source_rate:
            raise AudioError(
                f"the stream began at {self.source_rate} Hz and goes on at {sample_rate} Hz; "
                "use one rate for a stream, or open another stream"
            )
        if self._resampler is None or self._resampler[0] != sample_rate:
            self._resampler = (int(sample_rate), Resampler(sample_rate, self._rate))

    def take(self, samples: NDArray[Any]) -> Iterator[None]:
        """Convert samples that ``check`` let pass, block by block; stops between blocks, so that one is used first."""
        if self._resampler is not None:
            self.source_rate = self._resampler[0]
        for number, block in enumerate(blocks(samples)):
            if number:
                yield
            self._push(to_float32(block))
            self.received += len(block)

    def finish(self) -> None:
        """Push what the resampler still holds; no more samples may follow."""
        if self.source_rate:
            self._push(np.zeros(0, dtype=np.float32), last=True)

    def _push(self, samples: NDArray[np.float32], *, last: bool = False) -> None:
        if self._resampler is not None:
            self.queue.push(self._resampler[1].process(samples, last=last))
