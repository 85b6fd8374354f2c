"""Every command and line of code in docs/runtime.md and docs/decoding.md runs as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import soundfile

from kdcompress.cli import main

DOCS = Path(__file__).parents[2] / "docs"
RATE = 8000
LINES = ["ab", "ba c", "ca", "bab", "c ab", "cac", "abc", "b a", "acb", "cab ca", "bcb ab", "cab ba"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(run, folder, speaker, tmp_path_factory):
    """A folder with what the pages name: a bundle, a recording, texts, a dev set."""
    from kdcompress_export import ExportOptions, SearchOptions, export_run

    place = tmp_path_factory.mktemp("pages")
    export_run(run, place / "bundle", ExportOptions(quantization=SearchOptions(quantize="none")))
    soundfile.write(place / "said.wav", speaker("cab ba", 77), RATE)
    for name, times in (("text.txt", 40), ("dev.txt", 1)):
        lines = [f"{line} {other}" for line in LINES for other in LINES[:times]]
        (place / name).write_text("\n".join([*LINES, *lines]) + "\n", encoding="utf-8")
    shutil.copy(folder / "dev.jsonl", place / "dev.jsonl")
    for file in folder.glob("dev*.wav"):
        shutil.copy(file, place / file.name)
    return place


def test_the_commands_of_decoding_then_its_code(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    lines = "".join(blocks("decoding.md", "bash")).splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    assert len(commands) >= 6
    for words in commands:
        assert words[0] == "kdcompress"
        more = ["--fallback"] if words[1:3] == ["lm", "estimate"] else []
        more += ["--trials", "3"] if words[1] == "tune-decoder" else []
        assert main([*words[1:], *more]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.strip()
    namespace: dict = {}
    for code in blocks("decoding.md", "python"):
        exec(compile(code, "decoding.md", "exec", dont_inherit=True), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert set(printed[1].split()) <= {"ab", "ba", "cab", "c"}


def test_the_code_of_runtime(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    namespace: dict = {}
    for code in blocks("runtime.md", "python"):
        exec(compile(code, "runtime.md", "exec", dont_inherit=True), namespace)
    text = namespace["result"].text
    printed = capsys.readouterr().out
    assert text == "cab ba"
    assert f"final {text}" in printed
    assert printed.strip().endswith(text)


@pytest.mark.parametrize("page", ["runtime.md", "decoding.md"])
def test_the_links_lead_somewhere(page):
    content = (DOCS / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", content):
        assert (DOCS / link).is_file()
    for name in re.findall(r"`((?:examples|benchmarks)/[\w./]+)`", content):
        assert (DOCS.parent / name).exists()
