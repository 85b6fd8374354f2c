"""Every line of code and every command in docs/images-and-text.md runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from PIL import Image

from kdcompress.cli import main
from tests.runtime.small_bundles import image_bundle, line, text_bundle

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "images-and-text.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image_bundle(Path("lines"))
    text_bundle(Path("pairs"))
    Image.fromarray(line("ab c", width=16, height=24)).save("receipt.png")
    Path("sentences.txt").write_text("ab\nc d\n", encoding="utf-8")
    namespace: dict = {}
    for code in blocks("python"):
        exec(compile(code, "images-and-text.md", "exec", dont_inherit=True), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "ab c"
    assert namespace["texts"] == ["ab c"] * 2
    assert len(namespace["translations"]) == 3
    for command in "".join(blocks("bash")).splitlines():
        words = shlex.split(command)
        assert words[0] == "kdcompress"
        assert main(words[1:]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.strip()


def test_the_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (DOCS / link).is_file()
