"""Bad sentence pairs, through `kdcompress train`: a clear sentence each, and nothing is lost in silence."""

from __future__ import annotations

import json

import pytest
import yaml

from kdcompress.cli import main
from tests.core.translation.conftest import PAIRS, write_pairs

LONG = "den röda bilen " * 9
GOOD = [{"source": source, "target": target} for source, target in PAIRS[:12]]


@pytest.fixture
def train(recipe_of, tmp_path, capsys):
    """``train(rows, "key=value")``: exit code, and what was said on standard error."""

    def run(rows, *settings):
        manifest = tmp_path / "t.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        path = tmp_path / "r.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(recipe_of().dumps())), encoding="utf-8")
        words = [word for setting in (f"data.train={manifest}", *settings) for word in ("--set", setting)]
        code = main(["train", str(path), "-o", str(tmp_path / "run"), *words])
        return code, " ".join(capsys.readouterr().err.split())

    return run


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"target": "Nej."}, "line 13: no input; the line needs one of audio_filepath"),
        ({"source": "", "target": "Nej."}, "line 13: no input"),
        ({"source": " \t ", "target": "Nej."}, "the source is empty; leave it out"),
        ({"source": "No."}, "line 13: no reference"),
        ({"image_filepath": "a.png", "text": "Nej."}, "is image, and the task of the recipe takes text"),
        ({"source": "No.", "target": LONG}, "; raise frontend.upsampling, or set data.on_unusable to skip"),
        ({"source": "fish " * 10_000, "target": "fisk"}, "10000.0 tokens is longer than data.max_duration 200.0"),
        ({"source": "x" * 10_000, "target": "fisk"}, "10000.0 tokens is longer than data.max_duration 200.0"),
    ],
)
def test_a_bad_pair_is_named(train, row, message):
    code, said = train([*GOOD, row], "data.dev=null")
    assert code == 1
    assert said.startswith("error: ")
    assert message in said


def test_what_does_not_fit_can_be_left_out(train, tmp_path):
    bad = [{"source": "No.", "target": LONG}, {"source": "fish " * 10_000, "target": "fisk"}]
    code, said = train([*GOOD, *bad], "data.on_unusable=skip", "data.dev=null")
    assert code == 0
    assert "left out 2 of 14 items that are too long or do not fit" in said


def test_a_limit_beyond_what_can_be_read_is_no_way_around(train):
    code, said = train([*GOOD, {"source": "fish " * 2000, "target": "fisk"}], "data.max_duration=5000")
    assert code == 1
    assert "2000 tokens are no sentence (at most 1000); cut the text up" in said


def test_unknown_characters_of_dev_are_counted(train, tmp_path):
    strange = [("I see a ж house.", "Jag ser ett hus."), ("Ђ Ω ж", "fisk")]
    dev = write_pairs(tmp_path / "dev.jsonl", [*strange, PAIRS[0]])
    code, said = train(GOOD, f"data.dev={dev}")
    assert code == 0
    assert "dev.jsonl: 2 sources hold characters that the table of source tokens does not know" in said
    assert "read as <unk>: 'ж'" in said


def test_seconds_of_a_line_are_no_tokens(train):
    code, _ = train([{**row, "duration": 0.01} for row in GOOD], "data.dev=null")
    assert code == 0
