"""The public names of the rooms, frozen: a change of ``tests/golden/api.json`` is a change for users."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "api.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", sorted(GOLDEN))
def test_public_names_are_the_recorded_ones(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == GOLDEN[package]
    assert all(getattr(module, name) is not None for name in module.__all__)
