"""What travels inside each ONNX file."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcompress_runtime.bundle import BundleMetadata

METADATA_KEY = "kdcompress"
"""Key in ``metadata_props`` under which the geometry stands as JSON."""
_FIELDS = ("name", "task", "frame_shift_ms", "subsampling_factor", "lookahead_frames", "chunk_frames", "blank_id")


def geometry(metadata: BundleMetadata, precision: str) -> dict[str, Any]:
    """JSON object with everything needed to feed a file without its ``bundle.json``, and its precision."""
    states = [asdict(state) for state in metadata.states]
    fields = {name: getattr(metadata, name) for name in _FIELDS}
    return {**fields, "precision": precision, "input": asdict(metadata.input), "states": states}
