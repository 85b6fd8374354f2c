"""What a path may hold, told apart by its content; everything else is refused with the list."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kdcompress.errors import LabelStoreError, RunError, TeacherError
from kdcompress.teachers.foreign import guess_units
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.run_teacher import RunTeacher
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_are_opened(runs: dict[str, Path]) -> None:
    for kind, path in runs.items():
        teacher = open_teacher(path)
        assert isinstance(teacher, RunTeacher)
        assert teacher.info.kind == teacher.run.recipe.model.kind, kind


def test_an_unfinished_run_is_named_as_one(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes((runs["student"] / "recipe.yaml").read_bytes())
    (tmp_path / "checkpoint.safetensors").touch()
    with pytest.raises(RunError, match="unfinished"):
        open_teacher(tmp_path)


def test_a_store_is_told_by_its_index(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"kind": "kdcompress-labels"}), encoding="utf-8")
    with pytest.raises(LabelStoreError):  # there is nothing else in it
        open_teacher(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "empty", "notes.txt", "other.json"])
def test_what_holds_no_teacher_is_told_what_would(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    elif name != "nowhere":
        path.write_text("{}", encoding="utf-8")
    accepted = r"give a finished run, a bundle .*Hugging Face \*ForCTC folder, an \.onnx file, or a \.py file"
    with pytest.raises(TeacherError, match=accepted):
        open_teacher(path)


def test_a_folder_with_one_model_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(TeacherError, match=r"did you mean .*model\.onnx\?"):
        open_teacher(tmp_path)


@pytest.mark.parametrize(
    ("symbols", "units"),
    [
        (("<unk>", "▁", "a", "'"), "characters"),
        (("▁one", "▁two", "<unk>"), "words"),
        (("▁", "▁a", "b", "ing"), "subwords"),
        (("▁a", "b"), "subwords"),
    ],
)
def test_units_are_told_by_the_spelling(symbols: tuple[str, ...], units: str) -> None:
    assert guess_units(Vocabulary.from_symbols(symbols)) == units
