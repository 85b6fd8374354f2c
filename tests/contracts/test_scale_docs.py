"""``docs/scale.md``: its commands run as they stand there, its settings and benchmarks are real."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdcompress.cli import main
from kdcompress.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands(first: str) -> list[list[str]]:
    lines = "".join(blocks("bash")).splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words and words[0] == first]


@pytest.fixture(scope="module")
def place(folder, run, tmp_path_factory):
    """A folder with ``recipe.yaml``, ``teacher`` and ``train.jsonl``."""
    path = tmp_path_factory.mktemp("scale") / "place"
    shutil.copytree(folder, path)
    shutil.copy(path / "student.yaml", path / "recipe.yaml")
    shutil.copytree(run, path / "teacher")
    return path


def test_the_commands_run_one_after_the_other(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    for words in commands("kdcompress"):
        assert main(words[1:]) == 0, (words, capsys.readouterr().err)
    assert (place / "student" / "run.json").is_file()
    assert json.loads((place / "labels" / "index.json").read_text(encoding="utf-8"))["kind"] == "kdcompress-labels"


def test_the_settings_are_settings(folder):
    tree = json.loads((folder / "student.yaml").read_text(encoding="utf-8"))
    for block in blocks("yaml"):
        for section, settings in yaml.safe_load(block).items():
            recipe = load_recipe(
                folder / "student.yaml",
                [f"{section}={json.dumps({**tree[section], **settings})}"],
            )
            found = getattr(recipe, section).model_dump()
            assert {key: found[key] for key in settings} == settings


def test_the_benchmarks_are_there():
    named = set(re.findall(r"benchmarks/\w+\.py", PAGE))
    assert named
    assert all((ROOT / file).is_file() for file in named)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes(place, tmp_path):
    path = tmp_path / "place"
    shutil.copytree(place, path)
    for output in ("labels", "student", "packed"):
        shutil.rmtree(path / output, ignore_errors=True)
    for words in commands("torchrun"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1:]]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (path / "student" / "run.json").is_file()
