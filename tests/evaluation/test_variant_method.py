"""From whom a variant learned, in the words of its provenance."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kdcompress_evaluation.variants import VariantInfo

ORACLE, BIG = {"name": "oracle", "kind": "oracle"}, {"name": "big", "kind": "conventional"}


@pytest.mark.parametrize(
    ("provenance", "method"),
    [
        ({"recipe": "r", "teachers": ["runs/o"], "run": {"teachers": [ORACLE]}}, "from oracle (oracle)"),
        ({"recipe": "r", "run": {"teachers": [ORACLE, BIG]}}, "from oracle (oracle) and big (conventional)"),
        ({"recipe": "r", "teachers": ["runs/one", "runs/two"], "run": {}}, "from one and two"),
        ({"recipe": "r", "teachers": [], "run": {"name": "r"}}, "labels only"),
        ({"recipe": "r", "teacher": "runs/o", "run": {"teacher": ORACLE}}, "from oracle (oracle)"),
        ({"recipe": "r", "teacher": "runs/o"}, "from o"),
        ({"recipe": "r", "teacher": None, "run": {}}, "labels only"),
        ({"recipe": "r", "run": {"losses": ["ctc"]}}, "labels only"),
        ({"recipe": "r", "run": {"losses": ["ctc", "in_place"]}}, "labels, with in_place"),
        ({"recipe": "r", "run": {"losses": ["inter_ctc", "ctc", "cr_ctc"]}}, "labels, with inter_ctc and cr_ctc"),
        (
            {"recipe": "r", "run": {"teachers": [BIG], "losses": ["ctc", "frame_kl"]}},
            "from big (conventional), by frame_kl",
        ),
        ({"recipe": "r", "run": {"teachers": [BIG], "losses": ["ctc"]}}, "from big (conventional)"),
        ({"recipe": "r", "run": {"teachers": [BIG], "losses": ["a", "b", "c"]}}, "from big (conventional)"),
        (
            {"recipe": "r", "teachers": ["runs/o"], "run": {"losses": ["ctc", "skd", "nbest"]}},
            "from o, by skd and nbest",
        ),
        ({"recipe": "r", "run": {"losses": "odd"}}, "labels only"),
        ({"losses": ["in_place"]}, "not stated"),
        ({"method": "fused", "run": {"teachers": [ORACLE]}}, "fused"),
        ({}, "not stated"),
        ({"run": {"teachers": ["odd", 3]}, "teachers": "odd"}, "not stated"),
    ],
)
def test_a_variant_says_from_whom_it_learned(provenance: dict[str, Any], method: str) -> None:
    """Also one of the first version, whose bundles name one ``teacher``."""
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(VariantInfo))
    assert VariantInfo(**{**nothing, "provenance": provenance}).method == method
