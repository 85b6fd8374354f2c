"""``kdcompress align`` as it is typed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from kdcompress.aligning.aligned import read_alignments, read_header
from kdcompress.commands.aligning import app
from kdcompress.distill import fit
from kdcompress.errors import AlignmentError
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import read_manifest


def said(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_align_compare_and_grids(runs, corpus, tmp_path):
    told = said(runs["student"], corpus["dev"], "-o", tmp_path / "a", "--text-grid", "--no-trim", "--before", 0.1)
    assert "alignment.jsonl: 4 items, " in told
    assert "nats a frame; TextGrids in" in told
    assert len(list((tmp_path / "a" / "text_grids").glob("*.TextGrid"))) == 4
    options = read_header(tmp_path / "a" / "alignment.jsonl").source["options"]
    assert (options["trim"], options["before"], options["after"]) == (False, 0.1, 0.05)
    found = json.loads(said(runs["conventional"], corpus["dev"], "-o", tmp_path / "b", "--json").splitlines()[-1])
    assert (found["items"], found["skipped"], found["text_grids"]) == (4, [], None)
    files = [tmp_path / name / "alignment.jsonl" for name in "ab"]
    assert "6 words of 4 items" in said("--compare", *files)
    compared = json.loads(said("--compare", *files, "--json"))
    assert (compared["words"], compared["starts"]["boundaries"]) == (6, 6)


def test_phones_and_their_words(make_recipe, corpus, tmp_path):
    """Texts of phones: the words come from a lexicon."""
    for split, path in corpus.items():
        rows = []
        for entry in read_manifest(path):
            letters = " ".join(entry.text.replace(" ", ""))
            row = {"audio_filepath": entry.input, "duration": entry.duration, "text": letters, "words": entry.text}
            rows.append(json.dumps({**row, "id": entry.id}))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    words = {word for path in corpus.values() for entry in read_manifest(path) for word in entry.text.split()}
    (tmp_path / "lexicon.txt").write_text("".join(f"{word.upper()} {' '.join(word)}\n" for word in sorted(words)))
    data = [f"data.{split}={tmp_path / split}.jsonl" for split in corpus]
    fit(make_recipe("student", "data.units=words", *data, steps=2), tmp_path / "run")
    with pytest.raises(AlignmentError, match="give the --lexicon"):
        said(tmp_path / "run", tmp_path / "dev.jsonl", "-o", tmp_path / "out")
    lexicon = ["--lexicon", tmp_path / "lexicon.txt"]
    said(tmp_path / "run", tmp_path / "dev.jsonl", "-o", tmp_path / "out", *lexicon)
    first = next(iter(read_alignments(tmp_path / "out" / "alignment.jsonl")))
    assert (first.kind, first.words) == ("phones", ("ab", "c"))
    assert [(segment.unit, segment.word) for segment in first.segments] == [("a", 0), ("b", 0), ("c", 1)]


def test_wrong_usage(runs, corpus, tmp_path):
    found = CliRunner().invoke(app, [str(runs["student"]), str(corpus["dev"])])
    assert found.exit_code == 2
    assert "give RUN, MANIFEST and --output FOLDER" in " ".join(found.output.replace("│", " ").split())
    with pytest.raises(OptionsError, match="blank_penalty must be 0 or more"):
        said(runs["student"], corpus["dev"], "-o", tmp_path, "--blank-penalty", -1)
    with pytest.raises(OptionsError, match="on_unusable is error or skip"):
        said(runs["student"], corpus["dev"], "-o", tmp_path, "--on-unusable", "maybe")
    with pytest.raises(AlignmentError, match="alignment not found"):
        said("--compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
