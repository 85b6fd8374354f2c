"""docs/units.md: its code runs, its commands run, its tables name what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import typer
from typer.testing import CliRunner

from kdcompress.commands.preparing_phones import register
from kdcompress.units.opening import KINDS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "units.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_code_runs():
    names: dict[str, object] = {}
    for code in blocks("python"):
        exec(compile(code, "docs/units.md", "exec", dont_inherit=True), names)
    assert "spelled" in names


def test_every_kind_is_described():
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Phones")[0], flags=re.MULTILINE)) == KINDS


def test_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lexicon.txt").write_text("CAT K AE1 T\nSAT S AE1 T\nTHE DH AH0\nMAT M AE1 T\n")
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    for line in lines:
        text = "the cat sat" if "none" in line else "the cats"
        Path("train.jsonl").write_text(json.dumps({"audio_filepath": "a.wav", "text": text + " cat"}))
        command = shlex.split(line)
        assert command[:2] == ["kdcompress", "prepare"]
        done = CliRunner().invoke(app, command[2:])
        assert done.exit_code == 0, done.exception
        assert Path(command[command.index("-o") + 1]).is_file()
    assert Path("guesses.txt").read_text().startswith("cats\t")


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file()
