"""Bundles and manifests of three tasks, small enough to be made for each test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from PIL import Image

from tests.evaluation.conftest import write_bundle, write_manifest
from tests.runtime.small_bundles import image_bundle, line, text_bundle

if TYPE_CHECKING:
    from pathlib import Path

LINES = (("abc", "abc"), ("fade", "fade"), ("FADE cab", "fade cab"), ("bed 1", "bed"), ("a b", "a c"), ("bead", "bead"))
"""Reference, and what the image says."""
SENTENCES = (("a b", "f fa"), ("abc", "b"), ("ab cab", "x ab"), ("ba", "e d"))
"""Source and reference."""


class Tasks(NamedTuple):
    """What a report of three tasks is made of."""

    speech: Path
    lines: Path
    pairs: Path
    manifests: dict[str, Path]


def write_lines(folder: Path, texts: tuple[tuple[str, str], ...] = LINES) -> Path:
    """A manifest of images, every fourth one four times as high."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (reference, said) in enumerate(texts):
        file = f"line{number}.png"
        height = 8 if number % 4 else 32
        Image.fromarray(line(said, width=height, height=height)).save(folder / file)
        rows.append(json.dumps({"image_filepath": file, "text": reference, "id": f"line{number}"}))
    path = folder / "lines.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def write_pairs(folder: Path, pairs: tuple[tuple[str, str], ...] = SENTENCES) -> Path:
    """A manifest of sentence pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"source": s, "target": t, "id": f"pair{number}"}) for number, (s, t) in enumerate(pairs)]
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    manifests = {
        "spoken": write_manifest(tmp_path / "data", "spoken", [("ab cd", "ab cd"), ("dad", "dab")]),
        "lines": write_lines(tmp_path / "data"),
        "pairs": write_pairs(tmp_path / "data"),
    }
    return Tasks(
        write_bundle(tmp_path / "letters", "letters"),
        image_bundle(tmp_path / "reader", name="reader"),
        text_bundle(tmp_path / "translator", name="translator"),
        manifests,
    )
