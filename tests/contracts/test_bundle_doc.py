"""docs/bundle.md: every field is described, and the loop written there runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kdcompress_runtime.bundle import FIELD_NAMES, FORMAT_VERSION, Bundle

DOC = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


def test_every_field_is_described():
    rows = set(re.findall(r"^\| `([a-z_]+)(?:\.[a-z_]+)?(?:\[\]\.[a-z]+)?` \|", DOC, flags=re.MULTILINE))
    assert set(FIELD_NAMES) <= rows
    assert f"version of this format: {FORMAT_VERSION}" in DOC


@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize(
    ("ids", "text"), [([1], "a"), ([1, 1, 0, 1, 2, 3, 0, 2, 2, 1], "aab ba"), ([3, 1, 0, 0, 2] * 6, "ab " * 6)]
)
def test_the_loop_streams_a_bundle(toy_bundle, ids, text, extra):
    (code,) = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)
    namespace = {}
    exec(compile(code, "docs/bundle.md", "exec", dont_inherit=True), namespace)
    unit = Bundle.open(toy_bundle).metadata.input.units_per_frame
    # ``extra`` samples short of whole frames: the last frame is padded with zeros.
    pcm = np.repeat(np.array(ids, np.float32), unit)[: len(ids) * unit - extra]
    if extra == 3:
        pcm[-1] *= unit
    elif extra:
        pcm[-3:] *= unit / 3
    assert Bundle.open(toy_bundle).metadata.lookahead_frames == 3
    assert namespace["transcribe"](toy_bundle, pcm) == text.strip()
