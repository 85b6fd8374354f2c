"""What tuning a decoder is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress_runtime.decoder_settings import KINDS
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.lm.base import UNITS

if TYPE_CHECKING:
    from pathlib import Path

AUTO = "auto"


@dataclass(frozen=True)
class TuneOptions:
    """How to tune.

    Raises:
        OptionsError: a value is outside its range.
    """

    lm: Path | None = None
    """Language model: ARPA or packed; it goes into the bundle."""
    unit: str | None = None
    """``word`` or ``token``: what the language model predicts, where its file does not say."""
    lexicon: Path | None = None
    """The only words that may be answered, one a line; goes into the bundle."""
    precision: str | None = None
    """Model that the decoder is tuned with; the bundle's default when left out."""
    kind: str = AUTO
    """``greedy``, ``beam``, or ``auto``: a beam only where it is better than greedy by more than noise."""
    beam_widths: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Widths to try; the smallest within noise of the best is taken."""
    search_width: int = 16
    """Width while the weights are searched."""
    trials: int = 100
    """Most settings that are tried, widths not counted."""
    seconds: float | None = None
    """Time after which no further weights are tried; None: no limit."""
    limit: int | None = None
    """Most items of the manifest; all when left out."""
    seed: int = 0
    """Of the bootstrap and of the halves of the cross-validation."""
    work: Path | None = None
    """Folder that keeps what was computed, so that an interrupted call goes on where it was."""

    def __post_init__(self) -> None:
        kinds = (AUTO, *KINDS)
        if self.kind not in kinds:
            raise OptionsError(f"kind must be one of {', '.join(kinds)}, found {self.kind!r}")
        if self.unit is not None and self.unit not in UNITS:
            raise OptionsError(f"unit must be one of {', '.join(UNITS)}, found {self.unit!r}")
        if self.kind == "greedy" and (self.lm is not None or self.lexicon is not None):
            raise OptionsError("greedy decoding has no language model and no lexicon; choose beam, or leave them out")
        if not self.beam_widths or any(width < 1 for width in (*self.beam_widths, self.search_width)):
            raise OptionsError(f"beam widths must be integers of at least 1, found {self.beam_widths}")
        if self.trials < 1 or (self.limit is not None and self.limit < 1):
            raise OptionsError("trials and limit must be at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise OptionsError(f"seconds must be above 0, found {self.seconds!r}")
