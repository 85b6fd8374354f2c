"""What one thread of this machine can reach at most: matrix products in onnxruntime, reading from memory.

The two graphs are a product with a constant 512 x 512 matrix that onnxruntime fills in when it loads them, so they
are files of 170 bytes; ``tools/make_peak_graphs.py`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import psutil

from kdcompress_evaluation.cost import Peaks
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

GRAPHS = Path(__file__).parent / "peaks"
"""Folder of ``float32.onnx`` and ``int8.onnx``."""
SIZE = 512
"""Rows and columns of the constant matrix: it fits into every second-level cache, and is large enough."""
_ROWS = (64, 256, 512)
_SECONDS = 0.12
"""Spent on each measurement; the best run counts, because nothing makes a run too fast."""
_CACHES = 8
"""Times the last-level cache is read, so that little of it is still there from the time before."""
_LEAST_BYTES, _MOST_BYTES = 2**26, 2**29


def measure_peaks(cache_bytes: int | None) -> Peaks:
    """Measure in this process, on the CPU that it is held to; about a second.

    Args:
        cache_bytes: of the last-level cache, where known.
    """
    return Peaks(
        float32=_product_rate("float32", np.float32),
        int8=_product_rate("int8", np.uint8),
        memory=_read_rate(cache_bytes or 0),
    )


def _product_rate(name: str, dtype: DTypeLike) -> float:
    """Multiply-accumulates a second of the best of several heights."""
    options = SessionOptions().build(streaming=True)
    content = (GRAPHS / f"{name}.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rates = []
    for rows in _ROWS:
        feed: dict[str, Any] = {"x": np.ones((rows, SIZE), dtype)}
        rates.append(rows * SIZE * SIZE / _shortest(lambda feed=feed: session.run(None, feed)))  # type: ignore[misc]
    return max(rates)


def _read_rate(cache_bytes: int) -> float:
    """Bytes a second of a dot product of a large vector with itself."""
    size = min(max(_CACHES * cache_bytes, _LEAST_BYTES), _MOST_BYTES, int(psutil.virtual_memory().available) // 8)
    values = np.ones(size // 4, np.float32)
    return float(values.nbytes / _shortest(lambda: np.dot(values, values)))


def _shortest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of the calls that fit into the time."""
    best, end = float("inf"), perf_counter() + _SECONDS
    call()
    while True:
        begin = perf_counter()
        call()
        now = perf_counter()
        best = min(best, now - begin)
        if now > end:
            return best
