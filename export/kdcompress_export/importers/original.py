"""The foreign model itself, run by onnxruntime: what it answers, how short an input may be, how it subsamples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

from kdcompress_export.errors import ForeignModelError, UnsupportedModelError
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_export.importers.reading import Signature

_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(error for error in vars(_ort).values() if isinstance(error, type) and issubclass(error, Exception)),
)
_FEW, _MORE = 3, 11
_SUM_ATOL = 1e-3


class Original:
    """A foreign graph, unchanged."""

    def __init__(self, content: bytes, signature: Signature, file: str) -> None:
        """Load it.

        Raises:
            ForeignModelError: onnxruntime refuses it.
        """
        self.signature, self._file = signature, file
        try:
            self._session = onnxruntime.InferenceSession(
                content, SessionOptions().build(), providers=["CPUExecutionProvider"]
            )
        except _ERRORS as error:
            raise ForeignModelError(f"{file}: onnxruntime cannot load it ({_line(error)}); export it again") from error

    def run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores ``(N, T', C)`` of features ``(N, T, F)`` or samples ``(N, n)``, as the file gives them.

        Raises:
            ForeignModelError: it fails, or answers something else.
        """
        signature = self.signature
        turned = inputs
        if inputs.ndim == 3:
            turned = inputs.transpose(0, 2, 1) if signature.layout == "NFT" else inputs
        elif signature.channel:
            turned = inputs[:, None, :]
        feed = {signature.input: np.ascontiguousarray(turned)}
        if signature.lengths:
            feed[signature.lengths] = np.full(len(inputs), inputs.shape[1], dtype=signature.lengths_dtype)
        try:
            scores: NDArray[np.float32] = self._session.run([signature.output], feed)[0]
        except _ERRORS as error:
            raise ForeignModelError(f"{self._file}: it fails on {inputs.shape} ({_line(error)})") from error
        if scores.ndim != 3 or len(scores) != len(inputs) or scores.dtype != np.float32:
            shape = f"{scores.dtype} {scores.shape}"
            raise ForeignModelError(f"{self._file}: {signature.output} is {shape}, not float32 scores (N, T, C)")
        return scores

    def run_each(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """As ``run``, one item after the other."""
        return np.concatenate([self.run(one[None]) for one in inputs])

    def first_length(self, frames: int, width: int, most: int) -> int:
        """Fewest feature frames (or samples, ``width`` 0) that give at least ``frames`` output frames.

        Raises:
            UnsupportedModelError: not even ``most`` do.
        """
        low, high = 0, 1
        while not self._answers(high, frames, width):
            low, high = high, 2 * high
            if high > most:
                raise UnsupportedModelError(
                    f"{self._file} does not give {frames} output frames for {high // 2} of input"
                )
        while high - low > 1:
            middle = (low + high) // 2
            if self._answers(middle, frames, width):
                high = middle
            else:
                low = middle
        return high

    def subsampling(self, width: int, most: int) -> int:
        """Feature frames (or samples) for one output frame, measured.

        Raises:
            UnsupportedModelError: output frames do not come at equal distances.
        """
        span = self.first_length(_MORE, width, most) - self.first_length(_FEW, width, most)
        factor, rest = divmod(span, _MORE - _FEW)
        if rest or not factor:
            raise UnsupportedModelError(f"{self._file} gives {_MORE - _FEW} output frames for {span} of input")
        return factor

    def _answers(self, length: int, frames: int, width: int) -> bool:
        shape = (1, length, width) if width else (1, length)
        try:
            scores = self.run(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        except ForeignModelError:
            return False
        return scores.shape[1] >= frames and bool(np.isfinite(scores).all())


def look_like(scores: NDArray[np.float32]) -> str | None:
    """Return ``log_probs`` or ``probabilities`` where every row sums to one as such, else None."""
    rows = scores.astype(np.float64)
    if (rows >= 0).all():
        return "probabilities" if np.allclose(rows.sum(-1), 1.0, atol=_SUM_ATOL) else None
    return "log_probs" if np.allclose(np.exp(rows).sum(-1), 1.0, atol=_SUM_ATOL) else None


def to_log_probs(scores: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Natural-log probabilities of scores of a kind, computed in float64."""
    rows = scores.astype(np.float64)
    if kind == "probabilities":
        rows = np.log(np.maximum(rows, np.finfo(np.float32).tiny))
    elif kind == "logits":
        rows = rows - rows.max(axis=-1, keepdims=True)
        rows = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return rows.astype(np.float32)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
