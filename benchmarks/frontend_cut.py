"""The frontend of a bundle's graph as a graph of its own, so that it can be timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx.shape_inference import infer_shapes
from onnx.utils import Extractor

from kdcompress_export.graphs import FEATURE_NORM_MARK

if TYPE_CHECKING:
    from kdcompress_runtime import BundleMetadata


def frontend_graph(content: bytes, metadata: BundleMetadata) -> bytes:
    """Cut out what comes before the statistics of features: from samples and the frontend's states to features."""
    model = onnx.load_from_string(content)
    end = next(node.input[0] for node in model.graph.node if any(FEATURE_NORM_MARK in name for name in node.input))
    states = [state.name for state in metadata.states if state.name.startswith("frontend")]
    part = Extractor(infer_shapes(model)).extract_model([metadata.input.name, *states], [end])
    return bytes(part.SerializeToString())
