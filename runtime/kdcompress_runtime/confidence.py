"""How sure a recogniser is of a word: a raw figure from the posteriors, and the calibration that makes it honest.

Raw posteriors of CTC models are peaky: nearly 1 on most words, right or wrong. A ``Calibration`` maps them to the share
of such words that were right on data that the model was not trained on; ``kdcompress tune-decoder`` fits it and writes
it into the bundle (Zadrozny and Elkan 2002: isotonic regression; here thinned out to a few knots).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_KNOTS = 256
"""More than any calibration needs."""
_FIELDS = ("raw", "calibrated")


@dataclass(frozen=True)
class Calibration:
    """A monotone, piecewise-linear map from raw confidences to probabilities; constant beyond its ends.

    Raises:
        OptionsError: the knots are no such map.
    """

    raw: tuple[float, ...]
    """Raw confidences in [0, 1], strictly increasing, at least one."""
    calibrated: tuple[float, ...]
    """The probability of being right at each, in [0, 1], never decreasing."""

    def __post_init__(self) -> None:
        for name in _FIELDS:
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(map(_is_share, values)):
                raise OptionsError(f"confidence: {name} must be numbers from 0 to 1, found {values!r:.80}")
        if not 1 <= len(self.raw) <= MAX_KNOTS or len(self.raw) != len(self.calibrated):
            raise OptionsError(
                f"confidence: needs 1 to {MAX_KNOTS} knots and a value for each, "
                f"found {len(self.raw)} and {len(self.calibrated)}"
            )
        if any(left >= right for left, right in zip(self.raw, self.raw[1:], strict=False)):
            raise OptionsError("confidence: raw must increase from knot to knot")
        if any(left > right for left, right in zip(self.calibrated, self.calibrated[1:], strict=False)):
            raise OptionsError("confidence: calibrated must never decrease from knot to knot")

    def __call__(self, raw: float) -> float:
        """Probability that a word of this raw confidence is right."""
        above = bisect_right(self.raw, raw)
        if above == 0:
            return self.calibrated[0]
        if above == len(self.raw):
            return self.calibrated[-1]
        left, right = self.raw[above - 1], self.raw[above]
        low, high = self.calibrated[above - 1], self.calibrated[above]
        return low + (high - low) * (raw - left) / (right - left)

    def to_json(self) -> dict[str, list[float]]:
        """Return a JSON object."""
        return {"raw": list(self.raw), "calibrated": list(self.calibrated)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Calibration:
        """Read what ``to_json`` wrote.

        Raises:
            OptionsError: a field is missing, unknown or of the wrong kind.
        """
        if not isinstance(row, dict) or set(row) != set(_FIELDS):
            raise OptionsError(f"confidence: expected an object with {' and '.join(_FIELDS)}, found {row!r:.80}")
        if not all(isinstance(row[name], (list, tuple)) for name in _FIELDS):
            raise OptionsError(f"confidence: {' and '.join(_FIELDS)} must be lists")
        return cls(tuple(row["raw"]), tuple(row["calibrated"]))


def raw_confidence(token_log_probs: Sequence[float]) -> float:
    """Raw confidence of a word from the log-probabilities of its tokens, in [0, 1]: their geometric mean.

    Each is the largest natural-log probability of the token's label over the frames that hold it.
    """
    if not token_log_probs:
        return 0.0
    mean = sum(token_log_probs) / len(token_log_probs)
    return min(1.0, math.exp(mean)) if not math.isnan(mean) else 0.0  # a model that answers NaN is sure of nothing


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
