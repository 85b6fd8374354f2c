"""One row a candidate: everything that was measured of it, and what was not and why."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress_export.agreement import Agreement
from kdcompress_export.error_rates import ErrorRate, PairedDifference
from kdcompress_export.timing import Milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress_export.error_rates import Counted


@dataclass(frozen=True)
class Row:
    """One candidate; float32 is one, too."""

    name: str
    """Of the scheme, ``+ n float32`` for a mixed one, ``+ repair`` for a repaired one."""
    precision: str
    """What a bundle calls it."""
    scheme: Mapping[str, Any] = field(default_factory=dict)
    """The scheme as a JSON object; empty for float32."""
    refused: str = ""
    """Why there is no file; then nothing below was measured."""
    size_bytes: int | None = None
    """Of the file."""
    size_ratio: float | None = None
    """To float32."""
    quantized: Mapping[str, int] = field(default_factory=dict)
    """Layers that compute in fewer bits, by operator type, read back from the file."""
    floating: Mapping[str, int] = field(default_factory=dict)
    """Layers that stayed float32."""
    calibration_frames: int = 0
    """Output frames that calibration ran."""
    agreement: Agreement | None = None
    """With float32 on recordings."""
    whole: Milliseconds | None = None
    """A step over a long input."""
    chunk: Milliseconds | None = None
    """A step over a streaming chunk."""
    whole_ratio: float | None = None
    """CPU time of float32 over that of this one, long input, taking turns."""
    chunk_ratio: float | None = None
    """The same for a chunk."""
    rate: ErrorRate | None = None
    """On the dev manifest."""
    words: int = 0
    """Reference words there."""
    total: int = 0
    """How many there are of what is counted: reference words, or characters."""
    difference: PairedDifference | None = None
    """Error rate minus that of float32."""
    error_shift: Mapping[str, float] = field(default_factory=dict)
    """Substitutions, deletions and insertions minus those of float32, a hundred reference words."""
    long: str = "10 s"
    """What a long input is."""
    note: str = ""
    """What was left out and why, or what decided."""

    @property
    def cost(self) -> float:
        """Size ratio times time ratio (geometric mean of whole and chunk); float32 costs 1, less is better."""
        timed = self.timed_ratios
        if self.size_ratio is None or not timed:
            return math.inf
        return self.size_ratio / math.prod(timed) ** (1 / len(timed))

    @property
    def timed_ratios(self) -> tuple[float, ...]:
        """Ratios that were measured: of a long input and, where the model streams, a chunk."""
        return tuple(ratio for ratio in (self.whole_ratio, self.chunk_ratio) if ratio is not None)

    def figures(self) -> dict[str, float | None]:
        """What a budget can bound."""
        return {
            "size": self.size_bytes,
            "size_ratio": self.size_ratio,
            "wer": self.rate.wer if self.rate else None,
            "cer": self.rate.cer if self.rate else None,
            "wer_high": self._high("words"),
            "cer_high": self._high("characters"),
            "p50": self.chunk.p50 if self.chunk else None,
            "p95": self.chunk.p95 if self.chunk else None,
            "speed": self.whole_ratio,
            "chunk_speed": self.chunk_ratio,
            "agreement": self.agreement.argmax_agreement if self.agreement else None,
        }

    def _high(self, counted: Counted) -> float | None:
        return self.difference.high if self.difference and self.difference.counted == counted else None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; what was not measured is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        """Read what ``to_json`` wrote, for example from the ``measured`` of a bundle."""
        kinds = {
            "agreement": Agreement,
            "whole": Milliseconds,
            "chunk": Milliseconds,
            "rate": ErrorRate,
            "difference": PairedDifference,
        }
        return cls(**{name: kinds[name](**value) if name in kinds else value for name, value in row.items()})
