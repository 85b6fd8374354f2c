"""docs/teachers.md: its code runs as it stands there, and what it names exists."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
import yaml

from kdcompress.recipe import DistillConfig
from kdcompress.teachers.hf_folder import EARS
from kdcompress.teachers.onnx_settings import OnnxSettings, read_settings
from kdcompress.teachers.opening import open_teacher
from tests.core.teachers.given import answers, noise

PAGE = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of the page, with the weights that it loads."""
    (code,) = blocks("python")
    file = tmp_path / "my_teacher.py"
    file.write_text(code, encoding="utf-8")
    torch.manual_seed(6)
    torch.save(runpy.run_path(str(file))["Energies"]().state_dict(), tmp_path / "weights.pt")
    return file


def test_the_file_of_the_page_teaches(file: Path) -> None:
    teacher = open_teacher(file)
    assert teacher.info.vocabulary.symbols == ("<blk>", "▁", "a", "b", "c")
    items = [noise(0.5, 16000, 1), noise(0.3, 16000, 2)]
    together = answers(teacher, items)
    assert [len(found) for found in together] == [25, 15]
    torch.testing.assert_close(together[1], answers(teacher, items[1:])[0])


def test_the_settings_of_the_page_are_known(tmp_path: Path) -> None:
    recipe, beside = blocks("yaml")
    assert len(DistillConfig.model_validate(yaml.safe_load(recipe)["distill"]).teachers) == 4
    (tmp_path / "teacher.yaml").write_text(beside, encoding="utf-8")
    assert read_settings(tmp_path / "model.onnx").blank == "<pad>"
    listed = PAGE[PAGE.index("Fields are `name`") : PAGE.index("those of `kdcompress export --onnx")]
    assert set(OnnxSettings.model_fields) <= set(re.findall(r"`([a-z_]+)`", listed))


def test_extractors_that_the_page_names_are_those_that_are_known() -> None:
    assert set(re.findall(r"`(\w+FeatureExtractor)`", PAGE)) == set(EARS)
