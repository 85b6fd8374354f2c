"""The folder of a language model that was trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.run import RunFolder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class TextFolder(RunFolder):
    """Names of its files: those of every run, and its own."""

    @property
    def units(self) -> Path:
        """Inventory, JSON."""
        return self.path / "units.json"

    @property
    def ngrams(self) -> Path:
        """The same of ``kind: ngram``: a packed model."""
        return self.path / "model.kdlm"

    @property
    def finished(self) -> bool:
        """Whether there is all that ``open_text_model`` needs."""
        trained = self.weights.is_file() or self.ngrams.is_file()
        return trained and self.summary.is_file() and self.units.is_file()
