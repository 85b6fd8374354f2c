"""Every command and recipe in docs/language-models.md runs as it stands there, only with few updates on few strings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from kdcompress.cli import main
from kdcompress.data.digits import prepare_digits
from kdcompress.losses import LabelInterpolationLoss, LmHeadLoss, RepresentationLoss
from kdcompress.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "language-models.md").read_text(encoding="utf-8")
FAST = {
    "train": ["--set", "train.steps=3"],
    "distill": ["--set", "train.steps=2", "--set", "train.batch_size=4"],
    "senones": ["--min-frames", "20"],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language-models-page")
    (folder / "data").mkdir()
    (folder / "data" / "fsdd").symlink_to(ROOT / "data" / "fsdd")
    return folder


@pytest.mark.parametrize("words", commands(), ids=lambda words: "-".join(words[1:3]))
def test_the_commands_run_one_after_the_other(words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert words[0] == "kdcompress"
    if words[1:3] == ["prepare", "digits"]:
        prepare_digits(Path("data/fsdd"), Path(words[words.index("-o") + 1]), strings={"train": 40, "dev": 8})
        return
    code = main([*words[1:], *FAST.get(words[1], [])])
    output = capsys.readouterr()
    assert code == 0, output.err
    assert output.out.strip()


def test_the_recipe_of_the_page_is_one(tmp_path):
    (part,) = blocks("yaml")
    whole = yaml.safe_load((ROOT / "kdcompress" / "recipes" / "digits-labels.yaml").read_text()) | yaml.safe_load(part)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(whole))
    assert [loss.key for loss in load_recipe(path).losses] == ["ctc", "phones", "characters"]


@pytest.mark.parametrize("loss", [LmHeadLoss, LabelInterpolationLoss, RepresentationLoss])
def test_the_table_names_the_settings_of_each_loss(loss):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{loss.model_fields['kind'].default}`"))
    common = {"kind", "name", "weight", "ramp", "lm", "key_dim", "quantity", "delay_frames"}
    for name in set(loss.model_fields) - common:
        assert f"`{name}" in row, name
