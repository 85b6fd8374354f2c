"""Every command and every line of code in the pages on text lines and on translation runs, with few updates."""

from __future__ import annotations

import importlib
import re
import shlex
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from kdcompress.cli import main
from kdcompress.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("scene-text", "translation")}
BASES = {"scene-text": "lines-labels", "translation": "pairs-from-sequences"}
FAST = ["--set", "train.steps=2", "--set", "train.batch_size=4"]
MORE = {"train": FAST, "distill": FAST, "eval": ["--paced", "0"]}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    joined = [(page, block.replace("\\\n", " ")) for page in PAGES for block in blocks(page, "bash")]
    return [(page, shlex.split(line, comments=True)) for page, block in joined for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, benchmark_script):
    """The samples, a list of labelled images, and a translator that has learned nothing."""
    folder = tmp_path_factory.mktemp("task-pages")
    (folder / "data").mkdir()
    for name in ("lines", "pairs"):
        (folder / "data" / name).symlink_to(ROOT / "data" / name)
    listed = folder / "icdar2015"
    listed.mkdir()
    (listed / "a.jpg").write_bytes((ROOT / "data" / "lines" / "images" / "36.jpg").read_bytes())
    (listed / "gt.txt").write_text('a.jpg, "28813705508"\n', encoding="utf-8")
    marian = benchmark_script("marian")
    texts = [text for pair in marian.read_pairs(ROOT / "data" / "pairs" / "train.jsonl") for text in pair]
    tokenizer = marian.make_tokenizer(texts, 200)
    model = importlib.import_module("transformers").MarianMTModel(
        marian.config_of(len(tokenizer), Namespace(width=16, layers=1, dropout=0.0))
    )
    model.save_pretrained(folder / "models" / "opus-mt-en-sv")
    tokenizer.save_pretrained(folder / "models" / "opus-mt-en-sv")
    return folder


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else value[1])
def test_the_commands_run_one_after_the_other(page, words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert page in PAGES
    assert words[0] == "kdcompress"
    words = ["4" if word == "100000" else word for word in words]
    code = main([*words[1:], *MORE.get(words[1], [])])
    output = capsys.readouterr()
    assert code == 0, output.err
    assert output.out.strip() or words[1] == "transcribe"


@pytest.mark.parametrize(("page", "code"), [(page, code) for page in PAGES for code in blocks(page, "python")])
def test_the_code_runs(page, code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile(code, page, "exec", dont_inherit=True), {})


@pytest.mark.parametrize(("page", "part"), [(page, part) for page in PAGES for part in blocks(page, "yaml")])
def test_the_recipes_of_the_pages_are_some(page, part, tmp_path):
    base = yaml.safe_load((ROOT / "kdcompress" / "recipes" / f"{BASES[page]}.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(base | yaml.safe_load(part)), encoding="utf-8")
    assert load_recipe(path).task == base["task"]


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+\.md)[^)]*\)", PAGES[page]):
        assert (ROOT / "docs" / link).is_file(), link
