"""The folder of a language model that was trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class TextFolder:
    """Names of its files; those that other runs have, too, are named as there."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Resolved recipe, YAML."""
        return self.path / "recipe.yaml"

    @property
    def units(self) -> Path:
        """Inventory, JSON."""
        return self.path / "units.json"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs; there while the run is unfinished."""
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """Weights of a network; there when the run is finished."""
        return self.path / "model.safetensors"

    @property
    def ngrams(self) -> Path:
        """The same of ``kind: ngram``: a packed model."""
        return self.path / "model.kdlm"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: losses and dev measurements by step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Provenance and final measurements, JSON."""
        return self.path / "run.json"

    @property
    def finished(self) -> bool:
        """Whether there is all that ``open_text_model`` needs."""
        trained = self.weights.is_file() or self.ngrams.is_file()
        return trained and self.summary.is_file() and self.units.is_file()
