"""What travels inside each ONNX file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.bundle import InputSpec

if TYPE_CHECKING:
    from kdcompress_runtime.bundle import BundleMetadata

METADATA_KEY = "kdcompress"
"""Key in ``metadata_props`` under which the geometry stands as JSON."""
_FIELDS = (
    "name",
    "task",
    "streaming",
    "frame_shift_ms",
    "subsampling_factor",
    "lookahead_frames",
    "chunk_frames",
    "blank_id",
)


def geometry(metadata: BundleMetadata, precision: str) -> dict[str, Any]:
    """JSON object with everything needed to feed a file without its ``bundle.json``, and its precision."""
    states = [asdict(state) for state in metadata.states]
    fields = {name: getattr(metadata, name) for name in _FIELDS}
    return {**fields, "precision": precision, "input": asdict(metadata.input), "states": states}


def is_geometry(embedded: str, metadata: BundleMetadata, precision: str) -> bool:
    """Whether JSON found under ``METADATA_KEY`` describes this bundle; fields it does not name have their defaults."""
    try:
        found = json.loads(embedded)
        found = {"streaming": True, **found, "input": asdict(InputSpec(**found["input"]))}
    except (ValueError, KeyError, TypeError):
        return False
    return bool(found == json.loads(json.dumps(geometry(metadata, precision))))
