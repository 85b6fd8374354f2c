"""What every road into the exporter ends in: a float32 graph under the bundle's contract, equal to its origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdcompress_export.inputs import inputs_for
from kdcompress_export.prove import FLOAT
from kdcompress_runtime.bundle import TOKENS_FILE
from kdcompress_runtime.input_kinds import SOURCE_TOKENS_FILE
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_export.inputs import Inputs
    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.source_text import SourceTable
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Source:
    """A model before it is quantized, retargeted and written. Nothing that comes later asks where it came from."""

    content: bytes
    """The float32 graph, as ``docs/bundle.md`` describes it: raw input in, log-probabilities out."""
    metadata: BundleMetadata
    """Without ``models``, ``files``, ``measured`` and ``provenance``."""
    vocabulary: Vocabulary
    """Tokens, blank included."""
    parity: dict[str, Any]
    """JSON object: how the graph was compared with its origin, and how far it differs."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """JSON object: recipe, teachers, data, versions."""
    calibration: Path | None = None
    """Manifest whose inputs set int8 ranges; none: schemes that need it are left out."""
    dev: Path | None = None
    """Manifest on which error rates are proven; disjoint from ``calibration``."""
    quantizable: bytes | None = None
    """The same graph in the form that quantizers read, where ``content`` was rewritten for speed in float32."""

    source_table: SourceTable | None = None
    """How sentences become ids, where inputs are sentences."""

    @property
    def inputs(self) -> Inputs:
        """What the model is fed."""
        return inputs_for(self.metadata.input, self.source_table)

    @property
    def files(self) -> dict[str, bytes]:
        """Files of the bundle besides its models."""
        table = self.source_table
        tokens = {TOKENS_FILE: self.vocabulary.dumps().encode()}
        return tokens if table is None else {**tokens, SOURCE_TOKENS_FILE: table.dumps().encode()}

    @property
    def plain(self) -> bytes:
        """The graph that quantizers read."""
        return self.content if self.quantizable is None else self.quantizable

    def load(self, content: bytes | None = None, precision: str = FLOAT) -> CtcModel:
        """Load the float32 graph, or another one of the same geometry, as an app would.

        Raises:
            ModelError: onnxruntime refuses it, or its inputs and outputs are not what ``metadata`` says.
        """
        return CtcModel(
            content or self.content,
            self.metadata,
            self.vocabulary,
            source=precision,
            source_table=self.source_table,
        )
