"""Every command in docs/prepare.md runs as it stands there, against tiny corpora; its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kdcompress.cli import main
from kdcompress.data.corpora.adapters import CORPORA
from kdcompress.data.corpora.texts import TEXT_RULES
from kdcompress_runtime.manifest import read_manifest
from tests.core.corpora import trees

PAGE = (Path(__file__).parents[2] / "docs" / "prepare.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus under every name that the page uses."""
    place = tmp_path_factory.mktemp("prepare-page")
    trees.librispeech(place / "LibriSpeech")
    trees.an4(place / "an4")
    trees.speechocean762(place / "speechocean762")
    trees.common_voice(place / "cv-corpus" / "en")
    trees.kaldi(place / "data" / "train", speakers=6)
    trees.kaldi_segments(place / "long")
    trees.nemo(place / "manifests")
    trees.lhotse(place / "cuts")
    trees.folder(place / "recordings")
    return place


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_page(place, monkeypatch, capsys, line):
    monkeypatch.chdir(place)
    words = shlex.split(line)
    assert words[:2] == ["kdcompress", "prepare"]
    assert main(words[1:]) == 0, capsys.readouterr().err
    output = place / words[words.index("-o") + 1]
    manifests = [path for path in output.glob("*.jsonl") if path.stem != "unusable"]
    assert manifests
    assert all(list(read_manifest(path)) for path in manifests)
    assert (output / "report.json").is_file()


def test_every_corpus_has_its_command_and_its_layout():
    assert {line.split()[2] for line in LINES} == set(CORPORA)
    assert re.findall(r"^\| `([a-z][a-z0-9-]+)` \|", PAGE, flags=re.MULTILINE) == list(CORPORA)
    assert re.findall(r"^\| `--text (\w+)` \|", PAGE, flags=re.MULTILINE) == list(TEXT_RULES)
