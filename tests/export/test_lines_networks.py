"""CRNN, attention and conventional teachers for images of text lines, converted and proven."""

from __future__ import annotations

import onnx
import pytest

from kdcompress_export.from_run import source_from_run
from tests.export.task_runs import lines_run

SMALL = {"width": 16, "depth": 1, "kernel": 5, "heads": 2}
NETWORKS = {
    "crnn": {"kind": "full_context", "encoder": {**SMALL, "channels": [4, 6], "block": "recurrent"}},
    "both": {"kind": "full_context", "subsampling_factor": 2, "encoder": {**SMALL, "block": "both"}},
    "attention": {"kind": "conventional", "encoder": {**SMALL, "channels": [4, 6, 8], "block": "attention"}},
    "vgg": {"kind": "vgg", "channels": [4, 6], "width": 16, "depth": 1, "kernel": 5},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_proven_equal(tmp_path, name):
    run = lines_run(tmp_path, NETWORKS[name], channels=3 if name in {"vgg", "both"} else 1)
    found = source_from_run(run)
    assert found.parity["max_abs_diff"] < 1e-4
    assert {"batch 1, 1 columns", "batch 4, 3 columns", "image 1"} <= found.parity["cases"].keys()
    kinds = {node.op_type for node in onnx.load_from_string(found.content).graph.node}
    assert not kinds & {"Less", "Where", "Not"}, "masks of training are gone"
