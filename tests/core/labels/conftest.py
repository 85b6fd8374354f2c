"""A teacher that needs no training, and stores of what it says."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress.labels.label import label

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.recipe import Recipe

LOUD = '''
"""Hears 40 ms at a time through fixed random weights; TEACHER_SECONDS makes it slow."""

import os
import time
from fractions import Fraction
from pathlib import Path

import torch

from kdcompress.teachers.teacher import Said, Teacher, TeacherInfo, chosen, repeated
from kdcompress_runtime.vocabulary import Vocabulary

FRAME, SYMBOLS, SEED = 320, "abc▁", 1


class Loud(Teacher):
    def __init__(self):
        generator = torch.Generator().manual_seed(SEED)
        self.inner = torch.randn(FRAME, 6, generator=generator)
        self.outer = torch.randn(6, len(SYMBOLS) + 1, generator=generator)
        self.info = TeacherInfo(
            source=Path("loud"), name="loud", kind="python", fingerprint=f"{SEED:064d}",
            vocabulary=Vocabulary.from_symbols(SYMBOLS), units="characters", frame=Fraction(FRAME, 8000),
            sample_rate=8000, gives=frozenset({"log_probs", "hidden"}), hidden_dims=(6,),
        )

    def answer(self, heard, items=None):
        time.sleep(float(os.environ.get("TEACHER_SECONDS", "0")))
        batch = heard.at_rate(8000)
        lens = -(-batch.input_lens // FRAME)
        inputs = torch.nn.functional.pad(batch.inputs, (0, -batch.inputs.shape[1] % FRAME))
        hidden = torch.tanh(inputs.view(len(lens), -1, FRAME) @ self.inner)
        said = Said(lens, (2 * hidden @ self.outer).log_softmax(dim=2), (hidden,))
        return chosen(repeated(said, heard.views), items)


def teacher():
    return Loud()
'''


@pytest.fixture(scope="session")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a teacher of five tokens and frames of 40 ms."""
    path = tmp_path_factory.mktemp("loud") / "loud.py"
    path.write_text(LOUD, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def labelling(make_recipe: Any, loud: Path) -> Callable[..., Recipe]:
    """``labelling("top_k", top_k=3)``: a recipe that labels the tones; further arguments are overrides."""

    def make(kind: str = "top_k", *overrides: str, teacher: Path = loud, **settings: Any) -> Recipe:
        losses = {"codebook": "codebook", "nbest": "nbest", "occupancy": "occupancy"}.get(kind, "frame_kl")
        chosen = [f"label={json.dumps({'kind': kind, **settings})}", f"losses={json.dumps([{'kind': losses}])}"]
        return make_recipe("student", f"distill.teachers={json.dumps([str(teacher)])}", *chosen, *overrides)

    return make


@pytest.fixture(scope="session")
def kept(labelling: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the two most probable tokens of 12 items in 4 files; to be read only."""
    store = tmp_path_factory.mktemp("kept") / "store"
    label(labelling(top_k=2), store, shard_items=3)
    return store


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(kept, tmp_path / "store")


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def content_of() -> Callable[[Path], dict[str, bytes]]:
    """``content_of(store)``: every file of it, by name."""
    return contents
