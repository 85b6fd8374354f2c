"""Every command and line of code in docs/labels.md runs as it stands there, and its tables say what the code does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import TypeAdapter

from kdcompress.cli import main
from kdcompress.labels.estimate import SAMPLE_ITEMS
from kdcompress.labels.job import SHARD_ITEMS
from kdcompress.labels.kinds import label_kind
from kdcompress.labels.label import FIT_ITEMS
from kdcompress.labels.settings import AnyLabels, CodebookLabels, NbestLabels, TopKLabels

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(folder, tmp_path_factory):
    """A folder with what the page names: a recipe and a teacher."""
    place = tmp_path_factory.mktemp("labels-page")
    assert main(["train", str(folder / "twin.yaml"), "-o", str(place / "teacher")]) == 0
    shutil.copy(folder / "taught.yaml", place / "recipe.yaml")
    return place


def test_the_commands_of_the_page_then_its_code(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    ran = 0
    for line in (line for block in blocks("bash") for line in block.splitlines()):
        words = shlex.split(line)
        if words[0] == "kdcompress":
            assert main(words[1:]) == 0, f"{line}: {capsys.readouterr()}"
            assert capsys.readouterr().out.strip(), line
            ran += 1
    assert ran == 7
    for code in blocks("python"):
        exec(compile(code, "labels.md", "exec", dont_inherit=True), {})
    assert "'ids': (" in capsys.readouterr().out
    assert json.loads((place / "labels" / "index.json").read_text(encoding="utf-8"))["labels"]["kind"] == "top_k"


@pytest.mark.slow
def test_the_torchrun_line_of_the_page(place):
    (line,) = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("torchrun")]
    words = shlex.split(line)[1:]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run([*launcher, *words], cwd=place, check=True, capture_output=True)
    assert (place / words[-1] / "index.json").is_file()


def test_the_numbers_of_the_page_are_those_of_the_code():
    (recipe,) = blocks("yaml")
    assert TypeAdapter(AnyLabels).validate_python(yaml.safe_load(recipe)["label"]) == TopKLabels()
    listed = re.findall(
        r"^\| `(\w+)`", PAGE[PAGE.index("## Kinds") : PAGE.index("- `top_k` keeps")], flags=re.MULTILINE
    )
    kinds = {"full", "top_k", "occupancy", "codebook", "nbest"}
    assert set(listed) == kinds
    movable = dict(re.findall(r"^\| `(\w+)`.*\| (yes|no) \|$", PAGE, flags=re.MULTILINE))
    for name in kinds:
        kind = label_kind(TypeAdapter(AnyLabels).validate_python({"kind": name}), 500, torch.zeros(8, 64, 1))
        assert movable[name] == ("yes" if kind.time_may_move else "no")
    code, texts = CodebookLabels(kind="codebook"), NbestLabels(kind="nbest")
    assert f"`codebooks: {code.codebooks}`, `entries: {code.entries}`, `teacher_layer: {code.teacher_layer}`" in PAGE
    assert f"`size: {texts.size}`, `beam_width: {texts.beam_width}`" in PAGE
    assert f"entries of the manifest, {SHARD_ITEMS} unless told" in PAGE
    assert f"fitted to {FIT_ITEMS} items" in PAGE
    assert SAMPLE_ITEMS < 10  # "a few"


def test_what_the_page_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
